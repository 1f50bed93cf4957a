#pragma once

#include <cstdint>
#include <string_view>

namespace apikey::core {

/** Every answer that a token can get. The order is that of the table in verdict.cpp, which tests and metrics
 * rely on. */
enum class Code : std::uint8_t {
    valid,
    missing,
    malformed,
    not_found,
    signature_invalid,
    revoked,
    disabled,
    expired,
    superseded,
    forbidden,
    insufficient_permissions,
    rate_limited,
    unavailable,
    refresh_too_early,
    already_refreshed,
};

inline constexpr int code_count = static_cast<int>(Code::already_refreshed) + 1;

/** What a code means to the rest of the library. */
enum class CodeFlag : std::uint8_t {
    for_keys = 1,              ///< a validation of a token can have this answer
    for_anonymous = 2,         ///< a validation without a key can: no token, or the free tier's answer
    for_refresh = 4,           ///< refresh() can refuse with it
    rescuable = 8,             ///< the free tier answers instead, where apikey.free_tier_on_failure is on
    key_exists = 16,           ///< the key that the token names is more than a claim
    generation_is_named = 32,  ///< the same of the generation: no token that has failed its proof
};

struct CodeInfo {
    Code code;
    std::string_view name;     ///< as SQL shows it, e.g. "NOT_FOUND"
    int http_status;           ///< RFC 9110
    std::string_view message;  ///< one English sentence for the person who reads the verdict
    std::uint8_t flags;        ///< for has()
};

/** The one table of codes. */
const CodeInfo& info(Code code);
bool has(Code code, CodeFlag flag);

/** RFC 5280 style reasons that revoke() takes; upper case, as given. */
bool is_revocation_reason(std::string_view reason);

}  // namespace apikey::core
