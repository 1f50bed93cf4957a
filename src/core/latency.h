#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/** The buckets of the latency histogram, in Prometheus's sense: each counts what took no longer than its
 * bound. */
namespace apikey::core {

/** Nanoseconds. A warm validation takes about one microsecond, a cold one about one millisecond. */
inline constexpr std::array<std::int64_t, 20> latency_bounds_ns = {
    250,       500,       1'000,      2'000,      4'000,       8'000,        16'000,
    32'000,    64'000,    125'000,    250'000,    500'000,     1'000'000,    2'000'000,
    4'000'000, 8'000'000, 16'000'000, 64'000'000, 250'000'000, 1'000'000'000};

/** And one for all that took longer. */
inline constexpr std::size_t latency_buckets = latency_bounds_ns.size() + 1;

/** The first bucket whose bound is not below `ns`. */
constexpr std::size_t latency_bucket(std::int64_t ns) {
    std::size_t i = 0;
    while (i < latency_bounds_ns.size() && ns > latency_bounds_ns[i]) {
        i++;
    }
    return i;
}

}  // namespace apikey::core
