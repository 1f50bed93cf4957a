// Sequences of requests, clocks that step back and forth, and counts of other nodes, against a model that
// keeps each window's total by its number, searches for the wait instead of computing it, and has room for
// any sum.

#include "core/window.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <span>

using namespace apikey::core;

namespace {

__extension__ using Wide = __int128;

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t latest = std::int64_t(1) << 62;

void check(bool holds) {
    if (!holds) {
        std::abort();
    }
}

class Input {
  public:
    explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

    bool empty() const { return bytes_.empty(); }

    std::uint8_t byte() {
        if (bytes_.empty()) {
            return 0;
        }
        const std::uint8_t first = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return first;
    }

    std::uint64_t word() {
        std::uint64_t value = 0;
        for (int i = 0; i < 8; ++i) {
            value = value << 8 | byte();
        }
        return value;
    }

    /** 0 to `bound`: often small, often near the bound. */
    std::int64_t up_to(std::int64_t bound) {
        const std::uint8_t how = byte();
        const std::int64_t small = std::min<std::int64_t>(how / 4, bound);
        switch (how % 4) {
            case 0:
                return small;
            case 1:
                return bound - small;
            case 2:
                return bound / 2 + small > bound ? bound : bound / 2 + small;
            default:
                return static_cast<std::int64_t>(word() % (static_cast<std::uint64_t>(bound) + 1));
        }
    }

  private:
    std::span<const std::uint8_t> bytes_;
};

class Model {
  public:
    /** Puts the request at `now` into its place among the windows. */
    void observe(std::int64_t width, std::int64_t now) {
        const std::int64_t number = now / width;
        if (width != width_) {
            *this = {};
            width_ = width;
            newest_ = number;
        }
        if (number + 1 < newest_) {
            // A clock set back further than a window: what is known counts for the window after the clock's.
            totals_ = {{number + 1, total(newest_)}, {number, total(newest_ - 1)}};
            newest_ = number + 1;
        }
        newest_ = std::max(newest_, number);
    }

    /** What counts at `now`, if nobody comes from the last request until then. */
    Wide used(std::int64_t now) const {
        const std::int64_t number = std::max(now / width_, newest_);
        const Wide elapsed = std::max<Wide>(0, Wide(now) - Wide(number) * width_);
        return total(number) + total(number - 1) * (width_ - elapsed) / width_;
    }

    Wide total(std::int64_t number) const {
        const auto found = totals_.find(number);
        return found == totals_.end() ? 0 : found->second;
    }

    void set(std::int64_t number, Wide total) { totals_[number] = total; }
    void add(std::int64_t count) { totals_[newest_] += count; }
    std::int64_t newest() const { return newest_; }

  private:
    std::int64_t width_ = 0;
    std::int64_t newest_ = 0;
    std::map<std::int64_t, Wide> totals_;
};

/** The shortest wait after which `cost` fits, by bisection: what is used never rises while nobody comes. */
std::int64_t shortest_wait(const Model& model, const RateLimit& limit, std::int64_t now, std::int64_t cost) {
    std::int64_t too_short = 0;
    std::int64_t enough = 4 * limit.width_us;
    check(model.used(now + enough) + cost <= limit.limit);
    while (enough - too_short > 1) {
        const std::int64_t middle = too_short + (enough - too_short) / 2;
        (model.used(now + middle) + cost <= limit.limit ? enough : too_short) = middle;
    }
    return enough;
}

bool same(const Window& a, const Window& b) {
    return a.width_us == b.width_us && a.sequence == b.sequence && a.own == b.own && a.others == b.others &&
           a.previous_own == b.previous_own && a.previous_others == b.previous_others;
}

bool allowed(Window window, const RateLimit& limit, std::int64_t now, std::int64_t cost) {
    return spend(window, limit, now, cost).allowed;
}

void check_spend(Window& window, Model& model, const RateLimit& limit, std::int64_t now, std::int64_t cost) {
    model.observe(limit.width_us, now);
    const Wide used = model.used(now);

    // A look advances the window, if anything, and says the same a second time.
    Window advanced = window;
    const RateDecision look = spend(advanced, limit, now, 0);
    check(look.allowed == (used <= limit.limit));
    check(look.remaining == std::max<Wide>(0, limit.limit - used));
    check(advanced.width_us == limit.width_us && advanced.sequence == model.newest());
    Window again = advanced;
    spend(again, limit, now, 0);
    check(same(again, advanced));
    check(remembered(advanced, now) == std::min<Wide>(most, used));
    if (window.width_us == limit.width_us) {
        check(remembered(window, now) == std::min<Wide>(most, used));
    }

    const RateDecision decision = spend(window, limit, now, cost);
    check(decision.reset_us == (Wide(model.newest()) + 1) * limit.width_us - now);
    check(decision.reset_us > 0 && decision.reset_us <= 2 * limit.width_us);
    check(decision.allowed == (used + cost <= limit.limit));
    if (decision.allowed) {
        model.add(cost);
        check(decision.remaining == limit.limit - used - cost && decision.remaining >= 0);
        check(!decision.retry_after_us);
        advanced.own += cost;
        check(same(window, advanced));
    } else {
        check(decision.remaining == look.remaining);
        check(same(window, advanced));
        check(decision.retry_after_us.has_value() == (cost <= limit.limit));
        if (decision.retry_after_us) {
            const std::int64_t wait = *decision.retry_after_us;
            check(wait == shortest_wait(model, limit, now, cost));
            check(allowed(window, limit, now + wait, cost));
            check(!allowed(window, limit, now + wait - 1, cost));
        }
    }
    if (used <= limit.limit) {
        check(allowed(window, limit, now, decision.remaining));
    }
    check(decision.remaining == most || !allowed(window, limit, now, decision.remaining + 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input({data, size});
    constexpr std::int64_t widths[] = {1, 7, second, 60 * second, 3600 * second + 1, 31 * 86400 * second};
    RateLimit limit{1, second};
    std::int64_t now = 170'000'000 * second;
    Window window;
    Model model;
    for (int step = 0; step < 200 && !input.empty(); ++step) {
        switch (input.byte() % 16) {
            case 0:
                limit.width_us = widths[input.byte() % std::size(widths)];
                break;
            case 1:
                limit.limit = 1 + input.up_to(most - 1);
                break;
            case 2:
                limit.limit = 1 + input.byte();
                break;
            case 3:
                now = input.up_to(latest);
                break;
            case 4:
                now = std::min(latest, now + input.up_to(3 * limit.width_us));
                break;
            case 5:
                now = std::max<std::int64_t>(0, now - input.up_to(3 * limit.width_us));
                break;
            case 6:
            case 7:
                // To the next window, and a little more.
                now = std::min(latest,
                               (now / limit.width_us + 1) * limit.width_us + input.up_to(limit.width_us));
                break;
            case 8:
                // The mirror has brought the counts of other nodes.
                window.others = input.up_to(most);
                model.set(window.sequence, Wide(window.own) + window.others);
                break;
            case 9:
                window.previous_others = input.up_to(most);
                model.set(window.sequence - 1, Wide(window.previous_own) + window.previous_others);
                break;
            case 10:
                check_spend(window, model, limit, now, input.up_to(most));
                break;
            case 11:
                check_spend(window, model, limit, now, input.up_to(std::numeric_limits<std::int32_t>::max()));
                break;
            default:
                now = std::min(latest, now + input.byte());
                check_spend(window, model, limit, now, input.up_to(std::min<std::int64_t>(limit.limit, 100)));
                break;
        }
    }
    return 0;
}
