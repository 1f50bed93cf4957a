#include "core/window.h"

#include <algorithm>
#include <limits>

namespace apikey::core {
namespace {

__extension__ using Wide = __int128;

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

/** The part of `count` that the sliding window still covers, `elapsed` into the window after it; all of it
 * where that one has yet to begin. */
Wide weighted(Wide count, std::int64_t elapsed, std::int64_t width) {
    const Wide product = count * (width - std::max<std::int64_t>(0, elapsed));
    // Nearly always the first: to divide 128 bits costs a call.
    return product <= most ? static_cast<std::int64_t>(product) / width : product / width;
}

/** The first instant of a window at which no more than `room` is left of the `count` of the window before:
 * the smallest e with floor(count * (width - e) / width) <= room. 0 to width. */
std::int64_t faded_at(Wide count, Wide room, std::int64_t width) {
    if (count <= room) {
        return 0;
    }
    const Wide above = (room + 1) * width;
    const Wide left = (above + count - 1) / count - 1;
    return static_cast<std::int64_t>(width - left);
}

/** Brings the window to the one that `now_us` is in; returns how far into it that is: less than 0 where the
 * clock has stepped back, so that the window has yet to begin. */
std::int64_t advance(Window& window, std::int64_t width, std::int64_t now_us) {
    const std::int64_t sequence = now_us / width;
    if (window.width_us != width || sequence > window.sequence + 1) {
        window = {};
        window.width_us = width;
        window.sequence = sequence;
    } else if (sequence == window.sequence + 1) {
        window.previous_own = window.own;
        window.previous_others = window.others;
        window.own = 0;
        window.others = 0;
        window.sequence = sequence;
    } else if (sequence < window.sequence) {
        // Not this one: the previous count would fade by as much as is over of it.
        window.sequence = sequence + 1;
    }
    return now_us - window.sequence * width;
}

/** What counts against the limit, `elapsed` into the window. More than an int64 holds, perhaps. */
Wide used(const Window& window, std::int64_t elapsed) {
    return Wide(window.own) + window.others +
           weighted(Wide(window.previous_own) + window.previous_others, elapsed, window.width_us);
}

}  // namespace

RateDecision spend(Window& window, const RateLimit& limit, std::int64_t now_us, std::int64_t cost) {
    const std::int64_t width = limit.width_us;
    const std::int64_t elapsed = advance(window, width, now_us);
    const Wide free = limit.limit - used(window, elapsed);

    RateDecision decision;
    decision.reset_us = width - elapsed;
    decision.allowed = cost <= free;
    if (decision.allowed) {
        window.own += cost;
        decision.remaining = static_cast<std::int64_t>(free - cost);
        return decision;
    }
    decision.remaining = static_cast<std::int64_t>(std::max<Wide>(0, free));
    if (cost <= limit.limit) {
        const Wide current = Wide(window.own) + window.others;
        const Wide previous = Wide(window.previous_own) + window.previous_others;
        const Wide room = limit.limit - cost;
        decision.retry_after_us = current <= room ? faded_at(previous, room - current, width) - elapsed
                                                  : width - elapsed + faded_at(current, room, width);
    }
    return decision;
}

RateDecision spend_alone(Window& window, const RateLimit& limit, std::int64_t now_us, std::int64_t cost,
                         std::int64_t nodes) {
    const RateLimit share = {std::max<std::int64_t>(1, limit.limit / std::max<std::int64_t>(1, nodes)),
                             limit.width_us};
    advance(window, limit.width_us, now_us);
    Window own = window;
    own.others = 0;
    own.previous_others = 0;
    const RateDecision decision = spend(own, share, now_us, cost);
    window.own = own.own;
    return decision;
}

RateDecision deny(Window& window, const RateLimit& limit, std::int64_t now_us) {
    const std::int64_t elapsed = advance(window, limit.width_us, now_us);
    RateDecision decision;
    decision.allowed = false;
    decision.reset_us = limit.width_us - elapsed;
    decision.retry_after_us = std::min<std::int64_t>(decision.reset_us, 1'000'000);
    return decision;
}

void merge_others(Window& window, std::int64_t width_us, std::int64_t sequence, std::int64_t others,
                  std::int64_t previous_others) {
    if (window.width_us != width_us) {
        return;
    }
    others = bounded_count(others);
    previous_others = bounded_count(previous_others);
    if (window.sequence == sequence) {
        window.others = std::max(window.others, others);
        window.previous_others = std::max(window.previous_others, previous_others);
    } else if (window.sequence == sequence + 1) {
        window.previous_others = std::max(window.previous_others, others);
    }
}

std::int64_t remembered(const Window& window, std::int64_t now_us) {
    if (window.width_us <= 0) {
        return 0;
    }
    Window now = window;
    const std::int64_t elapsed = advance(now, window.width_us, now_us);
    return static_cast<std::int64_t>(std::min<Wide>(most, used(now, elapsed)));
}

}  // namespace apikey::core
