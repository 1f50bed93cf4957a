#pragma once

#include "core/window.h"
#include "shm/meter.h"

/** The meter's memory; for meter.cpp, and for area.cpp, which lays it out. */
namespace apikey::shm {

inline constexpr std::size_t meter_ways = 8;
/** Sets share locks by number; many more than there are processors, and together small enough for the
 * second-level cache. */
inline constexpr std::size_t meter_lock_count = 1024;

struct alignas(64) MeterCell {
    // The first cache line: who, and the window.
    Subject subject;
    Oid database;
    std::uint32_t uses_pending;  ///< by_code or last_used_at is not zero
    core::Window window;
    // The others: what has been used since it was last written to the tables.
    TimestampTz touched_at;
    TimestampTz last_used_at;
    core::Network last_client;
    bool has_client;
    bool unexchanged;  ///< the window was asked about since read_rate_cells()
    std::array<std::uint32_t, core::code_count> by_code;
};

struct alignas(64) MeterLock {
    slock_t mutex;
};

constexpr std::size_t meter_cells_for(std::size_t entries) {
    return (entries + meter_ways - 1) / meter_ways * meter_ways;
}

}  // namespace apikey::shm
