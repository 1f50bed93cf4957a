#include "core/base62.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace apikey::core {
namespace {

std::string encode(ByteView bytes) {
    std::string text(base62_length(bytes.size()), '?');
    base62_encode_to(bytes, text);
    return text;
}

bool decodes(std::string_view text, std::size_t size) {
    Bytes bytes(size);
    return base62_decode(text, bytes);
}

TEST(Base62, Widths) {
    EXPECT_EQ(base62_length(4), 6u);
    EXPECT_EQ(base62_length(20), 27u);
    EXPECT_EQ(base62_length(32), 43u);
}

TEST(Base62, KnownAnswers) {
    EXPECT_EQ(encode(Bytes(4, 0x00)), "000000");
    EXPECT_EQ(encode(Bytes{0, 0, 0, 61}), "00000z");
    EXPECT_EQ(encode(Bytes{0, 0, 0, 62}), "000010");
    EXPECT_EQ(encode(Bytes(4, 0xff)), "4gfFC3");
    EXPECT_EQ(encode(Bytes(20, 0xff)), "aWgEPTl1tmebfsQzFP4bxwgy80V");
    EXPECT_EQ(encode(Bytes(32, 0xff)), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    Bytes counting(32);
    for (std::size_t i = 0; i < counting.size(); ++i) {
        counting[i] = static_cast<std::uint8_t>(i);
    }
    EXPECT_EQ(encode(counting), "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf");
}

TEST(Base62, RefusesTheFirstValueThatDoesNotFit) {
    EXPECT_TRUE(decodes("4gfFC3", 4));
    EXPECT_FALSE(decodes("4gfFC4", 4));
    EXPECT_FALSE(decodes("zzzzzz", 4));
    EXPECT_TRUE(decodes("aWgEPTl1tmebfsQzFP4bxwgy80V", 20));
    EXPECT_FALSE(decodes("aWgEPTl1tmebfsQzFP4bxwgy80W", 20));
    EXPECT_TRUE(decodes("yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1", 32));
    EXPECT_FALSE(decodes("yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp2", 32));
}

TEST(Base62, RefusesOtherWidths) {
    EXPECT_FALSE(decodes("", 4));
    EXPECT_FALSE(decodes("00000", 4));
    EXPECT_FALSE(decodes("0000000", 4));
}

TEST(Base62, AcceptsItsDigitsOnly) {
    int accepted = 0;
    for (int c = 0; c < 256; ++c) {
        accepted += decodes(std::string("00000") + static_cast<char>(c), 4) ? 1 : 0;
    }
    EXPECT_EQ(accepted, 62);
}

TEST(Base62, RandomRoundTripKeepsOrder) {
    std::mt19937 random(2);
    for (const std::size_t size : {4u, 20u, 32u}) {
        Bytes before(size);
        std::string text_before = encode(before);
        for (int i = 0; i < 200; ++i) {
            Bytes bytes(size);
            for (auto& byte : bytes) {
                byte = static_cast<std::uint8_t>(random());
            }
            const std::string text = encode(bytes);
            Bytes decoded(size);
            ASSERT_TRUE(base62_decode(text, decoded));
            ASSERT_EQ(decoded, bytes);
            ASSERT_EQ(text < text_before, bytes < before);
            before = bytes;
            text_before = text;
        }
    }
}

}  // namespace
}  // namespace apikey::core
