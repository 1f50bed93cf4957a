#include "core/redis_error.h"

#include <algorithm>
#include <array>

namespace apikey::core {
namespace {

struct ServerError {
    std::string_view code;
    std::string_view meaning;
};

constexpr std::array server_errors = {
    ServerError{"READONLY", "it is a replica, not a master"},
    ServerError{"LOADING", "it is loading its data"},
    ServerError{"MASTERDOWN", "it is a replica without its master"},
    ServerError{"NOAUTH", "it wants a password"},
    ServerError{"WRONGPASS", "it does not take this user and password"},
    ServerError{"NOPERM", "its access control list refuses this user a command or key"},
    ServerError{"MISCONF", "it takes no writes because it cannot save its data"},
    ServerError{"NOREPLICAS", "it takes no writes because it has too few replicas"},
    ServerError{"OOM", "it takes no writes because its memory is full"},
    ServerError{"BUSY", "it is busy with a script"},
    ServerError{"MOVED", "the slots of the cluster have moved"},
    ServerError{"TRYAGAIN", "a slot of the cluster is on its way"},
    ServerError{"CLUSTERDOWN", "the cluster is down"},
    ServerError{"CROSSSLOT", "the keys of a command are in several slots of the cluster"},
};

std::string_view first_word(std::string_view text) {
    return text.substr(0, text.find(' '));
}

/** "ERR Error running script (call to f_…): @user_script:3: @user_script: 3: -READONLY You can't write …" */
std::string_view inner_error(std::string_view text) {
    constexpr std::string_view before = ": -";
    if (first_word(text) != "ERR") {
        return text;
    }
    const auto found = text.find(before);
    return found == std::string_view::npos ? text : text.substr(found + before.size());
}

const ServerError* find_server_error(std::string_view text) {
    const std::string_view code = first_word(inner_error(text));
    const auto* found = std::find_if(server_errors.begin(), server_errors.end(),
                                     [code](const ServerError& error) { return error.code == code; });
    return found == server_errors.end() ? nullptr : found;
}

}  // namespace

RedisErrorKind redis_error_kind(std::string_view text) {
    const std::string_view code = first_word(text);
    if (code == "NOSCRIPT") {
        return RedisErrorKind::no_script;
    }
    if (code == "ASK") {
        return RedisErrorKind::ask;
    }
    return find_server_error(text) == nullptr ? RedisErrorKind::of_command : RedisErrorKind::of_server;
}

std::string_view explain_redis_error(std::string_view text) {
    const ServerError* error = find_server_error(text);
    return error == nullptr ? std::string_view() : error->meaning;
}

std::optional<RedisEndpoint> redis_ask_target(std::string_view text) {
    const auto address = text.rfind(' ');
    const auto colon = text.rfind(':');
    if (address == std::string_view::npos || colon == std::string_view::npos || colon < address) {
        return std::nullopt;
    }
    const std::string_view host = text.substr(address + 1, colon - address - 1);
    const std::string_view port = text.substr(colon + 1);
    auto target = make_redis_endpoint(host.empty() ? "unnamed" : host, port);
    if (target && host.empty()) {
        target->host.clear();
    }
    return target;
}

}  // namespace apikey::core
