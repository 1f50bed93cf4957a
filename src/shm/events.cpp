#include "pg/owner_scope.h"
#include "shm/area.h"

namespace apikey::shm {

void record(const Event& event) {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return;
    }
    EventQueue queue = event_queue(*slot);
    if (!queue.push(event)) {
        Counters& counters = my_counters();
        count(event.kind == EventKind::uses ? counters.uses_dropped : counters.events_dropped);
        return;
    }
    // Not at each event: the worker comes by itself every second. At half, and not only at exactly half,
    // since two may pass that mark at once.
    const std::size_t waiting = queue.size();
    if (waiting >= queue.capacity() / 2 && waiting % 64 == 0) {
        if (Latch* latch = std::atomic_ref(slot->worker(WorkerKind::maintenance).latch)
                               .load(std::memory_order_relaxed)) {
            SetLatch(latch);
        }
    }
}

void record_denial(Operation operation, core::Code code, const std::optional<core::Uuid>& key_id,
                   std::int32_t generation, const std::optional<core::Network>& client) {
    Event event{};
    event.kind = EventKind::denied;
    event.code = code;
    event.operation = operation;
    event.has_key = key_id.has_value();
    if (key_id) {
        event.key_id = *key_id;
        event.generation = generation;
    }
    event.has_client = client.has_value();
    if (client) {
        event.client = *client;
    }
    event.at = GetCurrentTimestamp();
    event.session_user = GetSessionUserId();
    event.outer_user = pg::acting_user();
    record(event);
}

std::optional<EventQueue> my_event_queue() {
    DatabaseSlot* slot = my_database();
    return slot == nullptr ? std::nullopt : std::optional(event_queue(*slot));
}

}  // namespace apikey::shm
