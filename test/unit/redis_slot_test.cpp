#include "core/redis_slot.h"

#include <string>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

/** The check value of CRC-16/XMODEM is 0x31C3; the others are what Redis itself answers to CLUSTER KEYSLOT.
 */
TEST(RedisSlot, KnownValues) {
    EXPECT_EQ(redis_slot("123456789"), 0x31C3 % redis_slots);
    EXPECT_EQ(redis_slot("foo"), 12182);
    EXPECT_EQ(redis_slot("bar"), 5061);
    EXPECT_EQ(redis_slot(""), 0);
}

TEST(RedisSlot, TheHashTagDecides) {
    EXPECT_EQ(redis_slot("{ak:x:0}:rev"), redis_slot("ak:x:0"));
    EXPECT_EQ(redis_slot("{ak:x:0}:rev"), redis_slot("{ak:x:0}:meta"));
    EXPECT_EQ(redis_slot("before{tag}after{other}"), redis_slot("tag"));
    EXPECT_EQ(redis_slot("{{tag}}"), redis_slot("{tag"));
}

TEST(RedisSlot, WhereThereIsNoTagAllOfItDoes) {
    EXPECT_NE(redis_slot("a{}b"), redis_slot(""));
    EXPECT_NE(redis_slot("a{}{b}"), redis_slot("b"));
    EXPECT_NE(redis_slot("a{b"), redis_slot("b"));
    EXPECT_NE(redis_slot("a}b{"), redis_slot("b"));
}

TEST(RedisSlot, AnyBytes) {
    const std::string bytes("\x00\xff{\x80\x00}\x7f", 7);
    EXPECT_EQ(redis_slot(bytes), redis_slot(std::string("\x80\x00", 2)));
}

}  // namespace
}  // namespace apikey::core
