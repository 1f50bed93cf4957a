#include "redis/sentinel.h"

#include <optional>

namespace apikey::redis {
namespace {

/** Whoever answers here may be anybody who got hold of one sentinel, so it is sent what is for sentinels
 * only, and that only where it asks for it: most sentinels have no password. */
Reply ask_for_master(Transport& transport, Connection& sentinel) {
    const LinkOptions& options = transport.options();
    const auto ask = [&] {
        return std::move(
            transport.ask(sentinel, {{"SENTINEL", "get-master-addr-by-name", options.url.master_name}})[0]);
    };
    Reply reply = ask();
    if (reply.is_error() && (reply.text.starts_with("NOAUTH") || reply.text.starts_with("NOPERM"))) {
        if (options.sentinel_user.empty() && options.sentinel_password.empty()) {
            sentinel.fail("this sentinel wants a password: apikey.redis_sentinel_password_file");
        }
        transport.authenticate(sentinel, options.sentinel_user, options.sentinel_password);
        reply = ask();
    }
    Transport::refuse_error(sentinel, reply, true);
    return reply;
}

core::RedisEndpoint find_master(Transport& transport, Connection& sentinel) {
    const auto& url = transport.options().url;
    const Reply reply = ask_for_master(transport, sentinel);
    if (reply.is_nil()) {
        sentinel.fail("this sentinel knows no master \"" + url.master_name + "\"");
    }
    if (!reply.is_array(2) || !reply.elements[0].is_text() || !reply.elements[1].is_text()) {
        sentinel.fail("this sentinel does not say where the master is");
    }
    const auto address = core::make_redis_endpoint(reply.elements[0].text, reply.elements[1].text);
    if (!address) {
        sentinel.fail("this sentinel does not say where the master is");
    }
    return *address;
}

}  // namespace

std::unique_ptr<Connection> Sentinels::connect_to_master(Transport& transport, core::RedisEndpoint& address) {
    const auto& sentinels = transport.options().url.endpoints;
    // What the master that one of them named has to say is worth more than that another does not answer.
    std::optional<LinkError> refusal;
    for (std::size_t i = 0;; i++) {
        const std::size_t number = (first_ + i) % sentinels.size();
        bool named = false;
        try {
            const auto sentinel = transport.open(sentinels[number]);
            address = find_master(transport, *sentinel);
            named = true;
            transport.require_allowed(address);
            auto master = transport.open(address);
            transport.log_in(*master);
            transport.require_master(*master);
            first_ = number;
            return master;
        } catch (const LinkError& error) {
            if (named || !refusal) {
                refusal = error;
            }
        }
        if (i + 1 == sentinels.size()) {
            throw LinkError(*refusal);
        }
    }
}

}  // namespace apikey::redis
