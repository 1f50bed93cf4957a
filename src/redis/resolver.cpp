#include "redis/resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>

#include "redis/errors.h"

namespace apikey::redis {
namespace {

constexpr std::size_t max_addresses = 4;
constexpr std::chrono::seconds trust{30};

struct Lookup {
    int error = 0;
    std::vector<std::string> addresses;
};

Lookup look_up(const std::string& host, int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    addrinfo* list = nullptr;
    Lookup lookup;
    lookup.error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (lookup.error != 0) {
        return lookup;
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    for (const addrinfo* found = list; found != nullptr && lookup.addresses.size() < max_addresses;
         found = found->ai_next) {
        std::array<char, NI_MAXHOST> text{};
        if (getnameinfo(found->ai_addr, found->ai_addrlen, text.data(), text.size(), nullptr, 0,
                        NI_NUMERICHOST) == 0 &&
            std::find(lookup.addresses.begin(), lookup.addresses.end(), text.data()) ==
                lookup.addresses.end()) {
            lookup.addresses.emplace_back(text.data());
        }
    }
    return lookup;
}

}  // namespace

std::vector<std::string> Resolver::addresses(const std::string& host) {
    Lookup numeric = look_up(host, AI_NUMERICHOST);
    if (!numeric.addresses.empty()) {
        return std::move(numeric.addresses);
    }
    const auto known = last_good_.find(host);
    if (known != last_good_.end() && Clock::now() < known->second.trusted_until) {
        return {known->second.address};
    }
    Lookup lookup = look_up(host, AI_ADDRCONFIG);
    if (!lookup.addresses.empty()) {
        return std::move(lookup.addresses);
    }
    if (known != last_good_.end()) {
        known->second.trusted_until = Clock::now() + trust;
        return {known->second.address};
    }
    const char* why = lookup.error == 0 ? "it has no address" : gai_strerror(lookup.error);
    throw LinkError("Redis at " + host + ": the name could not be looked up: " + why);
}

}  // namespace apikey::redis
