#pragma once

#include <string>
#include <string_view>

#include "shm/area.h"

/** The mirror's state, as its worker writes it and sessions read it. */
namespace apikey::shm {

/** Most top-level transactions that can be in progress at a time: room for a snapshot's. */
int most_xids_in_progress();

/** What the names of the session's database in Redis begin with: apikey.redis_namespace, or its default. */
std::string mirror_namespace();

/** A copy of the state of the session's database; nullopt without shared memory. */
std::optional<MirrorState> mirror_state();

/** What it amounts to: a process that was stopped says `ready` for ever, and one that is gone, too. */
MirrorPhase phase_at(const MirrorState& state, const WorkerSlot& worker, TimestampTz now);

// For the mirror worker of the session's database, which has a slot.

void set_mirror_phase(MirrorPhase phase, std::string_view problem);
void set_mirror_server(std::string_view address);
/** Runs `change` on the state, under the lock: it calls nothing that could raise. */
template <typename Change>
void update_mirror(Change&& change) {
    pg::call([&] {
        LWLockAcquire(area()->mirrors_lock, LW_EXCLUSIVE);
        change(my_database()->mirror);
        LWLockRelease(area()->mirrors_lock);
    });
}

/** A snapshot, in numbers that do not wrap. */
struct MirroredSnapshot {
    std::uint64_t xmin = 0;
    std::uint64_t xmax = 0;
    std::vector<std::uint64_t> in_progress;
};
/** The active snapshot of the transaction. */
MirroredSnapshot active_snapshot();
/** Everything that the snapshot shows is in Redis. Wakes those who wait in wait_mirrored(). */
void advance_watermark(const MirroredSnapshot& snapshot, TimestampTz taken_at, std::int64_t redis_ms);

/** Redis is not known to have anything any more. */
void forget_watermark();

/** Waits until what this top-level transaction has committed is in Redis, as of the last watermark, or so
 * long; whether it is there. An aborted one counts as there. Serves interrupts. */
bool wait_until_mirrored(std::uint64_t xid, std::int64_t microseconds);

/** When the current transaction commits, the mirror worker of this database is woken. */
void wake_mirror_at_commit();

void request_resync();
void request_takeover();

}  // namespace apikey::shm
