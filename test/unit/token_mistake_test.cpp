#include "core/token_mistake.h"

#include <gtest/gtest.h>

#include <string>

#include "core/jws.h"

namespace apikey::core {
namespace {

constexpr std::string_view invisible =
    "an invisible character, such as a zero-width space or a byte order mark";
constexpr std::string_view header = "a word of the HTTP header, such as Bearer, in front";

const std::string token =
    "ak_live_0DnESdQIo1HMluBLrtQcv1b5fXN_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0TayJS";

std::string_view before(std::string_view text) {
    return likely_mistake(std::string(text) + token);
}

std::string_view after(std::string_view text) {
    return likely_mistake(token + std::string(text));
}

std::string_view within(std::string_view text) {
    return likely_mistake(token.substr(0, 20) + std::string(text) + token.substr(20));
}

TEST(TokenMistake, SaysNothingOfWhatATokenIsMadeOf) {
    EXPECT_EQ(likely_mistake(token), "");
    EXPECT_EQ(likely_mistake("password"), "");
    EXPECT_EQ(likely_mistake("eyJ0eXAiOiJhcGlrZXkrand0.e30.AAAA-_"), "");
}

TEST(TokenMistake, NothingThere) {
    EXPECT_EQ(likely_mistake(""), "empty");
    EXPECT_EQ(likely_mistake(" "), "nothing but white space");
    EXPECT_EQ(likely_mistake(" \r\n\xc2\xa0\xe3\x80\x80"), "nothing but white space");
}

TEST(TokenMistake, WhiteSpaceAndLineBreaks) {
    for (const std::string_view blank : {" ", "\t", "\xc2\xa0", "\xe2\x80\x83", "\xe3\x80\x80"}) {
        EXPECT_EQ(before(blank), "white space at the beginning");
        EXPECT_EQ(after(blank), "white space at the end");
        EXPECT_EQ(within(blank), "white space within");
    }
    for (const std::string_view line_break : {"\n", "\r", "\r\n", "\xc2\x85", "\xe2\x80\xa8"}) {
        EXPECT_EQ(before(line_break), "a line break at the beginning");
        EXPECT_EQ(after(line_break), "a line break at the end");
        EXPECT_EQ(within(line_break), "a line break within");
    }
}

TEST(TokenMistake, TheHeaderItCameIn) {
    for (const std::string_view word : {"Bearer ", "bearer ", "BEARER ", "Bearer:", "Authorization: Bearer ",
                                        "token=", "X-API-Key: ", "Basic "}) {
        EXPECT_EQ(before(word), header) << word;
    }
    // Not where it is the beginning of another word.
    EXPECT_EQ(likely_mistake("bearer_of_news"), "");
    EXPECT_EQ(likely_mistake("bearer"), "");
}

TEST(TokenMistake, QuotationMarks) {
    for (const std::string_view mark : {"\"", "'", "`", "\xe2\x80\x9c", "\xe2\x80\x99", "\xc2\xab"}) {
        EXPECT_EQ(before(mark), "a quotation mark at the beginning");
        EXPECT_EQ(after(mark), "a quotation mark at the end");
    }
}

TEST(TokenMistake, InvisibleCharacters) {
    for (const std::string_view c : {"\xe2\x80\x8b", "\xef\xbb\xbf", "\xc2\xad", "\xe2\x80\xae",
                                     "\xe2\x81\xa0", "\xef\xb8\x8f", "\x01", "\x7f", "\x1b"}) {
        EXPECT_EQ(before(c), invisible);
        EXPECT_EQ(within(c), invisible);
        EXPECT_EQ(after(c), invisible);
    }
    EXPECT_EQ(within(std::string_view("\0", 1)), invisible);
}

TEST(TokenMistake, EverythingElse) {
    EXPECT_EQ(after("..."), "cut off, with an ellipsis at the end");
    EXPECT_EQ(after("\xe2\x80\xa6"), "cut off, with an ellipsis at the end");
    EXPECT_EQ(after(","), "a character that no token has at the end");
    EXPECT_EQ(after("%0A"), "a character that no token has");
    // Dash, a letter of another script, an emoji, bytes that are not UTF-8.
    for (const std::string_view c :
         {"\xe2\x80\x93", "\xd0\xb0", "\xf0\x9f\x98\x80", "\xff", "\x80", "\xe2\x80", "%", "+", "/"}) {
        EXPECT_EQ(within(c), "a character that no token has");
    }
    EXPECT_EQ(likely_mistake("018F2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e"),
              "a UUID, such as the id of a key, and no token");
}

TEST(TokenMistake, OfALongTextTheEndsOnly) {
    const std::string text(max_jws_size + 1, 'A');
    EXPECT_EQ(likely_mistake(text), "");
    EXPECT_EQ(likely_mistake(text + '\n'), "a line break at the end");
    EXPECT_EQ(likely_mistake(text + ' ' + text), "");
    EXPECT_EQ(likely_mistake(std::string(1 << 20, ' ')), "white space at the beginning");
}

TEST(TokenMistake, NeverAPartOfTheText) {
    for (int c = 0; c < 256; c++) {
        for (const std::string& text :
             {"QZXQ" + std::string(1, static_cast<char>(c)), static_cast<char>(c) + std::string("QZXQ")}) {
            EXPECT_EQ(likely_mistake(text).find("QZXQ"), std::string_view::npos);
        }
    }
}

}  // namespace
}  // namespace apikey::core
