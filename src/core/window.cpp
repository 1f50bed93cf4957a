#include "core/window.h"

#include <algorithm>
#include <limits>

namespace apikey::core {
namespace {

__extension__ using Wide = __int128;

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

std::int64_t add(std::int64_t a, std::int64_t b) {
    std::int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? most : sum;
}

/** The part of `count` that the sliding window still covers, `elapsed` into the window after it. */
std::int64_t weighted(std::int64_t count, std::int64_t elapsed, std::int64_t width) {
    std::int64_t product;
    if (!__builtin_mul_overflow(count, width - elapsed, &product)) {
        return product / width;  // nearly always; dividing 128 bits is ten times as slow
    }
    return static_cast<std::int64_t>(Wide(count) * (width - elapsed) / width);
}

/** The first instant of a window at which no more than `room` is left of the `count` of the window before:
 * the smallest e with floor(count * (width - e) / width) <= room. 0 to width. */
std::int64_t faded_at(std::int64_t count, std::int64_t room, std::int64_t width) {
    if (count <= room) {
        return 0;
    }
    const Wide above = (Wide(room) + 1) * width;
    const Wide left = (above + count - 1) / count - 1;
    return static_cast<std::int64_t>(width - left);
}

/** Brings the window to the one that `now_us` is in; returns how far into it that is. */
std::int64_t advance(Window& window, std::int64_t width, std::int64_t now_us) {
    const std::int64_t sequence = now_us / width;
    if (window.width_us != width) {
        window = {};
        window.width_us = width;
        window.sequence = sequence;
    } else if (sequence == window.sequence + 1) {
        window.previous_own = window.own;
        window.previous_others = window.others;
        window.own = 0;
        window.others = 0;
        window.sequence = sequence;
    } else if (sequence > window.sequence) {
        window = {};
        window.width_us = width;
        window.sequence = sequence;
    } else if (sequence == window.sequence - 1) {
        return 0;
    } else {
        window.sequence = sequence;
    }
    return now_us - sequence * width;
}

}  // namespace

RateDecision spend(Window& window, const RateLimit& limit, std::int64_t now_us, std::int64_t cost) {
    const std::int64_t width = limit.width_us;
    const std::int64_t elapsed = advance(window, width, now_us);
    const std::int64_t current = add(window.own, window.others);
    const std::int64_t previous = add(window.previous_own, window.previous_others);
    const std::int64_t used = add(current, weighted(previous, elapsed, width));

    RateDecision decision;
    decision.reset_us = width - elapsed;
    decision.allowed = add(used, cost) <= limit.limit;
    if (decision.allowed) {
        window.own = add(window.own, cost);
        decision.remaining = limit.limit - used - cost;
        return decision;
    }
    decision.remaining = std::max<std::int64_t>(0, limit.limit - used);
    if (cost <= limit.limit) {
        const std::int64_t room = limit.limit - cost;
        decision.retry_after_us = current <= room ? faded_at(previous, room - current, width) - elapsed
                                                  : width - elapsed + faded_at(current, room, width);
    }
    return decision;
}

std::int64_t remembered(const Window& window, std::int64_t now_us) {
    if (window.width_us <= 0) {
        return 0;
    }
    Window now = window;
    const std::int64_t elapsed = advance(now, window.width_us, now_us);
    return add(add(now.own, now.others),
               weighted(add(now.previous_own, now.previous_others), elapsed, now.width_us));
}

}  // namespace apikey::core
