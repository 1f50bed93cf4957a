#pragma once

#include <string_view>
#include <vector>

#include "core/network.h"
#include "core/redis_url.h"

namespace apikey::core {

/**
 * Servers that the password for Redis may be sent to when somebody else names them: a sentinel, or a node of
 * a cluster. A list of host, host:port and networks as in 10.1.0.0/16, separated by commas.
 */
class RedisMasters {
  public:
    /** Any server. */
    RedisMasters() = default;
    /** Empty: any server. Throws InvalidArgument, which says what would be right. */
    explicit RedisMasters(std::string_view list);

    bool allow(const RedisEndpoint& server) const;

  private:
    std::vector<RedisEndpoint> hosts_;  ///< port 0: any port
    std::vector<Network> networks_;
};

}  // namespace apikey::core
