#pragma once

#include <optional>
#include <string_view>

#include "core/redis_url.h"

/** What the errors that Redis answers with are about. */
namespace apikey::core {

enum class RedisErrorKind {
    of_command,  ///< what the caller sent is wrong, or the script says so
    no_script,   ///< NOSCRIPT: it does not know the script
    ask,         ///< ASK: a slot of the cluster is on its way, and what was asked for is there already
    of_server,   ///< this server is of no use now: it is a replica, is loading, refuses us, is full …
};

/** `text` is the error, which begins with its code. Redis before 7 puts what went wrong in a script into the
 * text of another error, where it is found as well. */
RedisErrorKind redis_error_kind(std::string_view text);

/** What is wrong with the server, in words, where one should know. */
std::string_view explain_redis_error(std::string_view text);

/** Where "ASK 3999 127.0.0.1:6381" sends to. A host that is not named is the one that was asked: empty. */
std::optional<RedisEndpoint> redis_ask_target(std::string_view text);

}  // namespace apikey::core
