#include "core/network.h"

#include <algorithm>
#include <cstddef>

namespace apikey::core {
namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int mapped_prefix_bits = 96;

constexpr int address_bits(Network::Family family) {
    return family == Network::Family::ipv4 ? 32 : 128;
}

/** A length that its family cannot have would read beyond the address; such a network contains nothing and is
 * in none. */
bool is_valid(const Network& network) {
    return network.prefix_length <= address_bits(network.family);
}

bool same_leading_bits(const Network& a, const Network& b, int bits) {
    const auto whole_bytes = static_cast<std::size_t>(bits / 8);
    if (!std::equal(a.address.begin(), a.address.begin() + whole_bytes, b.address.begin())) {
        return false;
    }
    const int rest = bits % 8;
    return rest == 0 || ((a.address[whole_bytes] ^ b.address[whole_bytes]) >> (8 - rest)) == 0;
}

}  // namespace

Network unmapped(const Network& network) {
    // A shorter prefix than the mapped one's own covers addresses that are not mapped.
    if (network.family != Network::Family::ipv6 || !is_valid(network) ||
        network.prefix_length < mapped_prefix_bits ||
        !std::equal(mapped_prefix.begin(), mapped_prefix.end(), network.address.begin())) {
        return network;
    }
    Network ipv4;
    ipv4.family = Network::Family::ipv4;
    ipv4.prefix_length = static_cast<std::uint8_t>(network.prefix_length - mapped_prefix_bits);
    std::copy(network.address.begin() + mapped_prefix.size(), network.address.end(), ipv4.address.begin());
    return ipv4;
}

Network client_group(const Network& client) {
    constexpr int group_bits = 64;
    Network group = unmapped(client);
    if (group.family == Network::Family::ipv6 && group.prefix_length > group_bits) {
        group.prefix_length = group_bits;
        std::fill(group.address.begin() + group_bits / 8, group.address.end(), std::uint8_t{0});
    }
    return group;
}

bool contains(const Network& outer, const Network& inner) {
    const Network wide = unmapped(outer);
    const Network narrow = unmapped(inner);
    return wide.family == narrow.family && is_valid(wide) && is_valid(narrow) &&
           wide.prefix_length <= narrow.prefix_length && same_leading_bits(wide, narrow, wide.prefix_length);
}

bool contains_any(std::span<const Network> networks, const Network& client) {
    return std::any_of(networks.begin(), networks.end(),
                       [&client](const Network& network) { return contains(network, client); });
}

}  // namespace apikey::core
