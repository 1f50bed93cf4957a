#include "redis/transport.h"

#include <algorithm>

#include "core/redis_error.h"

namespace apikey::redis {
namespace {

/** What a server says of AUTH, for the log and status(). Some repeat what they were sent, the password with
 * it ("ERR unknown command 'AUTH', with args beginning with: …"): only what is known not to is told. */
std::string without_credentials(std::string_view error) {
    constexpr std::array known = {"WRONGPASS ",
                                  "NOAUTH ",
                                  "NOPERM ",
                                  "LOADING ",
                                  "MASTERDOWN ",
                                  "ERR AUTH ",
                                  "ERR Client sent AUTH",
                                  "ERR invalid password"};
    const bool is_known = std::any_of(known.begin(), known.end(),
                                      [error](std::string_view start) { return error.starts_with(start); });
    return is_known ? std::string(error)
                    : std::string(error.substr(0, error.find(' '))) + " was its answer to AUTH";
}

std::string in_time(int milliseconds) {
    return "within " + std::to_string(milliseconds) + " ms";
}

}  // namespace

std::string encode(std::span<const std::string_view> arguments) {
    Pipeline pipeline;
    pipeline.command({}, arguments);
    return std::string(pipeline.encoded(0));
}

Clock::time_point Transport::reply_deadline() const {
    return Clock::now() + std::chrono::milliseconds(options_.reply_timeout_ms);
}

void Transport::wait_for_one(Connection& connection, Interest interest, Clock::time_point deadline) {
    if (Clock::now() >= deadline) {
        connection.fail("no connection could be made " + in_time(options_.connect_timeout_ms));
    }
    interest.socket = connection.socket();
    interest.serial = connection.serial();
    interests_.assign(1, interest);
    waiter_.wait(interests_, deadline);
}

void Transport::await_connection(Connection& connection, Clock::time_point deadline) {
    while (!connection.connected()) {
        Interest interest;
        interest.to_write = true;
        wait_for_one(connection, interest, deadline);
        if (interests_[0].writable) {
            connection.handle(false, true);
        }
    }
}

void Transport::secure(Connection& connection, const std::string& host, Clock::time_point deadline) {
    if (!tls_) {
        tls_.emplace(options_);
    }
    Tls::Handshake handshake = tls_->begin(connection, host);
    for (;;) {
        const auto state = handshake.proceed();
        if (state == Tls::Handshake::State::done) {
            return;
        }
        Interest interest;
        interest.to_read = state == Tls::Handshake::State::to_read;
        interest.to_write = !interest.to_read;
        wait_for_one(connection, interest, deadline);
    }
}

std::unique_ptr<Connection> Transport::open(const core::RedisEndpoint& endpoint) {
    if (options_.url.tls && !tls_) {
        tls_.emplace(options_);
    }
    const auto [addresses, error] = resolver_.addresses(endpoint.host, Clock::now());
    if (addresses.empty()) {
        throw LinkError("Redis at " + core::to_text(endpoint) +
                        ": the name could not be looked up: " + error);
    }
    const auto begun = Clock::now();
    const std::chrono::milliseconds timeout(options_.connect_timeout_ms);
    for (std::size_t i = 0;; i++) {
        try {
            auto connection =
                Connection::over_tcp(core::to_text(endpoint), addresses[i], endpoint.port, traffic_);
            // Each address gets its share of the time, and what those before it have left.
            const auto deadline =
                begun + timeout * static_cast<int>(i + 1) / static_cast<int>(addresses.size());
            await_connection(*connection, deadline);
            if (options_.url.tls) {
                secure(*connection, endpoint.host, deadline);
            }
            resolver_.worked(endpoint.host, addresses[i]);
            return connection;
        } catch (const LinkError&) {
            if (i + 1 == addresses.size()) {
                throw;
            }
        }
    }
}

std::unique_ptr<Connection> Transport::open_unix_socket(const std::string& path) {
    auto connection = Connection::over_unix_socket(path, traffic_);
    await_connection(*connection, Clock::now() + std::chrono::milliseconds(options_.connect_timeout_ms));
    return connection;
}

void Transport::run(std::span<Connection* const> connections, Clock::time_point deadline) {
    std::vector<Connection*> waiting;
    waiting.reserve(connections.size());
    for (;;) {
        waiting.clear();
        interests_.clear();
        for (Connection* connection : connections) {
            connection->feed();
            if (connection->wants_to_write()) {
                // Mostly there is room, and then nothing needs to be waited for.
                connection->handle(false, true);
            }
            if (!connection->done()) {
                waiting.push_back(connection);
                interests_.push_back({connection->socket(), connection->serial(), true,
                                      connection->wants_to_write(), false, false});
            }
        }
        if (waiting.empty()) {
            waiter_.give_back_latch();
            return;
        }
        if (Clock::now() >= deadline) {
            waiting.front()->fail("it did not answer " + in_time(options_.reply_timeout_ms));
        }
        waiter_.wait(interests_, deadline);
        for (std::size_t i = 0; i < waiting.size(); i++) {
            if (interests_[i].readable || interests_[i].writable) {
                waiting[i]->handle(interests_[i].readable, interests_[i].writable);
            }
        }
    }
}

std::vector<Reply> Transport::ask(Connection& connection, std::initializer_list<Command> commands) {
    std::vector<std::string> encoded;
    encoded.reserve(commands.size());
    for (const Command& command : commands) {
        encoded.push_back(encode({command.begin(), command.size()}));
    }
    return send(connection, encoded);
}

std::vector<Reply> Transport::send(Connection& connection, std::span<const std::string> commands) {
    const std::vector<std::string_view> views(commands.begin(), commands.end());
    connection.begin(views);
    Connection* const only[] = {&connection};
    run(only, reply_deadline());
    return connection.take_replies();
}

void Transport::refuse_error(const Connection& connection, const Reply& reply, bool strictly) {
    if (!reply.is_error() ||
        (!strictly && core::redis_error_kind(reply.text) != core::RedisErrorKind::of_server)) {
        return;
    }
    const std::string_view meaning = core::explain_redis_error(reply.text);
    connection.fail(meaning.empty() ? reply.text : std::string(meaning) + ": " + reply.text);
}

void Transport::require_allowed(const core::RedisEndpoint& endpoint) const {
    const auto& hosts = options_.url.endpoints;
    const bool named_by_url = options_.url.kind != core::RedisUrl::Kind::sentinel &&
                              std::find(hosts.begin(), hosts.end(), endpoint) != hosts.end();
    if (!named_by_url && !options_.masters.allow(endpoint)) {
        throw LinkError("Redis at " + core::to_text(endpoint) +
                        ": it is named as a master, but is not among apikey.redis_masters");
    }
}

void Transport::authenticate(Connection& connection, const std::string& user,
                             const core::SecretBytes& secret) {
    const std::string_view password = core::text_of(secret);
    // A user that needs none may give any password.
    if (user.empty() && password.empty()) {
        return;
    }
    Reply reply = std::move(user.empty() ? ask(connection, {{"AUTH", password}})[0]
                                         : ask(connection, {{"AUTH", user, password}})[0]);
    if (reply.is_error()) {
        reply.text = without_credentials(reply.text);
        refuse_error(connection, reply, true);
    }
}

void Transport::log_in(Connection& connection) {
    authenticate(connection, options_.url.user, options_.password);
    if (options_.url.database != 0) {
        refuse_error(connection, ask(connection, {{"SELECT", std::to_string(options_.url.database)}})[0],
                     true);
    }
}

void Transport::require_master(Connection& connection) {
    const Reply role = std::move(ask(connection, {{"ROLE"}})[0]);
    refuse_error(connection, role, true);
    if (!role.is_array(1) || !role.elements[0].is_text()) {
        connection.fail("it does not say what its role is");
    }
    if (role.elements[0].text != "master") {
        connection.fail("it is not a master: its role is " + role.elements[0].text);
    }
}

}  // namespace apikey::redis
