#include "core/backoff.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

using Milliseconds = Backoff::Milliseconds;

constexpr Backoff::Clock::time_point start{};

TEST(Backoff, DoublesUpToTheCap) {
    for (const int expected : {100, 200, 400, 800, 1600, 3200, 6400, 10'000, 10'000}) {
        int failures = 0;
        for (int ceiling = 100; ceiling < expected; ceiling *= 2) {
            failures++;
        }
        std::uint64_t random = 0;
        Backoff backoff([&random] { return random; });
        for (int i = 0; i < failures; i++) {
            EXPECT_EQ(backoff.failed(start), Milliseconds(0));
        }
        random = static_cast<std::uint64_t>(expected);
        EXPECT_EQ(backoff.failed(start), Milliseconds(expected)) << "it can be as long as that";
    }
    std::uint64_t random = 101;
    Backoff backoff([&random] { return random; });
    EXPECT_EQ(backoff.failed(start), Milliseconds(0)) << "and no longer";
}

TEST(Backoff, StaysAtTheCapForEver) {
    Backoff backoff([] { return std::uint64_t{10'000}; });
    for (int i = 0; i < 1000; i++) {
        backoff.failed(start);
    }
    EXPECT_EQ(backoff.failed(start), Backoff::cap);
    EXPECT_EQ(backoff.failures(), 1001U);
}

TEST(Backoff, HealthStartsAnew) {
    Backoff backoff([] { return std::uint64_t{100}; });
    for (int i = 0; i < 20; i++) {
        backoff.failed(start);
    }
    backoff.succeeded(start);
    EXPECT_EQ(backoff.failed(start + Backoff::health - Milliseconds(1)), Milliseconds(100));
    EXPECT_EQ(backoff.failures(), 21U) << "what breaks before it has worked for long, goes on";
    backoff.succeeded(start);
    backoff.failed(start + Backoff::health);
    EXPECT_EQ(backoff.failures(), 1U);
}

TEST(Backoff, ASuccessCountsForOneFailureOnly) {
    Backoff backoff([] { return std::uint64_t{0}; });
    backoff.succeeded(start);
    backoff.failed(start + Backoff::health);
    backoff.failed(start + 10 * Backoff::health);
    EXPECT_EQ(backoff.failures(), 2U);
}

TEST(Backoff, IsEvenlySpread) {
    std::uint64_t state = 1;
    Backoff backoff(
        [&state] { return state = state * 6364136223846793005U + 1442695040888963407U, state >> 1; });
    for (int i = 0; i < 10; i++) {
        backoff.failed(start);
    }
    int below = 0;
    constexpr int rounds = 10'000;
    for (int i = 0; i < rounds; i++) {
        const auto delay = backoff.failed(start);
        EXPECT_LE(delay, Backoff::cap);
        below += delay < Backoff::cap / 2 ? 1 : 0;
    }
    EXPECT_NEAR(below, rounds / 2, rounds / 20);
}

}  // namespace
}  // namespace apikey::core
