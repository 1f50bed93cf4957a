#pragma once

#include "core/proof_table.h"
#include "core/siphash.h"
#include "pg/guard.h"
#include "shm/counters.h"
#include "shm/events.h"
#include "shm/mirror_state.h"

/**
 * The extension's piece of shared memory: requested and laid out when the library is preloaded, zeroed anew
 * after a crash of any backend. Everything in it is trivially copyable and can be lost: it is rebuilt from
 * the tables, or counts from zero.
 *
 * Locks: `databases` (LWLock) guards which database has which slot and the blocks of counters of backends
 * that have ended; `workers` (LWLock) guards WorkerSlot, MonthFailure, holders and what the header says of
 * the launcher (shm/workers.h); `mirrors` (LWLock) guards MirrorState (shm/mirror.h) and is taken with no
 * other. None is taken while a spinlock of the meter is held; workers before databases where both are.
 */
namespace apikey::shm {

/** The background workers that a database has. */
enum class WorkerKind : std::uint8_t { maintenance, mirror };
inline constexpr std::size_t worker_kinds = 2;

/** What a worker and those who start, stop and watch it have to tell each other. */
struct WorkerSlot {
    enum class State : std::uint8_t {
        absent,    ///< not started yet, or it has ended in good order
        starting,  ///< asked of the postmaster
        running,
        failed,  ///< it ended with an error, or the postmaster had no place for it; there will be another try
    };
    /** Of one that runs. */
    enum class Health : std::uint8_t {
        good,
        failing,       ///< a step of its work has failed several times in a row
        other_version  ///< it leaves the database alone, whose extension is not of the library's version
    };
    State state;
    Health health;
    pid_t pid;
    Latch* latch;              ///< of the running worker; a latch of a slot of PGPROC, so never dangling
    TimestampTz started_at;    ///< or asked for
    TimestampTz last_turn_at;  ///< when it last finished a turn of its work
    std::uint64_t starts;
    std::uint64_t failures;
    std::uint64_t failed_steps;  ///< transactions of its work that failed; they are tried again
    TimestampTz step_failed_at;  ///< the last of them; 0: none has
    std::array<char, 192> step_problem;
};

/** What the maintenance worker does to the partitions of audit_event. */
enum class MonthStep : std::uint8_t { make, drop };
inline constexpr std::size_t month_steps = 2;

struct MonthFailure {
    TimestampTz since;       ///< 0: nothing is wrong
    std::uint64_t failures;  ///< since the server started
    DateADT month;           ///< the one that was to be made
    bool has_month;
    int sqlstate;
    std::array<char, 256> message;  ///< null-terminated; of the last one
};

struct DatabaseSlot {
    RateExchange rates;  // first: it has a cache line to itself
    core::QueueState queue;
    std::array<WorkerSlot, worker_kinds> workers;
    MirrorState mirror;
    std::array<MonthFailure, month_steps> month_failures;
    Counters ended;
    ConditionVariable watermark_moved;
    Oid database;           ///< InvalidOid: free
    std::uint32_t holders;  ///< sessions whose command wants the database to itself: no worker may start

    WorkerSlot& worker(WorkerKind kind) { return workers[static_cast<std::size_t>(kind)]; }
    const WorkerSlot& worker(WorkerKind kind) const { return workers[static_cast<std::size_t>(kind)]; }
    MonthFailure& month_failure(MonthStep step) { return month_failures[static_cast<std::size_t>(step)]; }
};
static_assert(sizeof(DatabaseSlot) <= 4096, "docs/architecture.md says less than 4 kB");

/** A backend's own counters. */
struct alignas(64) BackendBlock {
    Oid database;
    Counters counters;
};
static_assert(sizeof(BackendBlock) <= 1024, "docs/architecture.md says less than 1 kB");

struct MeterCell;
struct MeterLock;

struct Header {
    core::SipHashKey token_key;
    core::SipHashKey address_key;
    TimestampTz started_at;
    std::uint64_t boot;         ///< drawn at every start: tells this run's counts in Redis from those before
    std::uint64_t proofs_kept;  ///< slots of the proof cache in use
    pid_t launcher_pid;         ///< 0: there is none
    Latch* launcher_latch;
    ConditionVariable worker_left;  ///< some worker has ended
};

/** Where everything is; the same addresses in every process. */
struct Area {
    Header* header = nullptr;
    LWLock* databases_lock = nullptr;
    LWLock* workers_lock = nullptr;
    LWLock* mirrors_lock = nullptr;
    std::span<DatabaseSlot> databases;
    std::span<EventQueue::Slot> event_slots;  ///< settings::event_entries for each database
    /** Transactions in progress in the snapshot of each database's watermark (MirrorState::in_progress). */
    std::span<std::uint64_t> mirrored_xids;
    std::span<BackendBlock> backends;
    std::span<core::ProofSlot> proofs;
    std::span<MeterCell> meter;
    std::span<MeterLock> meter_locks;
    std::span<std::uint64_t> unexchanged_sets;  ///< a bit for each set of the meter (meter_cells.h)
};

/** Chains into shmem_request_hook and shmem_startup_hook. From _PG_init, while preloading. */
void install_hooks();

/** nullptr when the library was not preloaded. */
const Area* area();

/** Throws Failure 55000 when the library was not preloaded: `what` says what needs it. */
void require_area(const char* what);

/** The slot of the session's database, claimed on first use; nullptr without shared memory, or when all
 * slots are taken (apikey.max_databases). */
DatabaseSlot* my_database();

/** The slot of a database, claimed if need be; the same nullptr. */
DatabaseSlot* database_slot(Oid database);

/** The same, but never claimed. */
DatabaseSlot* find_database_slot(Oid database);

EventQueue event_queue(DatabaseSlot& slot);

}  // namespace apikey::shm
