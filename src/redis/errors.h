#pragma once

#include <stdexcept>

namespace apikey::redis {

/** The connection is of no use, or cannot be made: refused, timed out, closed, not the protocol, READONLY,
 * LOADING, NOAUTH, MOVED … What it says is fit for the log and status(), and holds no secret. */
class LinkError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/** must_stop() said so while the link waited. */
class Stopped : public std::runtime_error {
  public:
    Stopped() : std::runtime_error("stopped while waiting for Redis") {}
};

}  // namespace apikey::redis
