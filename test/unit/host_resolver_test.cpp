#include "core/host_resolver.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

using Addresses = std::vector<std::string>;

constexpr HostResolver::Clock::time_point start{};

/** A resolver whose names are these, and which counts how often it was asked for one. */
struct Names {
    Addresses addresses;
    int asked = 0;
    HostResolver resolver{[this](const std::string& host, bool numeric) -> HostAddresses {
        if (numeric) {
            return look_up_host(host, true);
        }
        asked++;
        return {addresses, addresses.empty() ? "no answer" : ""};
    }};
    Addresses operator()(HostResolver::Clock::time_point now = start) {
        return resolver.addresses("redis.example", now).addresses;
    }
};

TEST(HostResolver, NumericAddressesAreNotLookedUp) {
    Names names;
    EXPECT_EQ(names.resolver.addresses("127.0.0.1", start).addresses, (Addresses{"127.0.0.1"}));
    EXPECT_EQ(names.resolver.addresses("::1", start).addresses, (Addresses{"::1"}));
    EXPECT_EQ(names.asked, 0);
}

TEST(HostResolver, NamesAreAskedForEachTime) {
    Names names;
    names.addresses = {"10.0.0.1", "10.0.0.2"};
    EXPECT_EQ(names(), (Addresses{"10.0.0.1", "10.0.0.2"}));
    names.resolver.worked("redis.example", "10.0.0.2");
    names.addresses = {"10.0.0.3"};
    EXPECT_EQ(names(), (Addresses{"10.0.0.3"}));
    EXPECT_EQ(names.asked, 2);
}

TEST(HostResolver, WhatWorkedLastDoesWhereTheLookUpFails) {
    Names names;
    EXPECT_EQ(names.resolver.addresses("redis.example", start).error, "no answer");
    names.addresses = {"10.0.0.1", "10.0.0.2"};
    names();
    names.resolver.worked("redis.example", "10.0.0.2");
    names.addresses = {};
    EXPECT_EQ(names(), (Addresses{"10.0.0.2"}));
    EXPECT_EQ(names.resolver.addresses("other.example", start).addresses, Addresses{}) << "another host's";
}

TEST(HostResolver, AfterAFailureTheNameIsLeftAloneForAWhile) {
    Names names;
    names.addresses = {"10.0.0.1"};
    names();
    names.resolver.worked("redis.example", "10.0.0.1");
    names.addresses = {};
    names();
    const int asked = names.asked;
    names.addresses = {"10.0.0.9"};
    EXPECT_EQ(names(start + HostResolver::trust - std::chrono::seconds(1)), (Addresses{"10.0.0.1"}));
    EXPECT_EQ(names.asked, asked);
    EXPECT_EQ(names(start + HostResolver::trust), (Addresses{"10.0.0.9"}));
}

TEST(HostResolver, TheSystem) {
    EXPECT_FALSE(look_up_host("localhost", false).addresses.empty());
    const HostAddresses none = look_up_host("a..b", false);
    EXPECT_TRUE(none.addresses.empty());
    EXPECT_NE(none.error, "");
    EXPECT_TRUE(look_up_host("localhost", true).addresses.empty());
}

}  // namespace
}  // namespace apikey::core
