#pragma once

#include <map>
#include <string>

#include "redis/link.h"
#include "shm/meter.h"

/** Own counts of rate limits to Redis, those of the other nodes back. */
namespace apikey::worker {

class RateExchanger {
  public:
    RateExchanger(redis::Link& link, std::string name_space);

    /** A reading of Redis' clock between two of ours. */
    void note_clock(TimestampTz before, TimestampTz after, std::int64_t redis_unix_us);

    /** Every apikey.rate_sync_interval, and some counts at a time: where there are more, it is running()
     * then, and due at once. What must not wait for all of them, as revocations, comes in between. Throws
     * LinkError and Stopped. */
    void exchange_if_due();
    bool running() const noexcept { return running_; }
    TimestampTz due_at() const noexcept { return running_ ? started_at_ : due_at_; }

    /** The next exchange is of all that is remembered, not only of what has been used since the last one. */
    void send_all() noexcept {
        all_ = true;
        running_ = false;
        due_at_ = 0;
    }

  private:
    void exchange_batch(std::span<const shm::RateCell> cells);
    void note_nodes(std::int64_t others, TimestampTz now);

    redis::Link& link_;
    std::string namespace_;
    std::string field_;  ///< node:boot
    redis::Pipeline pipeline_;
    TimestampTz due_at_ = 0;
    bool all_ = true;
    bool running_ = false;
    TimestampTz started_at_ = 0;  ///< of the exchange that is running
    std::size_t position_ = 0;    ///< of it, in the table of counts
    std::int64_t best_round_trip_us_ = 0;
    TimestampTz best_at_ = 0;
    std::int64_t most_others_ = 0;  ///< of nodes that shared a window with us lately
    TimestampTz most_others_at_ = 0;
};

}  // namespace apikey::worker
