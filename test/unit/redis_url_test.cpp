#include "core/redis_url.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace apikey::core {
namespace {

using Kind = RedisUrl::Kind;
using Endpoints = std::vector<RedisEndpoint>;

std::string refusal(std::string_view text) {
    try {
        parse_redis_url(text);
    } catch (const InvalidArgument& error) {
        return error.what();
    }
    return {};
}

TEST(RedisUrl, OneServer) {
    const RedisUrl url = parse_redis_url("redis://redis.example");
    EXPECT_EQ(url.kind, Kind::single);
    EXPECT_FALSE(url.tls);
    EXPECT_EQ(url.endpoints, (Endpoints{{"redis.example", 6379}}));
    EXPECT_EQ(url.user, "");
    EXPECT_EQ(url.database, 0);
}

TEST(RedisUrl, Everything) {
    const RedisUrl url = parse_redis_url("rediss://mirror@10.1.2.3:7000/12");
    EXPECT_EQ(url.kind, Kind::single);
    EXPECT_TRUE(url.tls);
    EXPECT_EQ(url.endpoints, (Endpoints{{"10.1.2.3", 7000}}));
    EXPECT_EQ(url.user, "mirror");
    EXPECT_EQ(url.database, 12);
}

TEST(RedisUrl, AddressesOfIpv6) {
    EXPECT_EQ(parse_redis_url("redis://[::1]").endpoints, (Endpoints{{"::1", 6379}}));
    EXPECT_EQ(parse_redis_url("redis://[fe80::1%eth0]:7000/0").endpoints,
              (Endpoints{{"fe80::1%eth0", 7000}}));
    for (const char* wrong : {"redis://::1", "redis://[::1", "redis://[]", "redis://[::1]7000",
                              "redis://[::1]:", "redis://[host]"}) {
        EXPECT_NE(refusal(wrong), "") << wrong;
    }
}

TEST(RedisUrl, Sockets) {
    const RedisUrl url = parse_redis_url("unix:///run/redis/redis.sock?db=3");
    EXPECT_EQ(url.kind, Kind::unix_socket);
    EXPECT_EQ(url.path, "/run/redis/redis.sock");
    EXPECT_EQ(url.database, 3);
    EXPECT_TRUE(url.endpoints.empty());
    EXPECT_EQ(parse_redis_url("unix://mirror@/run/redis.sock").user, "mirror");
    for (const char* wrong : {"unix://", "unix:///", "unix://run/redis.sock",
                              "unix:///a?db=", "unix:///a?db=-1", "unix:///a?password=x", "unix:///a?",
                              "unix:///a?db=1&x", "unix:///a b", "unix:///a%20b", "unix:///a#b"}) {
        EXPECT_NE(refusal(wrong), "") << wrong;
    }
    EXPECT_EQ(refusal("unix:///" + std::string(106, 'a')), "");
    EXPECT_NE(refusal("unix:///" + std::string(107, 'a')), "");
}

TEST(RedisUrl, Sentinels) {
    const RedisUrl url = parse_redis_url("sentinels://mirror@one,two:26380,[::1]/my-master/2");
    EXPECT_EQ(url.kind, Kind::sentinel);
    EXPECT_TRUE(url.tls);
    EXPECT_EQ(url.endpoints, (Endpoints{{"one", 26379}, {"two", 26380}, {"::1", 26379}}));
    EXPECT_EQ(url.master_name, "my-master");
    EXPECT_EQ(url.database, 2);
    EXPECT_EQ(url.user, "mirror");
    for (const char* wrong :
         {"sentinel://one", "sentinel://one/", "sentinel://one/name/", "sentinel://one/name/x",
          "sentinel://,one/name", "sentinel://one,/name", "sentinel:///name", "sentinel://one/na me"}) {
        EXPECT_NE(refusal(wrong), "") << wrong;
    }
}

TEST(RedisUrl, Clusters) {
    const RedisUrl url = parse_redis_url("cluster://one:7000,two");
    EXPECT_EQ(url.kind, Kind::cluster);
    EXPECT_FALSE(url.tls);
    EXPECT_EQ(url.endpoints, (Endpoints{{"one", 7000}, {"two", 6379}}));
    EXPECT_TRUE(parse_redis_url("clusters://one").tls);
    EXPECT_NE(refusal("cluster://one/1"), "");
    EXPECT_EQ(refusal("cluster://one/"), "");
}

TEST(RedisUrl, RefusesWhatIsWrong) {
    for (const char* wrong : {"",
                              "redis",
                              "redis:",
                              "redis:/",
                              "redis://",
                              "redis:///",
                              "redis://:6379",
                              "http://host",
                              "REDIS://host",
                              " redis://host",
                              "redis://host ",
                              "redis://host:",
                              "redis://host:0",
                              "redis://host:65536",
                              "redis://host:06379",
                              "redis://host:6379x",
                              "redis://host/x",
                              "redis://host/-1",
                              "redis://host/65536",
                              "redis://host/1/2",
                              "redis://host?db=1",
                              "redis://host#1",
                              "redis://a,b",
                              "redis://@host",
                              "redis://us er@host",
                              "redis://user@",
                              "redis://host\n",
                              "redis://ho\x01st"}) {
        EXPECT_NE(refusal(wrong), "") << wrong;
    }
}

TEST(RedisUrl, APasswordIsRefusedAndNotQuoted) {
    for (const char* with_password :
         {"redis://user:s3cret@host", "redis://:s3cret@host", "redis://u:s3cret@x@host",
          "unix://user:s3cret@/run/redis.sock", "sentinel://:s3cret@one,two/name", "cluster://a:s3cret@one",
          "rediss://user:s3cret@host:7000/1"}) {
        const std::string why = refusal(with_password);
        EXPECT_NE(why.find("apikey.redis_password_file"), std::string::npos) << with_password;
    }
    for (const char* odd :
         {"redis://user:s3cret@host", "redis://host:s3cret", "redis://u:s3/cret@host", "redis://s3cret host",
          "s3cret", "redis://host/s3cret", "unix:///a?password=s3cret", "sentinel://a/s3 cret"}) {
        EXPECT_NE(refusal(odd), "") << odd;
        EXPECT_EQ(refusal(odd).find("s3"), std::string::npos) << odd;
    }
}

TEST(RedisUrl, WhatAServerSaysOfAnother) {
    EXPECT_EQ(make_redis_endpoint("10.0.0.1", "6379"), (RedisEndpoint{"10.0.0.1", 6379}));
    EXPECT_EQ(make_redis_endpoint("::1", "1"), (RedisEndpoint{"::1", 1}));
    EXPECT_FALSE(make_redis_endpoint("", "6379"));
    EXPECT_FALSE(make_redis_endpoint("a b", "6379"));
    EXPECT_FALSE(make_redis_endpoint("a\n", "6379"));
    EXPECT_FALSE(make_redis_endpoint("a", ""));
    EXPECT_FALSE(make_redis_endpoint("a", "0"));
    EXPECT_FALSE(make_redis_endpoint("a", "65536"));
}

TEST(RedisNamespace, Names) {
    EXPECT_TRUE(is_valid_redis_namespace("7123456789012345678-16384"));
    EXPECT_TRUE(is_valid_redis_namespace("Prod_eu.1"));
    EXPECT_TRUE(is_valid_redis_namespace(std::string(64, 'a')));
    EXPECT_FALSE(is_valid_redis_namespace(std::string(65, 'a')));
    for (const char* wrong : {"", "a b", "a:b", "{a}", "a\n", "\xc3\xa9"}) {
        EXPECT_FALSE(is_valid_redis_namespace(wrong)) << wrong;
    }
}

}  // namespace
}  // namespace apikey::core
