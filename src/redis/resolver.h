#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace apikey::redis {

/**
 * Addresses of hosts.
 *
 * getaddrinfo() is the one thing that can block a worker, and it cannot be interrupted. It is only asked for
 * names, when a connection is made, and takes as long as /etc/resolv.conf allows: with glibc's defaults 5 s ×
 * 2 attempts for each name server, "options timeout:1 attempts:1" makes that a second. Numeric addresses and
 * sockets need none.
 *
 * Where it fails, the address that worked last does, and the name is not asked for again for half a minute.
 */
class Resolver {
  public:
    /** One to four numeric addresses, in the order in which they should be tried. Throws LinkError. */
    std::vector<std::string> addresses(const std::string& host);
    void worked(const std::string& host, const std::string& address) { last_good_[host].address = address; }

  private:
    using Clock = std::chrono::steady_clock;
    struct LastGood {
        std::string address;
        Clock::time_point trusted_until{};
    };
    std::map<std::string, LastGood> last_good_;
};

}  // namespace apikey::redis
