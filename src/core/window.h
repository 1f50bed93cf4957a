#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

/**
 * The sliding window of two cells: this window's count, and the one's before, weighted by how much of it the
 * sliding window still covers. A request of `cost` is allowed when
 *
 *     own + others + floor(previous * (1 - elapsed fraction)) + cost <= limit
 *
 * Own counts and those of other nodes are kept apart, so that a mirror can send the one and fill in the
 * other. Pure arithmetic: the caller brings the clock. All times are whole microseconds; a window starts at a
 * multiple of its width since 1970, so that all nodes agree on it.
 */
namespace apikey::core {

struct RateLimit {
    std::int64_t limit = 0;     ///< requests in each window, > 0
    std::int64_t width_us = 0;  ///< > 0
};

/** What is kept of one subject. Trivially copyable: it lives in shared memory. All zeros is a fresh one. */
struct Window {
    std::int64_t width_us = 0;
    std::int64_t sequence = 0;  ///< number of the window that own and others count
    std::int64_t own = 0;
    std::int64_t previous_own = 0;
    std::int64_t others = 0;
    std::int64_t previous_others = 0;
};

struct RateDecision {
    bool allowed = true;
    std::int64_t remaining = 0;  ///< what could still be spent at this instant
    std::int64_t reset_us = 0;   ///< until this window ends and the next one's count starts at zero
    /** Denied: the shortest wait after which this cost is allowed if nobody else comes; nullopt when the cost
     * is above the limit, which no wait helps. */
    std::optional<std::int64_t> retry_after_us;
};

/**
 * Decides, and counts the cost when it is allowed: a denial consumes nothing. `cost` >= 0; 0 looks and
 * consumes nothing. A window of another width starts afresh. A clock that steps back makes no room: the
 * counts stay, whole, until the window begins that they are for, and reset and retry_after include the time
 * until then. That is the window it has seen, or, for a clock that steps back further, the one after the
 * clock's. `now_us` >= 0; of the counts, none is below 0.
 */
RateDecision spend(Window& window, const RateLimit& limit, std::int64_t now_us, std::int64_t cost);

/** The same where nobody knows what the other nodes do: by own counts alone, against this node's equal share
 * of the limit among `nodes`, at least 1. */
RateDecision spend_alone(Window& window, const RateLimit& limit, std::int64_t now_us, std::int64_t cost,
                         std::int64_t nodes);

/** Refuses, whatever the cost: until the window ends, or somebody knows more. */
RateDecision deny(Window& window, const RateLimit& limit, std::int64_t now_us);

/** More counts as so much: as in src/lua. Whole numbers up to there, and sums of some, are exact everywhere.
 */
inline constexpr std::int64_t most_count = 1'000'000'000'000'000;

/** A count that somebody else has told of. */
constexpr std::int64_t bounded_count(std::int64_t told) {
    return std::clamp<std::int64_t>(told, 0, most_count);
}

/** Counts of other nodes in window number `sequence`, and in the one before. Raises what is known, for these
 * windows only. */
void merge_others(Window& window, std::int64_t width_us, std::int64_t sequence, std::int64_t others,
                  std::int64_t previous_others);

/** How many requests would be forgotten, that is allowed once more, if this window were dropped now. */
std::int64_t remembered(const Window& window, std::int64_t now_us);

}  // namespace apikey::core
