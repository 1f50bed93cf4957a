#include "core/universal_hash.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace apikey::core {
namespace {

UniversalHashKey random_key(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    UniversalHashKey key;
    for (Wide& word : key) {
        word = Wide(random()) << 64 | random();
    }
    return key;
}

TEST(UniversalHash, EachBitOfTheWholeCounts) {
    const UniversalHashKey key = random_key(1);
    std::array<std::uint8_t, 32> bytes{};
    std::set<std::uint64_t> seen = {universal_hash(key, bytes)};
    for (std::size_t i = 0; i < 256; i++) {
        std::array<std::uint8_t, 32> changed = bytes;
        changed[i / 8] = static_cast<std::uint8_t>(changed[i / 8] ^ (1U << (i % 8)));
        EXPECT_TRUE(seen.insert(universal_hash(key, changed)).second) << i;
        EXPECT_EQ(universal_hash(key, changed), universal_hash(key, changed));
    }
}

TEST(UniversalHash, DependsOnTheKey) {
    const std::array<std::uint8_t, 32> zeroes{};
    std::array<std::uint8_t, 32> ones;
    ones.fill(0xff);
    std::set<std::uint64_t> of_zeroes, of_ones;
    for (std::uint64_t seed = 0; seed < 1000; seed++) {
        of_zeroes.insert(universal_hash(random_key(seed), zeroes));
        of_ones.insert(universal_hash(random_key(seed), ones));
    }
    EXPECT_EQ(of_zeroes.size(), 1000U);
    EXPECT_EQ(of_ones.size(), 1000U);
}

TEST(UniversalHash, TakesShorterInputs) {
    const UniversalHashKey key = random_key(2);
    const std::array<std::uint8_t, 32> bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    EXPECT_EQ(universal_hash(key, ByteView(bytes).first(9)), universal_hash(key, bytes));
    EXPECT_NE(universal_hash(key, ByteView(bytes).first(8)), universal_hash(key, bytes));
    (void)universal_hash(key, {});
}

}  // namespace
}  // namespace apikey::core
