#include "core/network.h"

#include <vector>

#include <gtest/gtest.h>

#include "networks.h"

namespace apikey::core {
namespace {

TEST(Network, HostPrefixContainsItselfOnly) {
    EXPECT_TRUE(contains(v4({192, 0, 2, 1}), v4({192, 0, 2, 1})));
    EXPECT_FALSE(contains(v4({192, 0, 2, 1}), v4({192, 0, 2, 0})));
    EXPECT_FALSE(contains(v4({192, 0, 2, 1}), v4({64, 0, 2, 1})));
    const Network six = v6({0x20, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    const Network neighbour = v6({0x20, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    EXPECT_TRUE(contains(six, six));
    EXPECT_FALSE(contains(six, neighbour));
}

TEST(Network, ZeroPrefixContainsItsFamilyOnly) {
    EXPECT_TRUE(contains(v4({}, 0), v4({255, 255, 255, 255})));
    EXPECT_TRUE(contains(v4({}, 0), v4({}, 0)));
    EXPECT_TRUE(contains(v6({}, 0), v6({0xfe, 0x80})));
    EXPECT_FALSE(contains(v4({}, 0), v6({0xfe, 0x80})));
    EXPECT_FALSE(contains(v4({}, 0), v6({}, 0)));
    EXPECT_FALSE(contains(v6({}, 0), v4({10})));
}

TEST(Network, EveryPrefixLengthComparesExactlyItsBits) {
    for (const auto family : {Network::Family::ipv4, Network::Family::ipv6}) {
        const int bits = family == Network::Family::ipv4 ? 32 : 128;
        for (int length = 0; length <= bits; ++length) {
            const Network outer = make(family, {0xa5, 0x5a, 0xc3, 0x3c}, length);
            for (int flipped = 0; flipped < bits; ++flipped) {
                Network inner = outer;
                inner.prefix_length = static_cast<std::uint8_t>(bits);
                inner.address[static_cast<std::size_t>(flipped / 8)] ^=
                    static_cast<std::uint8_t>(0x80 >> (flipped % 8));
                ASSERT_EQ(contains(outer, inner), flipped >= length) << length << " " << flipped;
            }
        }
    }
}

TEST(Network, HostBitsOfTheOuterOneCountForNothing) {
    EXPECT_TRUE(contains(v4({10, 1, 2, 3}, 8), v4({10, 200, 0, 0})));
    EXPECT_TRUE(contains(v4({10, 0, 0, 127}, 25), v4({10, 0, 0, 1})));
    EXPECT_FALSE(contains(v4({10, 0, 0, 127}, 25), v4({10, 0, 0, 128})));
}

TEST(Network, AWiderInnerNetworkIsNotInside) {
    EXPECT_TRUE(contains(v4({10}, 8), v4({10, 1}, 16)));
    EXPECT_TRUE(contains(v4({10}, 8), v4({10}, 8)));
    EXPECT_FALSE(contains(v4({10, 1}, 16), v4({10, 1}, 8)));
    EXPECT_FALSE(contains(v4({10}, 32), v4({10}, 31)));
}

TEST(Network, UnmapsFromPrefix96On) {
    expect_same(unmapped(mapped(192, 0, 2, 1)), v4({192, 0, 2, 1}));
    expect_same(unmapped(mapped(192, 0, 2, 0, 120)), v4({192, 0, 2, 0}, 24));
    expect_same(unmapped(mapped(0, 0, 0, 0, 96)), v4({}, 0));
    expect_same(unmapped(mapped(0, 0, 0, 0, 95)), mapped(0, 0, 0, 0, 95));
}

TEST(Network, LeavesOtherAddressesAlone) {
    expect_same(unmapped(v4({10, 1, 2, 3}, 9)), v4({10, 1, 2, 3}, 9));
    // Not mapped: an IPv4-compatible address, a set bit before the ffff, and half a marker.
    const Network compatible = v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1});
    const Network prefixed = v6({0, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1});
    const Network half = v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 192, 0, 2, 1});
    expect_same(unmapped(compatible), compatible);
    expect_same(unmapped(prefixed), prefixed);
    expect_same(unmapped(half), half);
}

TEST(Network, MappedAddressesCountAsIpv4OnEitherSide) {
    EXPECT_TRUE(contains(v4({192, 0, 2, 0}, 24), mapped(192, 0, 2, 77)));
    EXPECT_TRUE(contains(mapped(192, 0, 2, 0, 120), v4({192, 0, 2, 77})));
    EXPECT_TRUE(contains(mapped(192, 0, 2, 0, 120), mapped(192, 0, 2, 77)));
    EXPECT_FALSE(contains(v4({192, 0, 2, 0}, 24), mapped(192, 0, 3, 77)));
    EXPECT_TRUE(contains(v4({}, 0), mapped(192, 0, 2, 77)));
    EXPECT_FALSE(contains(v6({}, 0), mapped(192, 0, 2, 77)));
    EXPECT_FALSE(contains(mapped(0, 0, 0, 0, 95), v4({192, 0, 2, 77})));
    EXPECT_FALSE(contains(v4({}, 0), mapped(0, 0, 0, 0, 95)));
}

TEST(Network, AnImpossiblePrefixContainsNothing) {
    EXPECT_FALSE(contains(v4({10}, 33), v4({10}, 33)));
    EXPECT_FALSE(contains(v4({10}, 8), v4({10}, 33)));
    EXPECT_FALSE(contains(v6({}, 255), v6({}, 255)));
    EXPECT_FALSE(contains(v4({}, 0), mapped(10, 0, 0, 0, 129)));
}

TEST(Network, ContainsAny) {
    const std::vector<Network> networks = {v4({10}, 8), v6({0x20, 0x01, 0x0d, 0xb8}, 32)};
    EXPECT_TRUE(contains_any(networks, v4({10, 9, 8, 7})));
    EXPECT_TRUE(contains_any(networks, v6({0x20, 0x01, 0x0d, 0xb8, 1})));
    EXPECT_FALSE(contains_any(networks, v4({11, 9, 8, 7})));
    EXPECT_FALSE(contains_any({}, v4({10, 9, 8, 7})));
}

TEST(Network, ClientsAreIpv4AddressesAndIpv6SubscriberNetworks) {
    const auto same = [](const Network& a, const Network& b) {
        return a.family == b.family && a.prefix_length == b.prefix_length && a.address == b.address;
    };
    const Network one = v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1});
    const Network other = v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0xff, 0, 0, 0, 0, 0, 0, 9});
    EXPECT_TRUE(same(client_group(one), v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2}, 64)));
    EXPECT_TRUE(same(client_group(one), client_group(other)));
    EXPECT_FALSE(same(client_group(one), client_group(v6({0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 3}))));
    EXPECT_TRUE(same(client_group(v6({0x20, 0x01}, 48)), v6({0x20, 0x01}, 48)));
    EXPECT_TRUE(same(client_group(v4({192, 0, 2, 1})), v4({192, 0, 2, 1})));
    EXPECT_FALSE(same(client_group(v4({192, 0, 2, 1})), client_group(v4({192, 0, 2, 2}))));
    EXPECT_TRUE(same(client_group(mapped(192, 0, 2, 1)), v4({192, 0, 2, 1})));
}

}  // namespace
}  // namespace apikey::core
