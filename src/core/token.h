#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/jws.h"
#include "core/secret.h"
#include "core/uuid.h"

/** The two token formats, jwt and opaque, from text to parts and back. No storage, no clock. */
namespace apikey::core {

/** What every JWT of ours begins with: the 18 bytes {"typ":"apikey+jwt in base64url. Log redaction and secret
 * scanners key on it. */
inline constexpr std::string_view jwt_prefix = "eyJ0eXAiOiJhcGlrZXkrand0";
inline constexpr std::string_view jwt_typ = "apikey+jwt";
inline constexpr std::size_t nonce_size = 16;
inline constexpr std::string_view opaque_prefix = "ak_";

/** RFC 7519 claims of a key. Times are whole seconds since 1970 (NumericDate). Optional ones are absent when
 * empty. */
struct Claims {
    std::string issuer;
    std::string subject;  ///< owner
    Uuid key_id;
    std::int32_t generation = 1;
    std::int64_t issued_at = 0;
    std::int64_t expires_at = 0;
    std::string role;
    std::string audience;
    std::string environment;
    std::string scope;  ///< the key's own narrowing, space-delimited (RFC 6749 section 3.3)
    std::string nonce;  ///< nonce_size bytes in base64url: what makes the token unguessable (token_nonce)

    bool operator==(const Claims&) const = default;
};

struct JwtToken {
    CompactJws jws;  ///< header.kid is valid and not empty, header.typ is jwt_typ
    Claims claims;
};

struct OpaqueToken {
    std::string_view environment;
    Uuid key_id;
    std::int32_t generation;
};

enum class TokenError : std::uint8_t {
    malformed,  ///< not a token of ours
    checksum,   ///< an opaque token whose CRC32 does not match
};

struct TokenFailure {
    TokenError error;
    std::string why;  ///< English, never a part of the token
};

using ParsedToken = std::variant<JwtToken, OpaqueToken, TokenFailure>;

/** Any bytes are allowed; views in the result point into `text`. Proves nothing but the opaque checksum. */
ParsedToken parse_token(std::string_view text);

/**
 * Serialises header and claims in one fixed order, so that the same claims and a deterministic algorithm give
 * the same token. InvalidArgument for what parse_token would refuse: each token made here can be read, and
 * gives the same claims.
 */
SecretBytes make_jwt(const Claims& claims, const SigningKey& key, std::string_view kid);

/** `secret`: 32 strong random bytes. `environment`: [a-z0-9]{1,16}, `generation` >= 1 (InvalidArgument
 * otherwise). */
SecretBytes make_opaque(std::string_view environment, const Uuid& key_id, std::int32_t generation,
                        const SecretArray<32>& secret);

bool is_valid_environment(std::string_view environment);

}  // namespace apikey::core
