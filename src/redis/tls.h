#pragma once

#include <memory>
#include <string>

struct ssl_ctx_st;
struct ssl_st;

namespace apikey::redis {

class Connection;
struct LinkOptions;

/**
 * TLS 1.2 or newer by OpenSSL, below hiredis. The server has to show a certificate that one of the trusted
 * authorities has signed for the host that was asked for, name or address.
 *
 * Needs hiredis 1.0 with its hiredis_ssl. Built without, the constructor throws.
 */
class Tls {
  public:
    /** Throws LinkError, also when a file cannot be read. */
    explicit Tls(const LinkOptions& options);

    class Handshake {
      public:
        enum class State { done, to_read, to_write };

        /** To be called when the socket is ready for what it said last. Throws LinkError. */
        State proceed();

      private:
        friend class Tls;
        Handshake(Connection& connection, std::shared_ptr<ssl_st> ssl)
            : connection_(connection), ssl_(std::move(ssl)) {}

        Connection& connection_;
        std::shared_ptr<ssl_st> ssl_;
    };

    /** Once the connection is made. Throws LinkError. */
    Handshake begin(Connection& connection, const std::string& host) const;

  private:
    std::shared_ptr<ssl_ctx_st> context_;
};

}  // namespace apikey::redis
