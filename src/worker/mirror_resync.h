#pragma once

#include <functional>

#include "store/mirror.h"
#include "shm/mirror.h"
#include "worker/mirror_writer.h"

/** Filling Redis anew: not ready first, complete data, ready last. */
namespace apikey::worker {

/** All that a snapshot shows as committed is in Redis, or will be once what was read with it is. */
struct Watermark {
    shm::MirroredSnapshot snapshot;
    TimestampTz taken_at = 0;
    BucketTimes times{};  ///< the clocks of Redis before the snapshot was taken
};

/** When a member may go: that long after the expiry of its tokens, in Unix seconds. */
std::int64_t score_of(TimestampTz until);
/** Does it count by now? Only what ends with a grace begins later than it is written. For all else
 * effective_at says when that was, by the clock of whatever server wrote it, which may be ahead of ours. */
bool is_due(const store::Withdrawal& withdrawal, TimestampTz now);
bool is_over(const store::Withdrawal& withdrawal, TimestampTz now);

/** The mirror was found to be another's. From then on an empty one is left to him for a while, too: he has
 * only to notice. Until a resync succeeds. */
void note_rival(shm::MirrorPhase phase);

/**
 * Sends every withdrawal that is in force, removes what this database shows as live, and notes what it does
 * not know (apikey.mirror_unknown). `take_over`: also when the mirror is another's. Throws NotOurs when it is
 * and that was not asked for, NeedsResync when somebody interferes, StepFailed, and LinkError. Redis stays
 * not ready: the caller says that it is, with the watermark returned. It takes long where there are many:
 * `meanwhile` is called again and again, for what must not wait for that.
 */
Watermark resync(redis::Link& link, MirrorWriter& writer, shm::ResyncCause cause, bool take_over,
                 const std::function<void()>& meanwhile);

}  // namespace apikey::worker
