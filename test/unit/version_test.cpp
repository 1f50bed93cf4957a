#include "core/version.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace apikey::core {
namespace {

TEST(Version, NumbersByTheirValue) {
    const std::vector<std::string_view> ascending = {"0.0.9",
                                                     "0.1.0",
                                                     "0.1.1",
                                                     "0.2",
                                                     "0.9.99",
                                                     "0.10.0",
                                                     "1.0",
                                                     "1.0.1",
                                                     "9",
                                                     "10",
                                                     "10.0.99999999999999999999"};
    for (std::size_t i = 0; i < ascending.size(); i++) {
        for (std::size_t j = 0; j < ascending.size(); j++) {
            EXPECT_EQ(compare_versions(ascending[i], ascending[j]), i <=> j)
                << ascending[i] << ' ' << ascending[j];
        }
    }
}

TEST(Version, SameVersionsThatAreWrittenDifferently) {
    EXPECT_TRUE(std::is_eq(compare_versions("1", "1.0.0")));
    EXPECT_TRUE(std::is_eq(compare_versions("0.01", "0.1")));
    EXPECT_TRUE(std::is_eq(compare_versions("", "0")));
}

TEST(Version, OtherPartsAsText) {
    EXPECT_TRUE(std::is_lt(compare_versions("1.0-beta1", "1.0-beta2")));
    EXPECT_FALSE(std::is_eq(compare_versions("unknown", "0.1.0")));
}

}  // namespace
}  // namespace apikey::core
