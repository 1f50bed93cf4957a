#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/host_resolver.h"
#include "redis/connection.h"
#include "redis/link.h"
#include "redis/tls.h"
#include "redis/waiter.h"

namespace apikey::redis {

/** One command; several are sent together. */
using Command = std::initializer_list<std::string_view>;

/** RESP, which is how a command is sent. */
std::string encode(std::span<const std::string_view> arguments);

/** Connecting to servers, and waiting for several of them at once: what single servers, sentinels and
 * clusters have in common. Throws LinkError, Stopped, pg::Error. */
class Transport {
  public:
    explicit Transport(LinkOptions options) : options_(std::move(options)), waiter_(options_.must_stop) {}

    const LinkOptions& options() const noexcept { return options_; }
    Traffic& traffic() noexcept { return traffic_; }

    /** A connection over which nothing has been said yet. */
    std::unique_ptr<Connection> open(const core::RedisEndpoint& endpoint);
    std::unique_ptr<Connection> open_unix_socket(const std::string& path);

    /** Throws LinkError where the password must not be sent to a server that others have named:
     * LinkOptions::masters. Hosts of the URL are named by nobody else. */
    void require_allowed(const core::RedisEndpoint& endpoint) const;

    /** AUTH, where there is a user or a password. */
    void authenticate(Connection& connection, const std::string& user, const core::SecretBytes& password);
    /** AUTH, SELECT. */
    void log_in(Connection& connection);
    void require_master(Connection& connection);

    /** Sends these commands and waits for the replies. */
    std::vector<Reply> ask(Connection& connection, std::initializer_list<Command> commands);
    /** The same of commands that are encoded. */
    std::vector<Reply> send(Connection& connection, std::span<const std::string> commands);

    /** Until every connection is done() with its batch. */
    void run(std::span<Connection* const> connections, Clock::time_point deadline);
    Clock::time_point reply_deadline() const;

    /** Throws LinkError if that is an error of the server, or, `strictly`, any error. */
    static void refuse_error(const Connection& connection, const Reply& reply, bool strictly);

  private:
    void await_connection(Connection& connection, Clock::time_point deadline);
    void secure(Connection& connection, const std::string& host, Clock::time_point deadline);
    void wait_for_one(Connection& connection, Interest interest, Clock::time_point deadline);

    LinkOptions options_;
    Traffic traffic_;
    Waiter waiter_;
    core::HostResolver resolver_;
    std::optional<Tls> tls_;
    std::vector<Interest> interests_;
};

}  // namespace apikey::redis
