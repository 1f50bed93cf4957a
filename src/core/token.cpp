#include "core/token.h"

#include "core/claims_json.h"
#include "core/error.h"
#include "core/opaque_token.h"
#include "core/token_mistake.h"

namespace apikey::core {
namespace {

TokenFailure malformed(std::string why) {
    return {TokenError::malformed, std::move(why)};
}

ParsedToken parse_jwt(std::string_view text) {
    std::string why;
    std::optional<CompactJws> jws = parse_compact_jws(text, &why);
    if (!jws) {
        return malformed(std::move(why));
    }
    // RFC 8725 section 3.11: explicit typing, so that no other JWT that this key may have signed passes for
    // an API key.
    if (jws->header.typ != jwt_typ) {
        return malformed("not typed as an API key");
    }
    if (!is_valid_kid(jws->header.kid)) {
        return malformed("no valid kid");
    }
    std::optional<Claims> claims = parse_claims(text_of(jws->payload), why);
    if (!claims) {
        return malformed(std::move(why));
    }
    return JwtToken{std::move(*jws), std::move(*claims)};
}

ParsedToken parse_any(std::string_view text) {
    if (text.starts_with(opaque_prefix)) {
        return parse_opaque_token(text);
    }
    // A header that says the same in other words would be a token that no log redaction and no secret scanner
    // recognises.
    if (text.starts_with(jwt_prefix)) {
        return parse_jwt(text);
    }
    return malformed("unknown format");
}

}  // namespace

ParsedToken parse_token(std::string_view text) {
    ParsedToken parsed = parse_any(text);
    if (auto* failure = std::get_if<TokenFailure>(&parsed);
        failure != nullptr && failure->error == TokenError::malformed) {
        // What people do to a token says more than where the parser stumbled over it.
        if (const std::string_view mistake = likely_mistake(text); !mistake.empty()) {
            failure->why = mistake;
        }
    }
    return parsed;
}

SecretBytes make_jwt(const Claims& claims, const SigningKey& key, std::string_view kid) {
    if (!is_valid_kid(kid)) {
        throw InvalidArgument("a kid is 1 to 64 characters of [A-Za-z0-9_-]");
    }
    const std::string payload = write_claims(claims);
    // Reading it back is the check, so that no token is signed that cannot be read; where the claims
    // themselves do not show it.
    std::string why;
    if (!is_plain(claims) && parse_claims(payload, why) != claims) {
        throw InvalidArgument("cannot make a token: " + (why.empty() ? "a claim is not valid" : why));
    }
    std::string header = R"({"typ":")";
    header.append(jwt_typ).append(R"(","alg":")").append(algorithm_name(key.algorithm()));
    header.append(R"(","kid":")").append(kid).append(R"("})");
    SecretBytes token = sign_compact_jws(header, payload, key);
    if (token.size() > max_jws_size) {
        throw InvalidArgument("cannot make a token: it would be longer than 8192 bytes",
                              "Give fewer permissions, or use the opaque format.");
    }
    return token;
}

}  // namespace apikey::core
