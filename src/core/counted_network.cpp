#include "core/counted_network.h"

#include <algorithm>
#include <cstddef>

namespace apikey::core {
namespace {

/** Local-use translation (RFC 8215): each site has a prefix of its own in there, of 48, 56, 64 or 96 bits. */
constexpr std::array<std::uint8_t, 6> local_translation_prefix = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};

/** A prefix below which addresses embed an IPv4 address, and where. */
struct Embedding {
    std::array<std::uint8_t, 12> prefix;
    std::size_t prefix_bytes;
    std::size_t position;
    std::uint8_t inverted;  ///< each byte of it is XORed with this
};

constexpr std::array<Embedding, 5> embeddings = {{
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 12, 12, 0},  // ::ffff:a.b.c.d, mapped (RFC 4291)
    {{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 12, 12, 0},        // ::ffff:0:a.b.c.d, translated (RFC 2765)
    {{0x00, 0x64, 0xff, 0x9b}, 12, 12, 0},                    // 64:ff9b::/96, translated (RFC 6052)
    {{0x20, 0x02}, 2, 2, 0},                                  // 2002::/16, 6to4 (RFC 3056)
    {{0x20, 0x01, 0, 0}, 4, 12, 0xff},                        // 2001::/32, the client of Teredo (RFC 4380)
}};

/** The four bytes from `position` on, as the address that they are. */
Network ipv4_at(const Network& network, std::size_t position, std::uint8_t inverted) {
    Network ipv4;
    for (std::size_t i = 0; i < 4; i++) {
        ipv4.address[i] = network.address[position + i] ^ inverted;
    }
    return ipv4;
}

template <std::size_t size>
bool begins_with(const Network& network, const std::array<std::uint8_t, size>& prefix,
                 std::size_t bytes = size) {
    return std::equal(prefix.begin(), prefix.begin() + bytes, network.address.begin());
}

}  // namespace

Network counted_network(const Network& client) {
    if (client.family == Network::Family::ipv4) {
        return ipv4_at(client, 0, 0);
    }
    for (const Embedding& embedding : embeddings) {
        if (begins_with(client, embedding.prefix, embedding.prefix_bytes)) {
            return ipv4_at(client, embedding.position, embedding.inverted);
        }
    }
    Network counted = client;
    counted.prefix_length = 64;
    if (begins_with(client, local_translation_prefix)) {
        // Below a prefix of 96 bits, the usual one, the last four bytes. Below a shorter one the last three
        // are zero, and where the address begins only the site knows: then it counts as it is, and still
        // alone.
        if (client.address[13] != 0 || client.address[14] != 0 || client.address[15] != 0) {
            return ipv4_at(client, 12, 0);
        }
        counted.prefix_length = 128;
        return counted;
    }
    std::fill(counted.address.begin() + 8, counted.address.end(), std::uint8_t{0});
    return counted;
}

}  // namespace apikey::core
