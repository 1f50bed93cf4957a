#pragma once

#include <ctime>

#include "pg/guard.h"

namespace apikey::pg {

/** What lies between 1970, from which Unix counts, and 2000, from which PostgreSQL does. */
inline constexpr std::int64_t unix_epoch_us =
    (std::int64_t(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

/** Microseconds since 1970. For times of the clock: near infinity it overflows, where instant() saturates. */
constexpr std::int64_t unix_us(TimestampTz timestamp) {
    return timestamp + unix_epoch_us;
}

/** One reading of the clock, for both the time of day and how long something takes: a validation is so short
 * that a second reading at its start would show. */
class ClockReading {
  public:
    explicit ClockReading(std::int64_t unix_ns) : unix_ns_(unix_ns) {}

    TimestampTz timestamp() const { return unix_ns_ / 1000 - unix_epoch_us; }
    /** Never negative, though somebody may set the clock back. */
    std::int64_t elapsed_ns() const;

  private:
    std::int64_t unix_ns_;
};

inline ClockReading read_clock() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ClockReading(std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
}

inline std::int64_t ClockReading::elapsed_ns() const {
    return std::max<std::int64_t>(0, read_clock().unix_ns_ - unix_ns_);
}

}  // namespace apikey::pg
