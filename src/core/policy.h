#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/instant.h"
#include "core/network.h"
#include "core/verdict.h"

/** The order of checks after a token has proven itself, written once. Pure: the caller reads rows and clock.
 */
namespace apikey::core {

enum class KeyState : std::uint8_t { active, disabled, revoked };

/** Which of its key's generations a token is. */
enum class Position : std::uint8_t { current, previous, older };

struct KeyFacts {
    KeyState state = KeyState::active;
    Position position = Position::current;
    Instant expires_at;             ///< the row's
    Instant generation_expires_at;  ///< this token's generation's; the earlier of the two counts
    Instant grace_ends_at;          ///< for Position::previous
    bool has_address_rule = false;  ///< allowed_cidrs is set; an empty list allows nobody
    std::span<const Network> allowed;
    std::string_view environment;
};

struct Request {
    Instant now;
    std::optional<Network> client;
    std::span<const std::string_view> environments;  ///< accepted ones; empty = all
};

enum class ForbiddenBy : std::uint8_t { nothing, client_unknown, client_address, environment };

struct Decision {
    Code code = Code::unavailable;
    ForbiddenBy forbidden_by = ForbiddenBy::nothing;
};

/** REVOKED → DISABLED → EXPIRED → SUPERSEDED → address and environment. Code::valid means: go on with the
   permission. A token expires at the instant expires_at itself (RFC 7519 section 4.1.4: on or after), a grace
   ends at its instant. */
Decision decide(const KeyFacts& key, const Request& request);

}  // namespace apikey::core
