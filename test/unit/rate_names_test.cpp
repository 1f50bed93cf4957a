#include "core/rate_names.h"

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

TEST(RateNames, WhoCountsAndWhatIsCounted) {
    EXPECT_EQ(rate_address_subject(0x0123456789abcdef, 0xa), "ip-0123456789abcdef000000000000000a");
    EXPECT_EQ(rate_address_subject(0xffffffffffffffff, 0), "ip-ffffffffffffffff0000000000000000");
    EXPECT_EQ(rate_field(18446744073709551615U, 4294967295U, 1),
              "18446744073709551615-4294967295:0000000000000001");
    EXPECT_EQ(rate_field(1, 5, 0xfedcba9876543210), "1-5:fedcba9876543210");
}

}  // namespace
}  // namespace apikey::core
