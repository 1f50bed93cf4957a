#include "core/uuid.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <type_traits>

namespace apikey::core {
namespace {

using std::chrono::microseconds;
using Time = std::chrono::sys_time<microseconds>;

static_assert(std::is_trivially_copyable_v<Uuid> && sizeof(Uuid) == 16);

TEST(Uuid, TextRoundTrip) {
    const std::string_view text = "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e";
    const auto id = uuid_from_string(text);
    ASSERT_TRUE(id);
    EXPECT_EQ(to_string(*id), text);
    EXPECT_EQ(id->bytes[0], 0x01);
    EXPECT_EQ(id->bytes[15], 0x7e);
}

TEST(Uuid, RefusesEveryOtherForm) {
    for (const std::string_view text :
         {"", "018f2d5e7c4a7b3c8d1e2f3a4b5c6d7e", "{018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e}",
          "018F2D5E-7C4A-7B3C-8D1E-2F3A4B5C6D7E", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e0", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7g",
          "018f2d5e07c4a-7b3c-8d1e-2f3a4b5c6d7e", "-18f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7 ", " 018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e"}) {
        EXPECT_EQ(uuid_from_string(text), std::nullopt) << text;
    }
}

// The example of RFC 9562 appendix A.6, whose rand_a is not a fraction: time and fixed bits are compared, and
// rand_b.
TEST(Uuid, Version7LaysItsFieldsOutAsInRfc9562) {
    const Uuid id = uuid_v7(Time(microseconds(0x017F22E279B0LL * 1000)),
                            {0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F});
    EXPECT_EQ(to_string(id), "017f22e2-79b0-7000-98c4-dc0c0c07398f");
}

TEST(Uuid, Version7AndVariantWhateverTheRandomBits) {
    for (const std::uint8_t fill : {0x00, 0xff}) {
        std::array<std::uint8_t, 8> random;
        random.fill(fill);
        const Uuid id = uuid_v7(Time(microseconds(1'700'000'000'123'999)), random);
        EXPECT_EQ(id.bytes[6] >> 4, 7);
        EXPECT_EQ(id.bytes[8] >> 6, 2);
        EXPECT_EQ(id.bytes[9], fill);
    }
}

// RFC 9562 section 6.2, method 3: all thousand microseconds of one millisecond are told apart and sort.
TEST(Uuid, Version7SortsWithinAMillisecond) {
    std::set<Uuid> seen;
    Uuid before = uuid_v7(Time(microseconds(1'700'000'000'000'000 - 1)), {});
    for (int i = 0; i <= 1000; ++i) {
        const Uuid id = uuid_v7(Time(microseconds(1'700'000'000'000'000 + i)), {});
        EXPECT_LT(before, id);
        seen.insert(id);
        before = id;
    }
    EXPECT_EQ(seen.size(), 1001u);
    EXPECT_EQ(to_string(uuid_v7(Time(microseconds(999)), {})), "00000000-0000-7ffb-8000-000000000000");
    EXPECT_EQ(to_string(uuid_v7(Time(microseconds(500)), {})), "00000000-0000-7800-8000-000000000000");
}

TEST(Uuid, Version7BeforeTheEpochStillSorts) {
    EXPECT_LT(uuid_v7(Time(microseconds(-1500)), {}), uuid_v7(Time(microseconds(-1)), {}));
}

}  // namespace
}  // namespace apikey::core
