#include "core/verdict.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace apikey::core {
namespace {

constexpr std::array<CodeInfo, code_count> codes = {{
    {Code::valid, "VALID", 200, "The key is valid."},
    {Code::missing, "MISSING", 401, "No API key was given."},
    {Code::malformed, "MALFORMED", 401, "What was given is not an API key."},
    {Code::not_found, "NOT_FOUND", 401, "The key is not known."},
    {Code::signature_invalid, "SIGNATURE_INVALID", 401, "The key does not prove to be genuine."},
    {Code::revoked, "REVOKED", 401, "The key has been revoked."},
    {Code::disabled, "DISABLED", 403, "The key is disabled."},
    {Code::expired, "EXPIRED", 401, "The key has expired."},
    {Code::superseded, "SUPERSEDED", 401,
     "The key has been refreshed, and this older token of it is no longer valid."},
    {Code::forbidden, "FORBIDDEN", 403, "The key may not be used from this address or in this environment."},
    {Code::insufficient_permissions, "INSUFFICIENT_PERMISSIONS", 403,
     "The key's permissions do not allow this."},
    {Code::rate_limited, "RATE_LIMITED", 429, "The rate limit has been reached."},
    {Code::unavailable, "UNAVAILABLE", 503, "The key cannot be checked at present."},
    {Code::refresh_too_early, "REFRESH_TOO_EARLY", 409, "The key cannot be refreshed yet."},
    {Code::already_refreshed, "ALREADY_REFRESHED", 409, "The key has already been refreshed."},
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
static_assert(static_cast<int>(Code::already_refreshed) + 1 == code_count);

constexpr std::array<std::string_view, 5> revocation_reasons = {
    "UNSPECIFIED", "KEY_COMPROMISE", "SUPERSEDED", "AFFILIATION_CHANGED", "PRIVILEGE_WITHDRAWN",
};

}  // namespace

const CodeInfo& info(Code code) {
    return codes[static_cast<std::size_t>(code)];
}

std::optional<Code> code_from_name(std::string_view name) {
    const auto found = std::find_if(codes.begin(), codes.end(),
                                    [name](const CodeInfo& entry) { return entry.name == name; });
    if (found == codes.end()) {
        return std::nullopt;
    }
    return found->code;
}

bool is_revocation_reason(std::string_view reason) {
    return std::find(revocation_reasons.begin(), revocation_reasons.end(), reason) !=
           revocation_reasons.end();
}

}  // namespace apikey::core
