#include "core/host_resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>

namespace apikey::core {
namespace {

constexpr std::size_t max_addresses = 4;

}  // namespace

HostAddresses look_up_host(const std::string& host, bool numeric) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = numeric ? AI_NUMERICHOST : AI_ADDRCONFIG;
    addrinfo* list = nullptr;
    HostAddresses result;
    const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (error != 0) {
        result.error = gai_strerror(error);
        return result;
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    for (const addrinfo* found = list; found != nullptr && result.addresses.size() < max_addresses;
         found = found->ai_next) {
        std::array<char, NI_MAXHOST> text{};
        if (getnameinfo(found->ai_addr, found->ai_addrlen, text.data(), text.size(), nullptr, 0,
                        NI_NUMERICHOST) == 0 &&
            std::find(result.addresses.begin(), result.addresses.end(), text.data()) ==
                result.addresses.end()) {
            result.addresses.emplace_back(text.data());
        }
    }
    if (result.addresses.empty()) {
        result.error = "it has no address";
    }
    return result;
}

HostAddresses HostResolver::addresses(const std::string& host, Clock::time_point now) {
    HostAddresses numeric = look_up_(host, true);
    if (!numeric.addresses.empty()) {
        return numeric;
    }
    const auto known = last_good_.find(host);
    if (known != last_good_.end() && now < known->second.trusted_until) {
        return {{known->second.address}, {}};
    }
    HostAddresses found = look_up_(host, false);
    if (found.addresses.empty() && known != last_good_.end()) {
        known->second.trusted_until = now + trust;
        return {{known->second.address}, {}};
    }
    return found;
}

}  // namespace apikey::core
