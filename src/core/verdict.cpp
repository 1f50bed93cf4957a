#include "core/verdict.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace apikey::core {
namespace {

constexpr auto keys = static_cast<std::uint8_t>(CodeFlag::for_keys);
constexpr auto anonymous = static_cast<std::uint8_t>(CodeFlag::for_anonymous);
constexpr auto refresh = static_cast<std::uint8_t>(CodeFlag::for_refresh);
constexpr auto rescuable = static_cast<std::uint8_t>(CodeFlag::rescuable);
constexpr auto exists = static_cast<std::uint8_t>(CodeFlag::key_exists);
constexpr auto proven =
    static_cast<std::uint8_t>(exists | static_cast<std::uint8_t>(CodeFlag::generation_is_named));

// A key that was revoked or disabled, or that is not allowed here, is not rescuable: somebody meant to keep
// it out.
constexpr std::array<CodeInfo, code_count> codes = {{
    {Code::valid, "VALID", 200, "The key is valid.", keys | anonymous | proven},
    {Code::missing, "MISSING", 401, "No API key was given.", anonymous | refresh},
    {Code::malformed, "MALFORMED", 401, "What was given is not an API key.", keys | refresh | rescuable},
    {Code::not_found, "NOT_FOUND", 401, "The key is not known.", keys | refresh | rescuable},
    {Code::signature_invalid, "SIGNATURE_INVALID", 401, "The key does not prove to be genuine.",
     keys | refresh | rescuable | exists},
    {Code::revoked, "REVOKED", 401, "The key has been revoked.", keys | refresh | proven},
    {Code::disabled, "DISABLED", 403, "The key is disabled.", keys | refresh | proven},
    {Code::expired, "EXPIRED", 401, "The key has expired.", keys | refresh | rescuable | proven},
    {Code::superseded, "SUPERSEDED", 401,
     "The key has been refreshed, and this older token of it is no longer valid.",
     keys | refresh | rescuable | proven},
    {Code::forbidden, "FORBIDDEN", 403, "The key may not be used from this address or in this environment.",
     keys | refresh | proven},
    {Code::insufficient_permissions, "INSUFFICIENT_PERMISSIONS", 403,
     "The key's permissions do not allow this.", keys | anonymous | proven},
    {Code::rate_limited, "RATE_LIMITED", 429, "The rate limit has been reached.", keys | anonymous | proven},
    {Code::unavailable, "UNAVAILABLE", 503, "The key cannot be checked at present.", keys | refresh | proven},
    {Code::refresh_too_early, "REFRESH_TOO_EARLY", 409, "The key cannot be refreshed yet.", refresh | proven},
    {Code::already_refreshed, "ALREADY_REFRESHED", 409, "The key has already been refreshed.",
     refresh | proven},
}};

// info() looks up by position.
constexpr bool is_in_enum_order() {
    for (std::size_t i = 0; i < codes.size(); ++i) {
        if (static_cast<std::size_t>(codes[i].code) != i) {
            return false;
        }
    }
    return true;
}
static_assert(is_in_enum_order());

constexpr std::array<std::string_view, 5> revocation_reasons = {
    "UNSPECIFIED", "KEY_COMPROMISE", "SUPERSEDED", "AFFILIATION_CHANGED", "PRIVILEGE_WITHDRAWN",
};

}  // namespace

const CodeInfo& info(Code code) {
    return codes[static_cast<std::size_t>(code)];
}

bool has(Code code, CodeFlag flag) {
    return (info(code).flags & static_cast<std::uint8_t>(flag)) != 0;
}

bool is_revocation_reason(std::string_view reason) {
    return std::find(revocation_reasons.begin(), revocation_reasons.end(), reason) !=
           revocation_reasons.end();
}

}  // namespace apikey::core
