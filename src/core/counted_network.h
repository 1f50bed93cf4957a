#pragma once

#include "core/network.h"

namespace apikey::core {

/**
 * What a client counts by, with the bits of no host: its IPv4 address, also where its IPv6 address embeds
 * that one (mapped, RFC 4291; translated, RFC 2765, 6052 and 8215; 6to4; Teredo), else its /64, which one
 * subscriber mostly has to himself. The prefix length of `client` counts for nothing. For counting only:
 * contains() takes no embedded address but a mapped one for the IPv4 address.
 */
Network counted_network(const Network& client);

}  // namespace apikey::core
