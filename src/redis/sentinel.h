#pragma once

#include <memory>

#include "redis/transport.h"

namespace apikey::redis {

/** Asks one sentinel after the other where the master is, and connects to it, as far as log_in(). What calls
 * itself a master must say so itself (ROLE): a sentinel may not have heard of the last fail-over. The first
 * that knows is asked first the next time. */
class Sentinels {
  public:
    /** `address` becomes that of the master. */
    std::unique_ptr<Connection> connect_to_master(Transport& transport, core::RedisEndpoint& address);

  private:
    std::size_t first_ = 0;
};

}  // namespace apikey::redis
