#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/secret.h"
#include "core/signing_key.h"

/** JSON Web Signature, compact serialization (RFC 7515), read as strictly as RFC 8725 asks. */
namespace apikey::core {

/** What a protected header may say here. Anything that would change how the token is read (crit, jwk, jku,
 * x5*, b64, zip, cty …) is refused. */
struct JoseHeader {
    Algorithm algorithm;
    std::string kid;  ///< empty when absent
    std::string typ;  ///< empty when absent
};

/** A compact JWS taken apart; the views point into the text it was parsed from. */
struct CompactJws {
    JoseHeader header;
    std::string_view signing_input;  ///< header '.' payload, still encoded
    Bytes payload;
    Bytes signature;
};

inline constexpr std::size_t max_jws_size = 8192;

/**
 * Strict parse of at most max_jws_size characters: exactly three base64url parts, header a JSON object of
 * known members without duplicates. `why` (optional) gets a short reason in English, never a part of the
 * token. Verifies nothing.
 */
std::optional<CompactJws> parse_compact_jws(std::string_view text, std::string* why = nullptr);

/** header_json must already be in the order it shall have on the wire. */
SecretBytes sign_compact_jws(std::string_view header_json, std::string_view payload_json,
                             const SigningKey& key);

}  // namespace apikey::core
