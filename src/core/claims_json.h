#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/token.h"

/** Claims as the payload of a JWT and back. Internal to token.cpp. */
namespace apikey::core {

/** The latest time a token may name: the last second of the year 9999, which every reader of dates can hold.
 */
inline constexpr std::int64_t max_numeric_date = 253402300799;

/**
 * Strict: only the claims that write_claims writes, each of its type, required ones there, no text empty or
 * with control characters. nullopt and `why` otherwise.
 */
std::optional<Claims> parse_claims(std::string_view json, std::string& why);

/** In the fixed order iss, sub, jti, iat, exp, role, aud, env, scope, nonce; empty optional ones left out.
 * Checks nothing. */
std::string write_claims(const Claims& claims);

/**
 * True only if parse_claims(write_claims(claims)) gives the same claims again: valid ones whose texts are
 * printable ASCII that JSON writes as it is. False where one has to read it back to know.
 */
bool is_plain(const Claims& claims);

}  // namespace apikey::core
