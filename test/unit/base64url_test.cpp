#include "core/base64url.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace apikey::core {
namespace {

TEST(Base64url, Rfc4648Section10) {
    const std::array<std::pair<std::string_view, std::string_view>, 7> vectors{{
        {"", ""},
        {"f", "Zg"},
        {"fo", "Zm8"},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg"},
        {"fooba", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy"},
    }};
    for (const auto& [bytes, text] : vectors) {
        EXPECT_EQ(base64url_encode(bytes_of(bytes)), text);
        const auto decoded = base64url_decode(text);
        ASSERT_TRUE(decoded) << text;
        EXPECT_EQ(text_of(*decoded), bytes);
        EXPECT_EQ(base64url_length(bytes.size()), text.size());
    }
}

TEST(Base64url, UsesTheUrlAlphabet) {
    EXPECT_EQ(base64url_encode(Bytes{0xfb, 0xff, 0xfe}), "-__-");
    EXPECT_EQ(base64url_decode("-__-"), (Bytes{0xfb, 0xff, 0xfe}));
    EXPECT_EQ(base64url_decode("+//+"), std::nullopt);
}

TEST(Base64url, RefusesPaddingWhiteSpaceAndForeignCharacters) {
    for (const std::string_view text : {"Zg==", "Zm8=", "Zm9v=", "Zm9v ", " Zm9v", "Zm9v\n", "Zm\t9v", "Zm.v",
                                        "Zm9\x80", "Zm9\xff", "Z\xc3\xa9v"}) {
        EXPECT_EQ(base64url_decode(text), std::nullopt) << text;
    }
    EXPECT_EQ(base64url_decode(std::string_view("Zm9\0", 4)), std::nullopt);
}

TEST(Base64url, RefusesImpossibleLengths) {
    EXPECT_EQ(base64url_decode("Z"), std::nullopt);
    EXPECT_EQ(base64url_decode("Zm9vZ"), std::nullopt);
}

TEST(Base64url, EveryByteValueAlone) {
    for (int byte = 0; byte < 256; ++byte) {
        const Bytes bytes{static_cast<std::uint8_t>(byte)};
        EXPECT_EQ(base64url_decode(base64url_encode(bytes)), bytes);
    }
}

// RFC 4648 section 3.5. Of all texts of two and of three characters exactly those decode that encoding gives.
TEST(Base64url, OneTextForEachByteString) {
    int accepted = 0;
    for (int a = 0; a < 256; ++a) {
        for (int b = 0; b < 256; ++b) {
            const std::string text{static_cast<char>(a), static_cast<char>(b)};
            if (const auto bytes = base64url_decode(text)) {
                ++accepted;
                ASSERT_EQ(base64url_encode(*bytes), text);
            }
        }
    }
    EXPECT_EQ(accepted, 256);
    EXPECT_EQ(base64url_decode("AAB"), std::nullopt);
    EXPECT_EQ(base64url_decode("AAA"), (Bytes{0, 0}));
}

TEST(Base64url, RandomRoundTrip) {
    std::mt19937 random(1);
    for (std::size_t size = 0; size < 300; ++size) {
        Bytes bytes(size);
        for (auto& byte : bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
        const std::string text = base64url_encode(bytes);
        ASSERT_EQ(text.size(), base64url_length(size));
        ASSERT_EQ(base64url_decode(text), bytes);
    }
}

}  // namespace
}  // namespace apikey::core
