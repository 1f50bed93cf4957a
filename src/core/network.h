#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace apikey::core {

/** An IPv4 or IPv6 address or network. Trivially copyable. */
struct Network {
    enum class Family : std::uint8_t { ipv4 = 4, ipv6 = 6 };
    Family family = Family::ipv4;
    std::uint8_t prefix_length = 32;
    std::array<std::uint8_t, 16> address{};  ///< network byte order; IPv4 uses the first four
};

/** The most networks that a key may be bound to: they are read, and looked through, before the token has
 * proven anything. The table's CHECK says the same. */
inline constexpr int max_client_networks = 256;

/** An IPv4-mapped IPv6 address (::ffff:a.b.c.d/96+n) as the IPv4 one it stands for; anything else unchanged.
 */
Network unmapped(const Network& network);

/** What counts as one client: an IPv4 address, or a whole IPv6 /64, which one subscriber mostly has. A wider
 * network stays as it is. */
Network client_group(const Network& client);

/** Is every address of `inner` inside `outer`? Families differ: no. Mapped addresses count as IPv4. */
bool contains(const Network& outer, const Network& inner);

bool contains_any(std::span<const Network> networks, const Network& client);

}  // namespace apikey::core
