#pragma once

#include "worker/member_count.h"
#include "worker/mirror_resync.h"
#include "worker/rate_exchange.h"

namespace apikey::worker {

/** One connection to Redis, from the first resync on until something breaks it. */
class MirrorSession {
  public:
    MirrorSession(redis::Link& link, std::string_view name_space, std::string rate_namespace);

    /** Fills Redis anew and says that it is ready. See resync(). */
    void fill(shm::ResyncCause cause, bool take_over);

    /** One turn: what has changed goes to Redis; heartbeat, clocks and counts where they are due. Returns how
     * long there is nothing to do unless somebody sets the latch, in milliseconds. Throws as resync() does.
     */
    long turn();

  private:
    void read_clocks();
    void push_changes(TimestampTz until);
    bool push_batch();
    void push_due();
    void publish();
    void restore_published();
    void heartbeat();
    void check_servers();
    void check_counts(const BucketCounts& counts);

    redis::Link& link_;
    MirrorWriter writer_;
    RateExchanger rates_;

    Oid extension_ = InvalidOid;    ///< whose tables Redis was filled from
    BucketTimes times_{};           ///< before the next snapshot
    Watermark reached_;             ///< of the last snapshot of which all is in Redis
    std::optional<Watermark> aim_;  ///< one that is being worked towards, through several batches
    std::int64_t aim_id_ = 0;       ///< no row that it shows has a higher id
    TimestampTz due_up_to_ = 0;
    TimestampTz heartbeat_at_ = 0;
    TimestampTz servers_at_ = 0;
    TimestampTz counts_at_ = 0;
    std::int64_t counts_pause_us_ = 0;        ///< counts_at_ is no further away than that
    std::vector<redis::ServerInfo> servers_;  ///< as they were when Redis was filled
    bool safe_ = true;                        ///< no server may evict
    bool caught_up_ = false;
    int too_few_ = 0;  ///< how often running Redis had fewer members than there should be
    MemberCount expected_;
    struct Traffic {
        std::uint64_t sent = 0, received = 0, reloads = 0;
    } seen_;                       ///< of the link's, that is in the metrics already
    TimestampTz restored_at_ = 0;  ///< when the log was last told of it
};

}  // namespace apikey::worker
