#include <cstring>

#include "pg/settings.h"
#include "shm/mirror.h"

namespace apikey::shm {
namespace {

/** This database's part of Area::mirrored_xids. */
std::span<std::uint64_t> xids_of(const DatabaseSlot& slot) {
    const auto most = static_cast<std::size_t>(most_xids_in_progress());
    const auto index = static_cast<std::size_t>(&slot - area()->databases.data());
    return area()->mirrored_xids.subspan(index * most, most);
}

template <std::size_t size>
void copy_text(std::array<char, size>& to, std::string_view text) {
    const std::size_t length = std::min(text.size(), size - 1);
    memcpy(to.data(), text.data(), length);
    to[length] = '\0';
}

/** Numbers of transactions around `next` that have no epoch yet: within half the circle of it. */
std::uint64_t with_epoch(TransactionId xid, FullTransactionId next) {
    const std::uint64_t full = U64FromFullTransactionId(next);
    const auto low = static_cast<std::uint32_t>(full);
    return full - (low - xid);
}

/** With the lock of the mirrors held. */
bool is_mirrored(const DatabaseSlot& slot, std::uint64_t xid) {
    const MirrorState& state = slot.mirror;
    if (xid < state.xmin) {
        return true;
    }
    if (xid >= state.xmax) {
        return false;
    }
    const auto in_progress = xids_of(slot).first(state.in_progress);
    return std::find(in_progress.begin(), in_progress.end(), xid) == in_progress.end();
}

void wake_mirror() {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return;
    }
    if (Latch* latch =
            std::atomic_ref(slot->worker(WorkerKind::mirror).latch).load(std::memory_order_relaxed)) {
        SetLatch(latch);
    }
}

bool wakes_mirror = false;

extern "C" void wake_at_commit(XactEvent event, void* /*argument*/) {
    if (!wakes_mirror) {
        return;
    }
    switch (event) {
        case XACT_EVENT_COMMIT:
            wake_mirror();
            wakes_mirror = false;
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:  // The worker looks by itself every second.
            wakes_mirror = false;
            break;
        default:
            break;
    }
}

}  // namespace

std::string_view name_of(MirrorPhase phase) {
    constexpr std::array<std::string_view, 8> names = {"off",    "connecting", "resyncing", "ready",
                                                       "unsafe", "fenced",     "foreign",   "late"};
    return names.at(static_cast<std::size_t>(phase));
}

std::string_view name_of(ResyncCause cause) {
    constexpr std::array<std::string_view, resync_causes> names = {
        "connected", "epoch", "server", "evicted", "count", "requested", "altered"};
    return names.at(static_cast<std::size_t>(cause));
}

int most_xids_in_progress() {
    return MaxBackends + max_prepared_xacts;
}

std::string mirror_namespace() {
    if (*pg::settings::redis_namespace != '\0') {
        return pg::settings::redis_namespace;
    }
    return std::to_string(GetSystemIdentifier()) + "-" + std::to_string(MyDatabaseId);
}

std::optional<MirrorState> mirror_state() {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return std::nullopt;
    }
    MirrorState copy;
    pg::call([&] {
        LWLockAcquire(area()->mirrors_lock, LW_SHARED);
        copy = slot->mirror;
        LWLockRelease(area()->mirrors_lock);
    });
    return copy;
}

MirrorPhase phase_at(const MirrorState& state, const WorkerSlot& worker, TimestampTz now) {
    constexpr std::int64_t late_us = 5 * USECS_PER_SEC;  // what readers are advised to accept
    if (worker.state != WorkerSlot::State::running) {
        return MirrorPhase::off;
    }
    const bool late = state.phase == MirrorPhase::ready && now - state.watermark_at > late_us;
    return late ? MirrorPhase::late : state.phase;
}

void set_mirror_phase(MirrorPhase phase, std::string_view problem) {
    update_mirror([&](MirrorState& state) {
        if (state.phase != phase) {
            state.phase = phase;
            state.since = GetCurrentTimestamp();
        }
        copy_text(state.problem, problem);
    });
}

void set_mirror_server(std::string_view address) {
    update_mirror([&](MirrorState& state) { copy_text(state.server, address); });
}

MirroredSnapshot active_snapshot() {
    MirroredSnapshot result;
    const Snapshot snapshot = GetActiveSnapshot();
    const FullTransactionId next = pg::call([] { return ReadNextFullTransactionId(); });
    result.xmin = with_epoch(snapshot->xmin, next);
    result.xmax = with_epoch(snapshot->xmax, next);
    result.in_progress.reserve(snapshot->xcnt);
    for (std::uint32_t i = 0; i < snapshot->xcnt; i++) {
        result.in_progress.push_back(with_epoch(snapshot->xip[i], next));
    }
    return result;
}

void advance_watermark(const MirroredSnapshot& snapshot, TimestampTz taken_at, std::int64_t redis_ms) {
    DatabaseSlot* slot = my_database();
    update_mirror([&](MirrorState& state) {
        const auto room = xids_of(*slot);
        if (snapshot.in_progress.size() > room.size()) {
            return;  // cannot be: there are not so many places for transactions
        }
        std::copy(snapshot.in_progress.begin(), snapshot.in_progress.end(), room.begin());
        state.in_progress = static_cast<std::uint32_t>(snapshot.in_progress.size());
        state.xmin = snapshot.xmin;
        state.xmax = snapshot.xmax;
        state.watermark_at = taken_at;
        state.watermark_ms = redis_ms;
    });
    pg::call([&] { ConditionVariableBroadcast(&slot->watermark_moved); });
}

void forget_watermark() {
    update_mirror([](MirrorState& state) {
        state.xmin = 0;
        state.xmax = 0;
        state.in_progress = 0;
        state.watermark_at = 0;
        state.watermark_ms = 0;
    });
}

bool wait_until_mirrored(std::uint64_t xid, std::int64_t microseconds) {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return false;
    }
    return pg::call([&] {
        const TimestampTz deadline = GetCurrentTimestamp() + microseconds;
        bool found = false;
        ConditionVariablePrepareToSleep(&slot->watermark_moved);
        for (;;) {
            LWLockAcquire(area()->mirrors_lock, LW_SHARED);
            found = is_mirrored(*slot, xid);
            LWLockRelease(area()->mirrors_lock);
            const long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
            if (found || left <= 0) {
                break;
            }
            ConditionVariableTimedSleep(&slot->watermark_moved, left, PG_WAIT_EXTENSION);
        }
        ConditionVariableCancelSleep();
        return found;
    });
}

void wake_mirror_at_commit() {
    static bool registered = false;
    // Asking for the database also makes sure that my_database() has nothing left to do in the callback.
    if (*pg::settings::redis_url == '\0' || my_database() == nullptr) {
        return;
    }
    if (!registered) {
        pg::call([] { RegisterXactCallback(wake_at_commit, nullptr); });
        registered = true;
    }
    wakes_mirror = true;
}

void request_resync() {
    update_mirror([](MirrorState& state) { state.resync_requests++; });
    wake_mirror();
}

void request_takeover() {
    update_mirror([](MirrorState& state) { state.takeover_requests++; });
    wake_mirror();
}

}  // namespace apikey::shm
