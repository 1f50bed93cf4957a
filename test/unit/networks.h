#pragma once

#include "core/network.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include <gtest/gtest.h>

/** Networks from their first bytes. */
namespace apikey::core {

inline Network make(Network::Family family, std::initializer_list<int> leading_bytes, int prefix_length) {
    Network network;
    network.family = family;
    network.prefix_length = static_cast<std::uint8_t>(prefix_length);
    std::transform(leading_bytes.begin(), leading_bytes.end(), network.address.begin(),
                   [](int byte) { return static_cast<std::uint8_t>(byte); });
    return network;
}

inline Network v4(std::initializer_list<int> bytes, int prefix_length = 32) {
    return make(Network::Family::ipv4, bytes, prefix_length);
}

inline Network v6(std::initializer_list<int> leading_bytes, int prefix_length = 128) {
    return make(Network::Family::ipv6, leading_bytes, prefix_length);
}

inline Network mapped(int a, int b, int c, int d, int prefix_length = 128) {
    return v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, prefix_length);
}

inline void expect_same(const Network& a, const Network& b) {
    EXPECT_EQ(a.family, b.family);
    EXPECT_EQ(a.prefix_length, b.prefix_length);
    EXPECT_EQ(a.address, b.address);
}

}  // namespace apikey::core
