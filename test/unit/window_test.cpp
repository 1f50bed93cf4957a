#include "core/window.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <type_traits>

namespace apikey::core {
namespace {

static_assert(std::is_trivially_copyable_v<Window>);

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t width = 10 * second;
constexpr std::int64_t start = 170'000'000 * width;  // the first instant of a window
constexpr RateLimit ten{10, width};

Window make(std::int64_t own, std::int64_t previous_own, std::int64_t others = 0,
            std::int64_t previous_others = 0, const RateLimit& limit = ten) {
    Window window;
    window.width_us = limit.width_us;
    window.sequence = start / limit.width_us;
    window.own = own;
    window.previous_own = previous_own;
    window.others = others;
    window.previous_others = previous_others;
    return window;
}

/** All but what the clock decides. */
void expect_counts(const Window& window, std::int64_t own, std::int64_t previous_own, std::int64_t others = 0,
                   std::int64_t previous_others = 0) {
    EXPECT_EQ(window.own, own);
    EXPECT_EQ(window.previous_own, previous_own);
    EXPECT_EQ(window.others, others);
    EXPECT_EQ(window.previous_others, previous_others);
}

void expect_same(const Window& a, const Window& b) {
    EXPECT_EQ(a.width_us, b.width_us);
    EXPECT_EQ(a.sequence, b.sequence);
    expect_counts(a, b.own, b.previous_own, b.others, b.previous_others);
}

/** What a denial says about the wait is so to the microsecond, if nobody else comes to the window that it
 * left. */
void expect_exact_wait(const Window& window, const RateLimit& limit, std::int64_t now, std::int64_t cost,
                       const RateDecision& decision) {
    ASSERT_FALSE(decision.allowed);
    if (!decision.retry_after_us) {
        EXPECT_GT(cost, limit.limit);
        return;
    }
    ASSERT_GT(*decision.retry_after_us, 0);
    for (const std::int64_t wait :
         {std::int64_t(0), *decision.retry_after_us / 2, *decision.retry_after_us - 1}) {
        Window early = window;
        EXPECT_FALSE(spend(early, limit, now + wait, cost).allowed) << wait;
    }
    Window later = window;
    EXPECT_TRUE(spend(later, limit, now + *decision.retry_after_us, cost).allowed);
}

/** `remaining` can be spent at this instant, and not one more. */
void expect_exact_remaining(const Window& window, const RateLimit& limit, std::int64_t now,
                            const RateDecision& decision) {
    ASSERT_GE(decision.remaining, 0);
    Window copy = window;
    if (decision.remaining > 0) {
        EXPECT_TRUE(spend(copy, limit, now, decision.remaining).allowed);
        copy = window;
    }
    if (decision.remaining < most) {
        EXPECT_FALSE(spend(copy, limit, now, decision.remaining + 1).allowed);
    }
}

TEST(Window, AFreshOneAllowsTheLimitAtOnce) {
    Window window;
    for (int i = 1; i <= 10; ++i) {
        const RateDecision decision = spend(window, ten, start + second, 1);
        EXPECT_TRUE(decision.allowed);
        EXPECT_EQ(decision.remaining, 10 - i);
        EXPECT_EQ(decision.reset_us, 9 * second);
        EXPECT_EQ(decision.retry_after_us, std::nullopt);
    }
    const RateDecision decision = spend(window, ten, start + second, 1);
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.remaining, 0);
    EXPECT_EQ(decision.reset_us, 9 * second);
    // Nine seconds to the next window; a microsecond into it less than ten are left, which is rounded down.
    EXPECT_EQ(decision.retry_after_us, 9 * second + 1);
    expect_counts(window, 10, 0);
    EXPECT_EQ(window.width_us, width);
    EXPECT_EQ(window.sequence, start / width);
}

struct Example {
    const char* name;
    Window before;
    std::int64_t elapsed;
    std::int64_t cost;
    bool allowed;
    std::int64_t remaining;
    std::optional<std::int64_t> retry_after;
};

// limit 10, width 10 s.
TEST(Window, Examples) {
    const Example examples[] = {
        {"nothing yet", make(0, 0), 0, 1, true, 9, {}},
        {"all at once", make(0, 0), 0, 10, true, 0, {}},
        {"above the limit no wait helps", make(0, 0), 0, 11, false, 10, {}},
        {"the previous window counts whole at the start", make(0, 10), 0, 1, false, 0, 1},
        {"and is rounded down", make(0, 10), 1, 1, true, 0, {}},
        {"nine of ten from the first microsecond on", make(0, 10), 1, 2, false, 1, second},
        {"nine of ten still after a second", make(0, 10), second, 1, true, 0, {}},
        {"eight of ten right after it", make(0, 10), second + 1, 2, true, 0, {}},
        {"half of it in the middle", make(3, 8), 5 * second, 3, true, 0, {}},
        {"half of it in the middle, one more", make(3, 8), 5 * second, 4, false, 3, 1},
        {"less than half of it right after", make(3, 8), 5 * second + 1, 4, true, 0, {}},
        {"the last microsecond rounds to nothing", make(0, 10), width - 1, 10, true, 0, {}},
        {"own and others count together", make(4, 0, 5, 0), 0, 1, true, 0, {}},
        {"own and others, one more", make(4, 0, 5, 0), 0, 2, false, 1, width + 1},
        {"weighted together, not each by itself", make(0, 1, 0, 1), 5 * second, 10, false, 9, 1},
        {"others above the limit", make(0, 0, 30, 0), 0, 1, false, 0, width + width * 2 / 3 + 1},
        {"others far above the limit", make(0, 0, 1'000'000'000, 0), 0, 10, false, 0, 2 * width},
        {"previous others above the limit", make(0, 0, 0, 40), 0, 10, false, 0, width - width / 40 + 1},
        {"a wait into the next window", make(10, 10), 0, 10, false, 0, 2 * width - second + 1},
        {"a look where there is room", make(9, 0), 0, 0, true, 1, {}},
        {"a look at the limit", make(10, 0), 0, 0, true, 0, {}},
        {"a look beyond the limit", make(10, 0, 1, 0), 0, 0, false, 0, width + 1},
    };
    for (const Example& example : examples) {
        SCOPED_TRACE(example.name);
        Window window = example.before;
        const RateDecision decision = spend(window, ten, start + example.elapsed, example.cost);
        EXPECT_EQ(decision.allowed, example.allowed);
        EXPECT_EQ(decision.remaining, example.remaining);
        EXPECT_EQ(decision.reset_us, width - example.elapsed);
        EXPECT_EQ(decision.retry_after_us, example.retry_after);
        Window expected = example.before;
        expected.own += example.allowed ? example.cost : 0;
        expect_same(window, expected);
        expect_exact_remaining(window, ten, start + example.elapsed, decision);
        if (!decision.allowed) {
            expect_exact_wait(example.before, ten, start + example.elapsed, example.cost, decision);
        }
    }
}

TEST(Window, ALookConsumesNothing) {
    Window window = make(3, 4, 1, 2);
    const Window before = window;
    EXPECT_EQ(spend(window, ten, start, 0).remaining, 0);
    expect_same(window, before);
}

TEST(Window, TheNextWindowShiftsTheCounts) {
    Window window = make(3, 4, 5, 6);
    EXPECT_TRUE(spend(window, ten, start + width, 2).allowed);
    EXPECT_EQ(window.sequence, start / width + 1);
    expect_counts(window, 2, 3, 0, 5);
}

TEST(Window, TheWindowAfterThatForgetsThem) {
    for (const std::int64_t windows : {2, 3, 1000}) {
        Window window = make(3, 4, 5, 6);
        const RateDecision decision = spend(window, ten, start + windows * width, 10);
        EXPECT_TRUE(decision.allowed);
        EXPECT_EQ(window.sequence, start / width + windows);
        EXPECT_EQ(window.width_us, width);
        expect_counts(window, 10, 0, 0, 0);
    }
}

TEST(Window, ADenialOnlyAdvances) {
    Window window = make(10, 4, 5, 6);
    EXPECT_FALSE(spend(window, ten, start + width, 1).allowed);
    EXPECT_EQ(window.sequence, start / width + 1);
    expect_counts(window, 0, 10, 0, 5);
}

TEST(Window, AnotherWidthStartsAfresh) {
    for (const std::int64_t other : {width - 1, width + 1, second, 31 * 86400 * second}) {
        Window window = make(10, 10, 10, 10);
        const RateLimit limit{10, other};
        const RateDecision decision = spend(window, limit, start, 10);
        EXPECT_TRUE(decision.allowed);
        EXPECT_EQ(window.width_us, other);
        EXPECT_EQ(window.sequence, start / other);
        EXPECT_EQ(decision.reset_us, other - start % other);
        expect_counts(window, 10, 0);
    }
}

TEST(Window, AnotherLimitOfTheSameWidthKeepsTheCounts) {
    Window window = make(8, 0);
    const RateDecision lower = spend(window, {5, width}, start, 1);
    EXPECT_FALSE(lower.allowed);
    EXPECT_EQ(lower.remaining, 0);
    EXPECT_EQ(spend(window, {20, width}, start, 1).remaining, 11);
}

// The window that it has seen has not begun by this clock: it counts from its start, and the waits include
// the time until then.
TEST(Window, AClockThatStepsBackBelowTheWindowMakesNoRoom) {
    for (const std::int64_t back : {std::int64_t(1), width / 2, width}) {
        SCOPED_TRACE(back);
        Window window = make(3, 6);
        const RateDecision allowed = spend(window, ten, start - back, 1);
        EXPECT_TRUE(allowed.allowed);
        EXPECT_EQ(allowed.remaining, 0);
        EXPECT_EQ(allowed.reset_us, width + back);
        EXPECT_EQ(window.sequence, start / width);
        expect_counts(window, 4, 6);

        const Window before = window;
        const RateDecision denied = spend(window, ten, start - back, 1);
        EXPECT_FALSE(denied.allowed);
        EXPECT_EQ(denied.reset_us, width + back);
        EXPECT_EQ(denied.retry_after_us, back + 1);
        expect_same(window, before);
        expect_exact_wait(window, ten, start - back, 1, denied);
        expect_exact_wait(window, ten, start - back, 10, spend(window, ten, start - back, 10));
    }
}

// Stepped back further: the counts are those of the window after the one that the clock is in, whole, so that
// they fade when that one comes, and not at once.
TEST(Window, AClockThatStepsBackFurtherIsBelievedAndMakesNoRoom) {
    for (const std::int64_t back : {width + 1, 2 * width - 1, 5 * width, 1000 * width + 1}) {
        SCOPED_TRACE(back);
        const std::int64_t now = start - back;
        Window window = make(3, 6, 1, 0);
        const RateDecision denied = spend(window, ten, now, 1);
        EXPECT_FALSE(denied.allowed);
        EXPECT_EQ(denied.remaining, 0);
        EXPECT_EQ(window.sequence, now / width + 1);
        expect_counts(window, 3, 6, 1, 0);
        EXPECT_EQ(denied.reset_us, 2 * width - now % width);
        EXPECT_EQ(denied.retry_after_us, width - now % width + 1);
        expect_exact_wait(window, ten, now, 1, denied);
    }
}

TEST(Window, AClockThatStepsBackWithinTheWindowMakesNoRoom) {
    Window window = make(5, 10);
    EXPECT_TRUE(spend(window, ten, start + 5 * second, 0).allowed);
    EXPECT_FALSE(spend(window, ten, start + 4 * second, 0).allowed);
    EXPECT_TRUE(spend(window, ten, start + 5 * second, 0).allowed);
}

TEST(Window, CountsBeyondAnyLimitDoNotOverflow) {
    const RateLimit unlimited{most, width};
    // Full to the last: only a look is allowed.
    Window full = make(most, 0);
    const RateDecision look = spend(full, unlimited, start, 0);
    EXPECT_TRUE(look.allowed);
    EXPECT_EQ(look.remaining, 0);
    const RateDecision one = spend(full, unlimited, start, 1);
    EXPECT_FALSE(one.allowed);
    EXPECT_EQ(one.remaining, 0);
    expect_exact_wait(full, unlimited, start, 1, one);
    expect_counts(full, most, 0);

    // A sum that is no int64 is more than the limit, not the limit.
    Window beyond = make(most, most, most, most);
    const RateDecision denied = spend(beyond, unlimited, start, 0);
    EXPECT_FALSE(denied.allowed);
    EXPECT_EQ(denied.remaining, 0);
    // Half of twice as much is the limit, less the rounding: when the next window is half over.
    EXPECT_EQ(denied.retry_after_us, width + width / 2);
    expect_exact_wait(beyond, unlimited, start, 0, denied);
    expect_counts(beyond, most, most, most, most);

    Window nearly = make(most - 5, 0);
    const RateDecision last = spend(nearly, unlimited, start, 5);
    EXPECT_TRUE(last.allowed);
    EXPECT_EQ(last.remaining, 0);
    expect_counts(nearly, most, 0);
}

TEST(Window, TheLargestWidthAndLimit) {
    const RateLimit limit{most, 31 * 86400 * second};
    Window window = make(0, most, 0, 0, limit);
    const std::int64_t now = window.sequence * limit.width_us;
    const RateDecision denied = spend(window, limit, now, 2147483647);
    EXPECT_FALSE(denied.allowed);
    // Some 3.4 million fade in each microsecond.
    EXPECT_EQ(denied.retry_after_us, 624);
    EXPECT_FALSE(spend(window, limit, now + 623, 2147483647).allowed);
    const RateDecision allowed = spend(window, limit, now + 624, 2147483647);
    EXPECT_TRUE(allowed.allowed);
    EXPECT_EQ(allowed.remaining, 1330627);
}

TEST(Window, RemembersWhatItWouldTakeAway) {
    EXPECT_EQ(remembered(Window{}, start), 0);
    const Window window = make(3, 8, 2, 2);
    EXPECT_EQ(remembered(window, start), 15);
    EXPECT_EQ(remembered(window, start + 1), 14);
    EXPECT_EQ(remembered(window, start + 5 * second), 10);
    EXPECT_EQ(remembered(window, start + width), 5);
    EXPECT_EQ(remembered(window, start + 2 * width - 1), 0);
    EXPECT_EQ(remembered(window, start + 2 * width), 0);
    EXPECT_EQ(remembered(window, start - 1), 15);
    EXPECT_EQ(remembered(window, start - 100 * width + 1), 15);
    expect_same(window, make(3, 8, 2, 2));
    EXPECT_EQ(remembered(make(most, most, most, most), start), most);
}

// Whatever happens: what a decision says is what a following request gets, and no step of the clock makes
// room that its passing would not have made.
TEST(Window, RandomSequences) {
    std::mt19937_64 random(5);
    const auto below = [&](std::int64_t bound) {
        return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound));
    };
    int denied = 0;
    int allowed = 0;
    for (int sequence = 0; sequence < 300; ++sequence) {
        const RateLimit limit{1 + below(40), 1 + below(1000)};
        Window window;
        std::int64_t now = 1'000'000 + below(100'000);
        for (int step = 0; step < 100; ++step) {
            const std::int64_t before = remembered(window, now);
            const std::int64_t forward = below(8) == 0 ? below(3 * limit.width_us) : below(50);
            const std::int64_t back = below(6) == 0 ? below(4 * limit.width_us) : 0;
            // Forwards first, by itself: backwards from there makes no room.
            now += forward;
            const std::int64_t faded = remembered(window, now);
            ASSERT_LE(faded, before);
            spend(window, limit, now, 0);
            now -= back;
            ASSERT_GE(remembered(window, now), faded);
            if (below(10) == 0) {
                window.others += below(5);
            }
            const std::int64_t cost = below(limit.limit + 2);
            const std::int64_t used = remembered(window, now);
            const RateDecision decision = spend(window, limit, now, cost);
            ASSERT_EQ(decision.allowed, used + cost <= limit.limit);
            ASSERT_EQ(remembered(window, now), used + (decision.allowed ? cost : 0));
            ASSERT_GT(decision.reset_us, 0);
            ASSERT_LE(decision.reset_us, 2 * limit.width_us);
            expect_exact_remaining(window, limit, now, decision);
            if (decision.allowed) {
                ++allowed;
                ASSERT_FALSE(decision.retry_after_us);
            } else {
                ++denied;
                expect_exact_wait(window, limit, now, cost, decision);
            }
            if (HasFailure()) {
                return;
            }
        }
    }
    EXPECT_GT(allowed, 3000);
    EXPECT_GT(denied, 3000);
}

TEST(Window, CountsOfOthersAreOnlyRaised) {
    Window window = make(1, 2, 3, 4);
    merge_others(window, width, window.sequence, 5, 3);
    expect_counts(window, 1, 2, 5, 4);
    merge_others(window, width, window.sequence, 2, 9);
    expect_counts(window, 1, 2, 5, 9);
}

TEST(Window, CountsOfOthersThatComeLateAreOfTheWindowBefore) {
    Window window = make(1, 2, 3, 4);
    merge_others(window, width, window.sequence - 1, 6, 100);
    expect_counts(window, 1, 2, 3, 6);
    merge_others(window, width, window.sequence - 1, 5, 0);
    expect_counts(window, 1, 2, 3, 6);
}

TEST(Window, CountsOfOthersInAnotherWindowAreNotMixedIn) {
    Window window = make(1, 2, 3, 4);
    const std::int64_t sequence = window.sequence;
    merge_others(window, width, sequence - 2, 50, 50);
    merge_others(window, width, sequence + 1, 50, 50);
    merge_others(window, width / 2, sequence, 50, 50);
    expect_counts(window, 1, 2, 3, 4);
}

TEST(Window, WhatSomebodyTellsOfOthersIsBounded) {
    EXPECT_EQ(bounded_count(-1), 0);
    EXPECT_EQ(bounded_count(most_count), most_count);
    EXPECT_EQ(bounded_count(std::numeric_limits<std::int64_t>::max()), most_count);
    EXPECT_EQ(bounded_count(std::numeric_limits<std::int64_t>::min()), 0);
    const RateLimit limit = {10, 60 * second};
    Window window;
    EXPECT_TRUE(spend(window, limit, 600 * second, 1).allowed);
    merge_others(window, limit.width_us, window.sequence, std::numeric_limits<std::int64_t>::min(), -5);
    EXPECT_EQ(spend(window, limit, 600 * second, 0).remaining, 9);
    merge_others(window, limit.width_us, window.sequence, std::numeric_limits<std::int64_t>::max(),
                 std::numeric_limits<std::int64_t>::max());
    EXPECT_FALSE(spend(window, limit, 600 * second, 1).allowed);
    EXPECT_EQ(window.others, most_count);
    EXPECT_EQ(window.previous_others, most_count);
}

TEST(Window, WhatOthersHaveUsedIsNotLeft) {
    Window window = make(2, 0);
    merge_others(window, width, window.sequence, 5, 0);
    EXPECT_EQ(spend(window, ten, start, 0).remaining, 3);
    EXPECT_FALSE(spend(window, ten, start, 4).allowed);
    EXPECT_TRUE(spend(window, ten, start, 3).allowed);
    expect_counts(window, 5, 0, 5, 0);
}

TEST(Window, AloneThereIsAnEqualShareOfTheLimit) {
    Window window = make(0, 0, 9, 9);
    EXPECT_EQ(spend_alone(window, ten, start, 0, 3).remaining, 3);
    EXPECT_TRUE(spend_alone(window, ten, start, 3, 3).allowed);
    const RateDecision denied = spend_alone(window, ten, start, 1, 3);
    EXPECT_FALSE(denied.allowed);
    EXPECT_EQ(denied.remaining, 0);
    EXPECT_EQ(denied.reset_us, width);
    EXPECT_TRUE(denied.retry_after_us);
    // What is known of the others is kept, for when it counts again.
    expect_counts(window, 3, 0, 9, 9);
    EXPECT_EQ(spend(window, ten, start + width - 1, 0).remaining, 0);
}

TEST(Window, AloneAmongMoreNodesThanTheLimitOneIsLeft) {
    Window window = make(0, 0);
    EXPECT_TRUE(spend_alone(window, ten, start, 1, 1000).allowed);
    EXPECT_FALSE(spend_alone(window, ten, start, 1, 1000).allowed);
    Window other = make(0, 0);
    EXPECT_EQ(spend_alone(other, ten, start, 0, 0).remaining, 10);
}

TEST(Window, AloneTheWindowSlidesAsWell) {
    Window window = make(5, 0, 5, 0);
    const RateDecision decision = spend_alone(window, ten, start + width, 0, 2);
    EXPECT_EQ(decision.remaining, 0);
    EXPECT_EQ(spend_alone(window, ten, start + width + width / 2, 0, 2).remaining, 3);
    expect_counts(window, 0, 5, 0, 5);
}

TEST(Window, DenyingCountsNothingAndForgetsNothing) {
    Window window = make(1, 2, 3, 4);
    const RateDecision decision = deny(window, ten, start + 2 * second);
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.remaining, 0);
    EXPECT_EQ(decision.reset_us, 8 * second);
    EXPECT_EQ(decision.retry_after_us, second);
    expect_counts(window, 1, 2, 3, 4);
    EXPECT_EQ(deny(window, ten, start + width - 1000).retry_after_us, 1000);
    EXPECT_FALSE(deny(window, ten, start + width).allowed);
    expect_counts(window, 0, 1, 0, 3);
}

}  // namespace
}  // namespace apikey::core
