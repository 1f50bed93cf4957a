#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace apikey::core {

struct HostAddresses {
    std::vector<std::string>
        addresses;      ///< numeric, in the order in which they should be tried; at most four
    std::string error;  ///< why there are none
};

/** getaddrinfo(). `numeric`: the host is an address, or there is none; that needs no network. */
HostAddresses look_up_host(const std::string& host, bool numeric);

/**
 * Addresses of hosts.
 *
 * getaddrinfo() is the one thing that can block a worker, and it cannot be interrupted. It is only asked for
 * names, when a connection is made, and takes as long as /etc/resolv.conf allows: with glibc's defaults 5 s ×
 * 2 attempts for each name server, "options timeout:1 attempts:1" makes that a second. Numeric addresses need
 * none.
 *
 * Where it fails, the address that worked last does, and the name is not asked for again for half a minute.
 */
class HostResolver {
  public:
    using Clock = std::chrono::steady_clock;
    using LookUp = std::function<HostAddresses(const std::string& host, bool numeric)>;

    static constexpr std::chrono::seconds trust{30};

    explicit HostResolver(LookUp look_up = look_up_host) : look_up_(std::move(look_up)) {}

    HostAddresses addresses(const std::string& host, Clock::time_point now);
    /** A connection to that address could be made. */
    void worked(const std::string& host, const std::string& address) { last_good_[host].address = address; }

  private:
    struct LastGood {
        std::string address;
        Clock::time_point trusted_until{};
    };

    LookUp look_up_;
    std::map<std::string, LastGood> last_good_;
};

}  // namespace apikey::core
