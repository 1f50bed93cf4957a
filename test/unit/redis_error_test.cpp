#include "core/redis_error.h"

#include <string>

#include <gtest/gtest.h>

#include "core/redis_info.h"

namespace apikey::core {
namespace {

using Kind = RedisErrorKind;

TEST(RedisError, OfTheServer) {
    for (const char* text : {
             "READONLY You can't write against a read only replica.",
             "LOADING Redis is loading the dataset in memory",
             "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
             "NOAUTH Authentication required.",
             "WRONGPASS invalid username-password pair or user is disabled.",
             "NOPERM User app has no permissions to run the 'evalsha' command",
             "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "
             "disk.",
             "OOM command not allowed when used memory > 'maxmemory'.",
             "MOVED 3999 127.0.0.1:6381",
             "CLUSTERDOWN Hash slot not served",
             "TRYAGAIN Multiple keys request during rehashing of slot",
         }) {
        EXPECT_EQ(redis_error_kind(text), Kind::of_server) << text;
        EXPECT_NE(explain_redis_error(text), "") << text;
    }
}

TEST(RedisError, OfTheServerWithinAScript) {
    // Since 7.0, and before.
    EXPECT_EQ(redis_error_kind("READONLY You can't write against a read only replica. script: "
                               "6b1bf486c81ceb7edf3c093f4c48582e38c0e791, on "
                               "@user_script:1."),
              Kind::of_server);
    EXPECT_EQ(
        redis_error_kind(
            "ERR Error running script (call to f_6b1bf486c81ceb7edf3c093f4c48582e38c0e791): @user_script:1: "
            "@user_script: 1: -READONLY You can't write against a read only replica. "),
        Kind::of_server);
}

TEST(RedisError, OfTheCommand) {
    for (const char* text :
         {"ERR unknown command 'FOO'", "WRONGTYPE Operation against a key holding the wrong kind of value",
          "AKARG generation", "ERR", "", "READONLYx", "readonly no", "ERR value is not an integer: -1",
          "ERR Error running script (call to f_1): @user_script:1: user_script:1: attempt to index a nil "
          "value"}) {
        EXPECT_EQ(redis_error_kind(text), Kind::of_command) << text;
        EXPECT_EQ(explain_redis_error(text), "") << text;
    }
}

TEST(RedisError, ThatSayToRepeat) {
    EXPECT_EQ(redis_error_kind("NOSCRIPT No matching script. Please use EVAL."), Kind::no_script);
    EXPECT_EQ(redis_error_kind("ASK 3999 127.0.0.1:6381"), Kind::ask);
}

TEST(RedisError, WhereAskSendsTo) {
    EXPECT_EQ(redis_ask_target("ASK 3999 127.0.0.1:6381"), (RedisEndpoint{"127.0.0.1", 6381}));
    EXPECT_EQ(redis_ask_target("ASK 3999 ::1:6381"), (RedisEndpoint{"::1", 6381}));
    EXPECT_EQ(redis_ask_target("ASK 3999 :6381"), (RedisEndpoint{"", 6381}));
    for (const char* wrong : {"ASK", "ASK 3999", "ASK 3999 host", "ASK 3999 host:", "ASK 3999 host:0",
                              "ASK 3999 host:65536", "ASK 3999 host:1x", "", ":1", "ASK 1 ho\x01st:1"}) {
        EXPECT_FALSE(redis_ask_target(wrong)) << wrong;
    }
}

TEST(RedisInfo, Fields) {
    const std::string info =
        "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n\r\n# "
        "Memory\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\nempty:\r\nlast:x";
    EXPECT_EQ(redis_info_field(info, "redis_version"), "7.0.15");
    EXPECT_EQ(redis_info_field(info, "maxmemory_policy"), "noeviction");
    EXPECT_EQ(redis_info_field(info, "last"), "x");
    EXPECT_EQ(redis_info_field(info, "empty"), "");
    EXPECT_EQ(redis_info_field(info, "version"), "") << "a name is a whole one";
    EXPECT_EQ(redis_info_field(info, "max"), "");
    EXPECT_EQ(redis_info_field("", "last"), "");
    EXPECT_EQ(redis_info_number(info, "maxmemory"), 100U);
    EXPECT_EQ(redis_info_number(info, "run_id"), 0U);
    EXPECT_EQ(redis_info_number(info, "no such"), 0U);
    EXPECT_EQ(redis_info_number("n:18446744073709551615", "n"), 18446744073709551615U);
    EXPECT_EQ(redis_info_number("n:18446744073709551616", "n"), 0U);
    EXPECT_EQ(redis_info_number("n:-1", "n"), 0U);
}

}  // namespace
}  // namespace apikey::core
