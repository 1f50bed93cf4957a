#pragma once

#include "core/window.h"
#include "shm/meter.h"

/** The meter's memory; for meter.cpp, and for area.cpp, which lays it out. */
namespace apikey::shm {

/** Sets share locks by number; many more than there are processors, and together small enough for the
 * second-level cache. */
inline constexpr std::size_t meter_lock_count = 1024;

struct alignas(64) MeterCell {
    // The first cache line and a quarter of the second: who, and the window.
    Subject subject;
    Oid database;
    std::uint32_t uses_pending;  ///< by_code or last_used_at is not zero
    core::Window window;
    // The rest: what has been used since it was last written to the tables.
    TimestampTz touched_at;
    TimestampTz last_used_at;
    core::Network last_client;
    bool has_client;
    bool unexchanged;  ///< asked about since read_rate_cells(); its set has a mark then
    std::array<std::uint32_t, core::code_count> by_code;
};
static_assert(sizeof(MeterCell) == 192,
              "the description of apikey.rate_entries, docs/architecture.md and docs/deployment.md say 192");

struct alignas(64) MeterLock {
    slock_t mutex;
};
static_assert(sizeof(MeterLock) * meter_lock_count == 64 * 1024, "docs/architecture.md says 64 kB");

/** The exchange comes by several times a second: it must not have to read the whole meter for the few cells
 * that were used. Bits are set and cleared under the lock of their set, and share words with those of other
 * sets. One that is left over from a cell that made room does no harm. */
constexpr std::size_t meter_mark_bits = 64;

constexpr std::size_t meter_cells_for(std::size_t entries) {
    return (entries + meter_ways - 1) / meter_ways * meter_ways;
}

constexpr std::size_t meter_mark_words(std::size_t entries) {
    return (meter_cells_for(entries) / meter_ways + meter_mark_bits - 1) / meter_mark_bits;
}

}  // namespace apikey::shm
