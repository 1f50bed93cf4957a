#include "core/label.h"

#include <gtest/gtest.h>

#include <string>

namespace apikey::core {
namespace {

std::string utf8(unsigned int code_point) {
    std::string text;
    if (code_point < 0x800) {
        text += static_cast<char>(0xc0 | code_point >> 6);
    } else {
        text += static_cast<char>(0xe0 | code_point >> 12);
        text += static_cast<char>(0x80 | (code_point >> 6 & 0x3f));
    }
    return text + static_cast<char>(0x80 | (code_point & 0x3f));
}

TEST(Label, IsOneTo255BytesWithoutControlCharacters) {
    EXPECT_TRUE(is_valid_label("acme"));
    EXPECT_TRUE(is_valid_label(std::string(255, 'a')));
    EXPECT_FALSE(is_valid_label(std::string(256, 'a')));
    EXPECT_FALSE(is_valid_label(""));
    for (const char c : {'\0', '\n', '\x1b', '\x7f'}) {
        EXPECT_FALSE(is_valid_label(std::string("a") + c));
    }
    EXPECT_FALSE(is_valid_label(utf8(0x85)));
}

TEST(Label, HasNoBidirectionalControls) {
    unsigned int refused = 0;
    for (unsigned int code_point = 0xa0; code_point <= 0xffff; code_point++) {
        const bool control = code_point == 0x61c || code_point == 0x200e || code_point == 0x200f ||
                             (code_point >= 0x202a && code_point <= 0x202e) ||
                             (code_point >= 0x2066 && code_point <= 0x2069);
        ASSERT_EQ(is_valid_label("a" + utf8(code_point) + "b"), !control) << std::hex << code_point;
        ASSERT_EQ(is_valid_label(utf8(code_point)), !control) << std::hex << code_point;
        refused += control ? 1 : 0;
    }
    EXPECT_EQ(refused, 12U);
}

TEST(Label, TakesNamesThatAreWrittenFromRightToLeftAndCutOffSequences) {
    EXPECT_TRUE(is_valid_label("\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d"));  // Hebrew
    EXPECT_TRUE(is_valid_label("\xd8\xb3\xd9\x84\xd8\xa7\xd9\x85"));  // Arabic
    EXPECT_TRUE(is_valid_label("\xd8"));
    EXPECT_TRUE(is_valid_label("\xe2\x80"));
}

}  // namespace
}  // namespace apikey::core
