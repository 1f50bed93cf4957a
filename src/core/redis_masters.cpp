#include "core/redis_masters.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/error.h"

namespace apikey::core {
namespace {

constexpr std::size_t max_length = 8192;

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\n";
    const auto first = text.find_first_not_of(blanks);
    return first == std::string_view::npos ? std::string_view()
                                           : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/** Of an address in its usual form; nothing for a name. */
std::optional<Network> address_of(const std::string& text) {
    Network network;
    if (inet_pton(AF_INET, text.c_str(), network.address.data()) == 1) {
        return network;
    }
    network.family = Network::Family::ipv6;
    network.prefix_length = 128;
    return inet_pton(AF_INET6, text.c_str(), network.address.data()) == 1 ? std::optional(unmapped(network))
                                                                          : std::nullopt;
}

/** address/length */
Network parse_network(std::string_view text) {
    const auto slash = text.find('/');
    const std::string_view length = text.substr(slash + 1);
    auto network = address_of(std::string(text.substr(0, slash)));
    unsigned bits = 0;
    const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bits);
    if (!network || length.empty() || error != std::errc() || end != length.data() + length.size() ||
        bits > network->prefix_length) {
        throw InvalidArgument("A network is an address and the length of its prefix, as in 10.1.0.0/16.");
    }
    network->prefix_length = static_cast<std::uint8_t>(bits);
    return *network;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

bool same_host(const std::string& a, const std::string& b) {
    const auto address = address_of(a);
    const auto other = address_of(b);
    return address && other ? contains(*address, *other) : equal_ignoring_case(a, b);
}

}  // namespace

RedisMasters::RedisMasters(std::string_view list) {
    if (trimmed(list).empty()) {
        return;
    }
    if (list.size() > max_length) {
        throw InvalidArgument("At most 8192 bytes.");
    }
    for (;;) {
        const auto comma = list.find(',');
        const std::string_view item = trimmed(list.substr(0, comma));
        if (item.find('/') != std::string_view::npos) {
            networks_.push_back(parse_network(item));
        } else {
            hosts_.push_back(parse_redis_endpoint(item, 0));
        }
        if (comma == std::string_view::npos) {
            return;
        }
        list.remove_prefix(comma + 1);
    }
}

bool RedisMasters::allow(const RedisEndpoint& server) const {
    if (hosts_.empty() && networks_.empty()) {
        return true;
    }
    const auto address = address_of(server.host);
    return (address && contains_any(networks_, *address)) ||
           std::any_of(hosts_.begin(), hosts_.end(), [&server](const RedisEndpoint& host) {
               return (host.port == 0 || host.port == server.port) && same_host(host.host, server.host);
           });
}

}  // namespace apikey::core
