#pragma once

#include <optional>

#include "core/uuid.h"
#include "worker/mirror_writer.h"

namespace apikey::worker {

/**
 * How many members Redis must have at least, counted in the tables. Page by page, for no revocation shall
 * wait until millions of others have been read. What changes meanwhile does not make it untrue: more
 * withdrawals only make more members, and those that are taken back are known (MirrorWriter::removed()).
 */
class MemberCount {
  public:
    void begin(const BucketCounts& removed, TimestampTz now);
    bool running() const noexcept { return state_ == State::running; }
    bool finished() const noexcept { return state_ == State::finished; }

    /** Counts the next page. It is given up when it has taken too long. Throws StepFailed, and then the same
     * page is next again. */
    void advance();

    /** Of a finished one, which ends with it: what must be there, now that so many have been removed. */
    BucketCounts at_least(const BucketCounts& removed);

    /** Time spent on the last one, in microseconds. */
    std::int64_t spent_us() const noexcept { return spent_us_; }

  private:
    enum class State : std::uint8_t { idle, running, finished };

    State state_ = State::idle;
    TimestampTz began_at_ = 0;
    std::int64_t spent_us_ = 0;
    std::optional<core::Uuid> last_;
    BucketCounts counts_{};
    BucketCounts removed_before_{};
};

}  // namespace apikey::worker
