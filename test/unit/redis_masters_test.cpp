#include "core/redis_masters.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace apikey::core {
namespace {

bool allows(std::string_view list, const char* host, std::uint16_t port = 6379) {
    return RedisMasters(list).allow({host, port});
}

TEST(RedisMasters, AnyServer) {
    for (const char* list : {"", "  ", "\t\n"}) {
        EXPECT_TRUE(allows(list, "10.1.2.3")) << list;
        EXPECT_TRUE(allows(list, "redis.example")) << list;
    }
    EXPECT_TRUE(RedisMasters().allow({"anybody", 1}));
}

TEST(RedisMasters, Hosts) {
    EXPECT_TRUE(allows("one.example, two.example:7000", "one.example"));
    EXPECT_TRUE(allows("one.example, two.example:7000", "ONE.example", 1));
    EXPECT_TRUE(allows("one.example, two.example:7000", "two.example", 7000));
    EXPECT_FALSE(allows("one.example, two.example:7000", "two.example"));
    EXPECT_FALSE(allows("one.example", "one.example.org"));
    EXPECT_FALSE(allows("one.example", "ne.example"));
    EXPECT_FALSE(allows("10.1.2.3", "10.1.2.30"));
    EXPECT_TRUE(allows("[fd00::1]:7000", "fd00:0:0::1", 7000));
    EXPECT_FALSE(allows("[fd00::1]:7000", "fd00::2", 7000));
    EXPECT_TRUE(allows("10.1.2.3", "::ffff:10.1.2.3"));
}

TEST(RedisMasters, Networks) {
    EXPECT_TRUE(allows("10.1.0.0/16", "10.1.255.7", 1));
    EXPECT_FALSE(allows("10.1.0.0/16", "10.2.0.1"));
    EXPECT_TRUE(allows("localhost,10.1.0.0/16", "localhost"));
    EXPECT_FALSE(allows("10.1.0.0/16", "a-name-in.10.1.0.0"));
    EXPECT_TRUE(allows("fd00::/8", "fd12::1"));
    EXPECT_FALSE(allows("fd00::/8", "fe80::1"));
    EXPECT_TRUE(allows("0.0.0.0/0", "192.0.2.1"));
    EXPECT_FALSE(allows("0.0.0.0/0", "::1"));
}

TEST(RedisMasters, RefusesWhatIsWrong) {
    for (const char* list :
         {",", "one,", ",one", "one two", "10.1.0.0/33", "10.1.0.0/", "10.1.0.0/x", "10.1.0.0/-1", "one/8",
          "fd00::/129", "one:0", "one:65536", "fd00::1", "redis://one", "10.1.0.0/16:7000"}) {
        EXPECT_THROW(RedisMasters{list}, InvalidArgument) << list;
    }
}

}  // namespace
}  // namespace apikey::core
