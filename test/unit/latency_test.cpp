#include "core/latency.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>

namespace apikey::core {
namespace {

static_assert(latency_buckets == 21);
static_assert(latency_bucket(1'000) == 2);

TEST(Latency, BoundsRise) {
    EXPECT_GT(latency_bounds_ns.front(), 0);
    for (std::size_t i = 1; i < latency_bounds_ns.size(); ++i) {
        EXPECT_LT(latency_bounds_ns[i - 1], latency_bounds_ns[i]) << i;
    }
    EXPECT_EQ(latency_bounds_ns.back(), 1'000'000'000);
}

// Prometheus's "le": what took exactly as long as a bucket's bound is in that bucket.
TEST(Latency, ABoundBelongsToItsOwnBucket) {
    for (std::size_t i = 0; i < latency_bounds_ns.size(); ++i) {
        EXPECT_EQ(latency_bucket(latency_bounds_ns[i] - 1), i);
        EXPECT_EQ(latency_bucket(latency_bounds_ns[i]), i);
        EXPECT_EQ(latency_bucket(latency_bounds_ns[i] + 1), i + 1);
    }
}

TEST(Latency, WhateverTheClockSaysHasABucket) {
    EXPECT_EQ(latency_bucket(std::numeric_limits<std::int64_t>::min()), 0u);
    EXPECT_EQ(latency_bucket(-1), 0u);
    EXPECT_EQ(latency_bucket(0), 0u);
    EXPECT_EQ(latency_bucket(std::numeric_limits<std::int64_t>::max()), latency_buckets - 1);
}

TEST(Latency, CountsTheBoundsBelow) {
    std::mt19937_64 random(7);
    for (int i = 0; i < 20'000; ++i) {
        const auto ns = static_cast<std::int64_t>(random() >> (1 + random() % 62));
        std::size_t below = 0;
        for (const std::int64_t bound : latency_bounds_ns) {
            below += bound < ns ? 1 : 0;
        }
        ASSERT_EQ(latency_bucket(ns), below) << ns;
    }
}

}  // namespace
}  // namespace apikey::core
