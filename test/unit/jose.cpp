#include "jose.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base64url.h"
#include "core/error.h"

namespace apikey::core {
namespace {

using Json = nlohmann::json;

std::string text_member(const Json& jwk, const char* name) {
    return jwk.contains(name) ? jwk[name].get<std::string>() : std::string();
}

Bytes bytes_member(const Json& jwk, const char* name) {
    return base64url_decode(text_member(jwk, name)).value_or(Bytes());
}

std::optional<Algorithm> algorithm_of(const Json& jwk) {
    const std::string kty = text_member(jwk, "kty");
    const std::string crv = text_member(jwk, "crv");
    if (kty == "oct") {
        return Algorithm::HS256;
    }
    if (kty == "OKP" && crv == "Ed25519") {
        return Algorithm::EdDSA;
    }
    if (kty == "EC" && crv == "P-256") {
        return Algorithm::ES256;
    }
    return std::nullopt;
}

bool is_for(const Json& jwk, Algorithm algorithm) {
    if ((jwk.contains("alg") && jwk["alg"] != algorithm_name(algorithm)) ||
        (jwk.contains("use") && jwk["use"] != "sig")) {
        return false;
    }
    const Json operations = jwk.value("key_ops", Json{"verify"});
    return std::any_of(operations.begin(), operations.end(),
                       [](const Json& name) { return name == "sign" || name == "verify"; });
}

/** InvalidArgument when the bytes are no key. */
SigningKey key_of(const Json& jwk, Algorithm algorithm) {
    if (algorithm == Algorithm::HS256) {
        return SigningKey::from_private_bytes(algorithm, bytes_member(jwk, "k"));
    }
    Bytes point = bytes_member(jwk, "x");
    if (algorithm == Algorithm::ES256) {
        const Bytes y = bytes_member(jwk, "y");
        point.insert(point.begin(), std::uint8_t{4});
        point.insert(point.end(), y.begin(), y.end());
    }
    SigningKey public_key = SigningKey::from_public_bytes(algorithm, point);
    if (!jwk.contains("d")) {
        return public_key;
    }
    SigningKey private_key = SigningKey::from_private_bytes(algorithm, bytes_member(jwk, "d"));
    if (private_key.public_bytes() != point) {
        throw InvalidArgument("private and public members are not of one key");
    }
    return private_key;
}

std::optional<NamedKey> named_key(const Json& jwk, Algorithm algorithm) {
    if (!is_for(jwk, algorithm)) {
        return std::nullopt;
    }
    try {
        return NamedKey{text_member(jwk, "kid"), key_of(jwk, algorithm)};
    } catch (const InvalidArgument&) {
        return std::nullopt;
    }
}

}  // namespace

std::optional<NamedKey> parse_jwk(std::string_view json) {
    const Json jwk = Json::parse(json);
    const auto algorithm = algorithm_of(jwk);
    return algorithm ? named_key(jwk, *algorithm) : std::nullopt;
}

std::optional<std::vector<NamedKey>> parse_jwk_set(std::string_view json) {
    std::vector<NamedKey> keys;
    std::vector<std::string> kids;
    bool symmetric = false, asymmetric = false;
    const Json set = Json::parse(json);
    for (const Json& jwk : set["keys"]) {
        (jwk["kty"] == "oct" ? symmetric : asymmetric) = true;
        if (const std::string kid = text_member(jwk, "kid"); !kid.empty()) {
            kids.push_back(kid);
        }
        if (const auto algorithm = algorithm_of(jwk)) {
            auto key = named_key(jwk, *algorithm);
            if (!key) {
                return std::nullopt;
            }
            keys.push_back(std::move(*key));
        }
    }
    std::sort(kids.begin(), kids.end());
    if ((symmetric && asymmetric) || std::adjacent_find(kids.begin(), kids.end()) != kids.end()) {
        return std::nullopt;
    }
    return keys;
}

bool verify_parsed_jws(const CompactJws& jws, const SigningKey& key, std::string_view kid) {
    return jws.header.algorithm == key.algorithm() &&
           (jws.header.kid.empty() || kid.empty() || jws.header.kid == kid) &&
           key.verify(bytes_of(jws.signing_input), jws.signature);
}

std::optional<Bytes> verify_compact_jws(std::string_view text, const SigningKey& key, std::string_view kid) {
    auto jws = parse_compact_jws(text);
    return jws && verify_parsed_jws(*jws, key, kid) ? std::optional(std::move(jws->payload)) : std::nullopt;
}

}  // namespace apikey::core
