#pragma once

#include <cstdint>
#include <optional>
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

struct CodeInfo {
    Code code;
    std::string_view name;     ///< as SQL shows it, e.g. "NOT_FOUND"
    int http_status;           ///< RFC 9110
    std::string_view message;  ///< one English sentence for the person who reads the verdict
};

/** The one table of codes. */
const CodeInfo& info(Code code);
std::optional<Code> code_from_name(std::string_view name);
inline constexpr int code_count = 15;

/** RFC 5280 style reasons that revoke() takes; upper case, as given. */
bool is_revocation_reason(std::string_view reason);

}  // namespace apikey::core
