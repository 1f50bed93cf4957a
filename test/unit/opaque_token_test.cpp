#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <string>

#include "core/base62.h"
#include "core/crc32.h"
#include "core/error.h"
#include "core/token.h"

namespace apikey::core {
namespace {

const Uuid example_id = *uuid_from_string("018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e");

std::string opaque_text(std::int32_t generation = 1, std::string_view environment = "live") {
    SecretArray<32> secret;
    for (std::size_t i = 0; i < secret.size(); ++i) {
        secret.data()[i] = static_cast<std::uint8_t>(i);
    }
    const SecretBytes token = make_opaque(environment, example_id, generation, secret);
    return std::string(text_of(token));
}

/** Any body with the checksum that fits it. */
std::string with_checksum(const std::string& body) {
    const std::uint32_t crc = crc32(bytes_of(body));
    const Bytes bytes{static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
                      static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
    std::string text(6, '?');
    base62_encode_to(bytes, text);
    return body + text;
}

std::string why_malformed(std::string_view text) {
    const ParsedToken parsed = parse_token(text);
    const auto* failure = std::get_if<TokenFailure>(&parsed);
    EXPECT_NE(failure, nullptr) << text.substr(0, 200);
    if (failure == nullptr) {
        return {};
    }
    EXPECT_EQ(failure->error, TokenError::malformed) << text.substr(0, 200);
    EXPECT_FALSE(failure->why.empty());
    return failure->why;
}

TEST(OpaqueToken, KnownAnswer) {
    EXPECT_EQ(opaque_text(),
              "ak_live_0DnESdQIo1HMluBLrtQcv1b5fXN_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0TayJS");
}

TEST(OpaqueToken, RoundTrip) {
    for (const std::int32_t generation : {1, 2, 255, 256, INT_MAX}) {
        for (const std::string_view environment : {"a", "live", "0123456789abcdef"}) {
            const std::string text = opaque_text(generation, environment);
            const ParsedToken parsed = parse_token(text);
            ASSERT_TRUE(std::holds_alternative<OpaqueToken>(parsed)) << text;
            const auto& token = std::get<OpaqueToken>(parsed);
            EXPECT_EQ(token.environment, environment);
            EXPECT_EQ(token.key_id, example_id);
            EXPECT_EQ(token.generation, generation);
        }
    }
}

TEST(OpaqueToken, EverySingleCharacterChangeIsRefused) {
    const std::string text = opaque_text();
    for (std::size_t i = 0; i < text.size(); ++i) {
        for (int c = 0; c < 256; ++c) {
            std::string changed = text;
            changed[i] = static_cast<char>(c);
            ASSERT_EQ(std::holds_alternative<OpaqueToken>(parse_token(changed)), changed == text)
                << i << ' ' << c;
        }
        ASSERT_FALSE(std::holds_alternative<OpaqueToken>(parse_token(text.substr(0, i))));
    }
    ASSERT_FALSE(std::holds_alternative<OpaqueToken>(parse_token(text + '0')));
}

TEST(OpaqueToken, AWrongChecksumIsToldFromAWrongShape) {
    std::string text = opaque_text();
    text[40] = text[40] == 'a' ? 'b' : 'a';
    const ParsedToken parsed = parse_token(text);
    ASSERT_TRUE(std::holds_alternative<TokenFailure>(parsed));
    EXPECT_EQ(std::get<TokenFailure>(parsed).error, TokenError::checksum);
    EXPECT_EQ(why_malformed("ak_"), "too short");
    EXPECT_EQ(why_malformed("ak_live"), "too short");
    EXPECT_EQ(why_malformed("ak_" + std::string(1 << 20, 'A')),
              "environment is not 1 to 16 characters of [a-z0-9]");
}

TEST(OpaqueToken, WhateverFollowsTheTokenIsNamed) {
    const std::string text = opaque_text();
    for (const std::string_view more : {"0", "_", "x", "-suffix", ".", "zzzzzzzzzzzzzzzzzzzzzzzzzzzz"}) {
        EXPECT_EQ(why_malformed(text + std::string(more)), "something follows the token") << more;
        EXPECT_EQ(why_malformed(opaque_text(7, "0123456789abcdef") + std::string(more)),
                  "something follows the token");
    }
    EXPECT_EQ(why_malformed(text + text), "something follows the token");
    // What is in front is no token: the checksum is another one.
    std::string other = text;
    other[40] = other[40] == 'a' ? 'b' : 'a';
    EXPECT_EQ(why_malformed(other + '0'), "environment is not 1 to 16 characters of [a-z0-9]");
}

TEST(OpaqueToken, OnlyCanonicalPartsEvenWithARightChecksum) {
    const std::string id = "0DnESdQIo1HMluBLrtQcv1b5fXN",
                      secret = "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
    EXPECT_EQ(with_checksum("ak_live_" + id + '_' + secret), opaque_text());
    EXPECT_EQ(why_malformed(with_checksum("ak_live_" + std::string(27, 'z') + '_' + secret)),
              "a part is not base62 of its size");
    EXPECT_EQ(why_malformed(with_checksum("ak_live_" + id + '_' + std::string(43, 'z'))),
              "a part is not base62 of its size");
    EXPECT_EQ(why_malformed("ak_live_" + id + '_' + secret + "zzzzzz"), "a part is not base62 of its size");
    EXPECT_EQ(why_malformed(with_checksum("ak_live_" + id + '-' + secret)),
              "the parts do not have their lengths");
    EXPECT_EQ(why_malformed(with_checksum("ak_Live_" + id + '_' + secret)),
              "environment is not 1 to 16 characters of [a-z0-9]");
    EXPECT_EQ(why_malformed(with_checksum("ak__" + id + '_' + secret)), "too short");

    // Generations 0 and 2^31.
    for (const std::uint8_t first : {0x00, 0x80}) {
        Bytes bytes(20);
        bytes[16] = first;
        std::string text(27, '?');
        base62_encode_to(bytes, text);
        EXPECT_EQ(why_malformed(with_checksum("ak_live_" + text + '_' + secret)), "generation out of range");
    }
}

TEST(OpaqueToken, MakeRefusesWhatParseWould) {
    EXPECT_THROW(make_opaque("", {}, 1, {}), InvalidArgument);
    EXPECT_THROW(make_opaque("Live", {}, 1, {}), InvalidArgument);
    EXPECT_THROW(make_opaque("a_b", {}, 1, {}), InvalidArgument);
    EXPECT_THROW(make_opaque("0123456789abcdef0", {}, 1, {}), InvalidArgument);
    EXPECT_THROW(make_opaque("live", {}, 0, {}), InvalidArgument);
    EXPECT_THROW(make_opaque("live", {}, -1, {}), InvalidArgument);
}

}  // namespace
}  // namespace apikey::core
