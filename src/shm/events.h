#pragma once

#include <array>
#include <optional>

#include "core/bounded_queue.h"
#include "core/network.h"
#include "core/uuid.h"
#include "core/verdict.h"
#include "pg/guard.h"

/**
 * What validation has to tell the audit trail. It writes no table (invariant I5): a denial goes into a ring
 * in shared memory, one for each database, and the maintenance worker writes it to apikey.audit_event, also
 * when the caller's transaction rolls back. A full ring drops, and counts what it dropped
 * (Counters::events_dropped).
 */
namespace apikey::shm {

/** How often a key was used, by code, since that was last written to the tables. */
struct UseCounts {
    core::Uuid key_id;
    std::array<std::uint32_t, core::code_count> by_code;
    TimestampTz last_used_at;  ///< of VALID; 0: none
    bool has_client;           ///< the last VALID use named an address
    core::Network last_client;
};

enum class EventKind : std::uint8_t {
    denied,  ///< somebody presented a token, or none, and was refused
    uses  ///< counts of a key that had to make room in the meter; no event of the trail, but not to be lost
};

/** Which function refused. */
enum class Operation : std::uint8_t { validate, check_token, require, refresh, revoke_token };

struct Event {
    EventKind kind;
    core::Code code;
    Operation operation;
    bool has_key;  ///< key_id and generation are set: what the token names; code says whether it has proven
                   ///< that
    bool has_client;  ///< the caller named the address of its client
    core::Uuid key_id;
    std::int32_t generation;
    TimestampTz at;
    Oid session_user;
    Oid outer_user;  ///< as pg::acting_user()
    core::Network client;
    UseCounts uses;  ///< of kind uses
};
static_assert(std::is_trivially_copyable_v<Event>);

using EventQueue = core::BoundedQueue<Event>;
static_assert(sizeof(EventQueue::Slot) == 192,
              "the description of apikey.event_entries, docs/architecture.md and docs/deployment.md say 192");

/** Into the ring of the session's database; wakes the worker when the ring is half full. Raises nothing. */
void record(const Event& event);

/** A denial that happens now, with who is asking filled in. */
void record_denial(Operation operation, core::Code code, const std::optional<core::Uuid>& key_id,
                   std::int32_t generation, const std::optional<core::Network>& client);

/** The ring of the session's database, for its one consumer, the maintenance worker; nullopt without shared
 * memory. */
std::optional<EventQueue> my_event_queue();

}  // namespace apikey::shm
