// Tokens: no bytes harm, an opaque token that parses is the one text of its parts, and the claims of a JWT
// that parses can be written and read back unchanged.

#include "core/token.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base62.h"
#include "core/crc32.h"
#include "core/error.h"

using namespace apikey::core;

namespace {

void check(bool holds) {
    if (!holds) {
        std::abort();
    }
}

const SigningKey& key() {
    static const SigningKey fixed = SigningKey::from_private_bytes(Algorithm::HS256, Bytes(32, 1));
    return fixed;
}

void check_opaque(std::string_view text, const OpaqueToken& token) {
    SecretArray<32> secret;
    const std::string_view secret_text = text.substr(text.size() - 6 - 43, 43);
    check(base62_decode(secret_text, secret.span()));
    const SecretBytes again = make_opaque(token.environment, token.key_id, token.generation, secret);
    check(text_of(again) == text);
}

void check_jwt(std::string_view text, const JwtToken& token) {
    check(token.jws.header.typ == jwt_typ && is_valid_kid(token.jws.header.kid));
    check(text.starts_with(jwt_prefix) && text.starts_with(token.jws.signing_input));
    SecretBytes made;
    try {
        made = make_jwt(token.claims, key(), token.jws.header.kid);
    } catch (const InvalidArgument&) {
        // Another signature and other escapes may make a text longer that was just short enough.
        check(text.size() > max_jws_size / 2);
        return;
    }
    const ParsedToken parsed = parse_token(text_of(made));
    check(std::holds_alternative<JwtToken>(parsed));
    const auto& again = std::get<JwtToken>(parsed);
    check(again.claims == token.claims && again.jws.header.kid == token.jws.header.kid);
    check(key().verify(bytes_of(again.jws.signing_input), again.jws.signature));
    check(make_jwt(again.claims, key(), token.jws.header.kid) == made);
}

void check_text(std::string_view text) {
    const ParsedToken parsed = parse_token(text);
    if (const auto* opaque = std::get_if<OpaqueToken>(&parsed)) {
        check_opaque(text, *opaque);
    } else if (const auto* jwt = std::get_if<JwtToken>(&parsed)) {
        check_jwt(text, *jwt);
    } else {
        check(!std::get<TokenFailure>(parsed).why.empty());
    }
}

std::string with_checksum(std::string body) {
    const std::uint32_t crc = crc32(bytes_of(body));
    const Bytes bytes{static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
                      static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
    std::string checksum(6, '0');
    base62_encode_to(bytes, checksum);
    return body + checksum;
}

}  // namespace

/** The first byte chooses how deep the rest starts: a mutated text seldom gets past the encoding or the
 * checksum by itself. */
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view rest = text_of(ByteView(data + 1, size - 1));
    switch (data[0] % 4) {
        case 0:
            check_text(rest);
            break;
        case 1: {
            const SecretBytes token =
                sign_compact_jws(R"({"typ":"apikey+jwt","alg":"HS256","kid":"k"})", rest, key());
            check_text(text_of(token));
            break;
        }
        case 2: {
            const SecretBytes token = sign_compact_jws(
                rest,
                R"({"iss":"i","sub":"s","jti":"018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1","iat":1,"exp":2,"role":"r",)"
                R"("nonce":"AAECAwQFBgcICQoLDA0ODw"})",
                key());
            check_text(text_of(token));
            break;
        }
        default:
            check_text(with_checksum("ak_" + std::string(rest)));
            break;
    }
    return 0;
}
