#include "core/counted_network.h"

#include <gtest/gtest.h>

#include "networks.h"

namespace apikey::core {
namespace {

TEST(CountedNetwork, CountsByTheIpv4AddressOrTheSlash64) {
    expect_same(counted_network(v4({192, 0, 2, 1})), v4({192, 0, 2, 1}));
    expect_same(counted_network(v4({192, 0, 2, 1}, 24)), v4({192, 0, 2, 1}));
    const Network subscriber = v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2}, 64);
    expect_same(counted_network(v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10})),
                subscriber);
    expect_same(counted_network(v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 255}, 32)), subscriber);
    expect_same(counted_network(v6({})), v6({}, 64));
}

TEST(CountedNetwork, CountsByAnEmbeddedIpv4Address) {
    const Network client = v4({192, 0, 2, 33});
    for (const int prefix_length : {128, 96, 64, 0}) {
        expect_same(counted_network(mapped(192, 0, 2, 33, prefix_length)), client);
    }
    const Network translated = v6({0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 192, 0, 2, 33});
    const Network well_known = v6({0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 33});
    const Network local = v6({0, 0x64, 0xff, 0x9b, 0, 1, 0xff, 0xfe, 0, 0, 0, 0, 192, 0, 2, 33});
    const Network six_to_four = v6({0x20, 0x02, 192, 0, 2, 33, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8});
    // RFC 4380 section 4: server 65.54.227.120, flags, port 40000, and the client, each bit inverted.
    const Network teredo =
        v6({0x20, 0x01, 0, 0, 0x41, 0x36, 0xe3, 0x78, 0x80, 0, 0x63, 0xbf, 0x3f, 0xff, 0xfd, 0xd2});
    for (const Network& network : {translated, well_known, local, six_to_four}) {
        expect_same(counted_network(network), client);
    }
    expect_same(counted_network(teredo), v4({192, 0, 2, 45}));
}

TEST(CountedNetwork, CountsApartBelowAPrefixOfTheSitesOwn) {
    // RFC 6052 section 2.2, below 64:ff9b:1::/48 and 64:ff9b:1:0::/64: where 192.0.2.33 is, only the site
    // knows.
    const Network in_48 = v6({0, 0x64, 0xff, 0x9b, 0, 1, 192, 0, 0, 2, 33});
    const Network in_64 = v6({0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 192, 0, 2, 33});
    expect_same(counted_network(in_48), in_48);
    expect_same(counted_network(in_64), in_64);
}

TEST(CountedNetwork, WhatOnlyLooksLikeAnEmbeddedAddressCountsByTheSlash64) {
    const Network neighbours[] = {
        v6({0, 0x64, 0xff, 0x9b, 0, 0, 0, 1, 0, 0, 0, 0, 192, 0, 2, 33}),
        v6({0, 0x64, 0xff, 0x9b, 0, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 33}),
        v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 33}),
        v6({0x20, 0x01, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 33}),
        v6({0x20, 0x03, 192, 0, 2, 33}),
    };
    for (const Network& network : neighbours) {
        EXPECT_EQ(counted_network(network).family, Network::Family::ipv6);
        EXPECT_EQ(counted_network(network).prefix_length, 64);
    }
    // Which may use a key is another matter.
    const Network six_to_four = v6({0x20, 0x02, 192, 0, 2, 33});
    EXPECT_FALSE(contains(v4({192, 0, 2, 33}), six_to_four));
}

}  // namespace
}  // namespace apikey::core
