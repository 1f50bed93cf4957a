#include "core/crc32.h"

#include <gtest/gtest.h>

#include <string>

namespace apikey::core {
namespace {

TEST(Crc32, CheckValue) {
    EXPECT_EQ(crc32(bytes_of("123456789")), 0xCBF43926u);
}

TEST(Crc32, Empty) {
    EXPECT_EQ(crc32({}), 0u);
}

TEST(Crc32, FindsEveryChangeOfOneByte) {
    const std::string text = "ak_live_0DnESdQIo1HMluBLrtQcv1b5fXN";
    const std::uint32_t right = crc32(bytes_of(text));
    for (std::size_t i = 0; i < text.size(); ++i) {
        for (int difference = 1; difference < 256; ++difference) {
            std::string changed = text;
            changed[i] = static_cast<char>(changed[i] ^ difference);
            ASSERT_NE(crc32(bytes_of(changed)), right);
        }
    }
}

}  // namespace
}  // namespace apikey::core
