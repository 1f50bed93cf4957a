#include <openssl/crypto.h>

#include <algorithm>

#include "core/base64url.h"
#include "core/error.h"
#include "core/jws.h"
#include "core/strict_json.h"

namespace apikey::core {
namespace {

/** A set holds a handful of keys; what else is in it (RSA keys, certificate chains) may be bulky. */
constexpr std::size_t max_jwk_size = 65536;
constexpr std::size_t coordinate_size = 32;

std::nullopt_t refuse(std::string& why, const char* reason) {
    why = reason;
    return std::nullopt;
}

/** Bytes that may be key material. */
struct WipedBytes {
    Bytes bytes;
    explicit WipedBytes(Bytes decoded) : bytes(std::move(decoded)) {}
    WipedBytes(WipedBytes&&) noexcept = default;
    ~WipedBytes() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

/** Wipes the strings of a parsed JWK when it goes. */
struct WipedObject {
    JsonObject object;
    explicit WipedObject(JsonObject parsed) : object(std::move(parsed)) {}
    WipedObject(const WipedObject&) = delete;
    WipedObject& operator=(const WipedObject&) = delete;
    ~WipedObject() { wipe(object); }
};

/** The string of that member; nullptr when absent. A member of another type has none: `fits` turns false. */
const std::string* text_member(const JsonObject& jwk, std::string_view name, bool& fits) {
    const JsonValue* value = find_member(jwk, name);
    if (value == nullptr) {
        return nullptr;
    }
    fits = fits && value->string() != nullptr;
    return value->string();
}

std::optional<WipedBytes> bytes_member(const JsonObject& jwk, std::string_view name) {
    bool fits = true;
    const std::string* text = text_member(jwk, name, fits);
    std::optional<Bytes> bytes = text == nullptr ? std::nullopt : base64url_decode(*text);
    return bytes ? std::optional<WipedBytes>(std::in_place, std::move(*bytes)) : std::nullopt;
}

/** RFC 7518 section 6.2.1.2: the full size of a coordinate, leading zeros included. */
std::optional<WipedBytes> coordinate(const JsonObject& jwk, std::string_view name) {
    std::optional<WipedBytes> bytes = bytes_member(jwk, name);
    return bytes && bytes->bytes.size() == coordinate_size ? std::move(bytes) : std::nullopt;
}

/** What a JWK's kty and crv make of it; nullopt for types that do not exist here (RSA, P-384, X25519 …). */
std::optional<Algorithm> algorithm_of(const JsonObject& jwk) {
    bool fits = true;
    const std::string* kty = text_member(jwk, "kty", fits);
    const std::string* crv = text_member(jwk, "crv", fits);
    if (!fits || kty == nullptr) {
        return std::nullopt;
    }
    if (*kty == "oct") {
        return Algorithm::HS256;
    }
    if (*kty == "OKP" && crv != nullptr && *crv == "Ed25519") {
        return Algorithm::EdDSA;
    }
    if (*kty == "EC" && crv != nullptr && *crv == "P-256") {
        return Algorithm::ES256;
    }
    return std::nullopt;
}

/** RFC 7517 section 4.3: no operation twice; and one of them has to be ours. */
bool allows_signatures(const JsonArray& operations) {
    bool allows = false;
    for (auto operation = operations.begin(); operation != operations.end(); ++operation) {
        const std::string* name = operation->string();
        if (name == nullptr || std::any_of(operations.begin(), operation, [&](const JsonValue& earlier) {
                return *earlier.string() == *name;
            })) {
            return false;
        }
        allows = allows || *name == "sign" || *name == "verify";
    }
    return allows;
}

/** nullopt with `why` set when the common members (RFC 7517 section 4) forbid what the key would be used for;
 * else the kid. */
std::optional<std::string> check_common_members(const JsonObject& jwk, Algorithm algorithm,
                                                std::string& why) {
    bool fits = true;
    const std::string* alg = text_member(jwk, "alg", fits);
    const std::string* use = text_member(jwk, "use", fits);
    const std::string* kid = text_member(jwk, "kid", fits);
    const JsonValue* key_ops = find_member(jwk, "key_ops");
    if (!fits) {
        return refuse(why, "a JWK member has the wrong type");
    }
    if (alg != nullptr && *alg != algorithm_name(algorithm)) {
        return refuse(why, "the JWK's alg does not fit its key");
    }
    if (use != nullptr && *use != "sig") {
        return refuse(why, "the JWK is not for signatures");
    }
    if (key_ops != nullptr && (key_ops->array() == nullptr || !allows_signatures(*key_ops->array()))) {
        return refuse(why, "the JWK's key_ops do not allow signatures");
    }
    if (kid != nullptr && !is_valid_kid(*kid)) {
        return refuse(why, "the JWK's kid is not 1 to 64 characters of [A-Za-z0-9_-]");
    }
    return kid == nullptr ? std::string() : *kid;
}

/** InvalidArgument when the bytes are no key. */
std::optional<SigningKey> key_from_members(const JsonObject& jwk, Algorithm algorithm, std::string& why) {
    if (algorithm == Algorithm::HS256) {
        const std::optional<WipedBytes> secret = bytes_member(jwk, "k");
        if (!secret) {
            return refuse(why, "the JWK has no k in base64url");
        }
        return SigningKey::from_private_bytes(algorithm, secret->bytes);
    }
    const std::optional<WipedBytes> x = coordinate(jwk, "x");
    if (!x) {
        return refuse(why, "the JWK has no x of 32 bytes in base64url");
    }
    Bytes public_bytes = x->bytes;
    if (algorithm == Algorithm::ES256) {
        const std::optional<WipedBytes> y = coordinate(jwk, "y");
        if (!y) {
            return refuse(why, "the JWK has no y of 32 bytes in base64url");
        }
        public_bytes.insert(public_bytes.begin(), std::uint8_t{4});
        public_bytes.insert(public_bytes.end(), y->bytes.begin(), y->bytes.end());
    }
    SigningKey public_key = SigningKey::from_public_bytes(algorithm, public_bytes);
    if (find_member(jwk, "d") == nullptr) {
        return public_key;
    }
    const std::optional<WipedBytes> d = coordinate(jwk, "d");
    if (!d) {
        return refuse(why, "the JWK's d is not 32 bytes in base64url");
    }
    SigningKey private_key = SigningKey::from_private_bytes(algorithm, d->bytes);
    if (private_key.public_bytes() != public_bytes) {
        return refuse(why, "the JWK's private and public members are not of one key");
    }
    return private_key;
}

std::optional<NamedKey> key_from_jwk(const JsonObject& jwk, Algorithm algorithm, std::string& why) {
    std::optional<std::string> kid = check_common_members(jwk, algorithm, why);
    if (!kid) {
        return std::nullopt;
    }
    try {
        std::optional<SigningKey> key = key_from_members(jwk, algorithm, why);
        return key ? std::optional<NamedKey>({std::move(*kid), std::move(*key)}) : std::nullopt;
    } catch (const InvalidArgument& refused) {
        return refuse(why, refused.what());
    }
}

bool is_symmetric(const JsonObject& jwk) {
    bool fits = true;
    const std::string* kty = text_member(jwk, "kty", fits);
    return kty != nullptr && *kty == "oct";
}

std::optional<std::vector<NamedKey>> keys_from_set(const JsonArray& items, std::string& why) {
    std::vector<NamedKey> keys;
    std::vector<const std::string*> kids;
    bool symmetric = false, asymmetric = false;
    for (const JsonValue& item : items) {
        const JsonObject* jwk = item.object();
        bool fits = true;
        if (jwk == nullptr || text_member(*jwk, "kty", fits) == nullptr) {
            return refuse(why, "the JWK set has an entry that is no JWK");
        }
        // Names and mixing are judged with the keys that are ignored below: who else reads the set may not
        // ignore them.
        (is_symmetric(*jwk) ? symmetric : asymmetric) = true;
        const std::string* kid = text_member(*jwk, "kid", fits);
        if (kid != nullptr) {
            if (std::any_of(kids.begin(), kids.end(),
                            [&](const std::string* other) { return *other == *kid; })) {
                return refuse(why, "two keys of the JWK set have the same kid");
            }
            kids.push_back(kid);
        }
        const std::optional<Algorithm> algorithm = algorithm_of(*jwk);
        if (!algorithm) {
            continue;  // RFC 7517 section 5
        }
        std::optional<NamedKey> key = key_from_jwk(*jwk, *algorithm, why);
        if (!key) {
            return std::nullopt;
        }
        keys.push_back(std::move(*key));
    }
    if (symmetric && asymmetric) {
        // Who picks a key by kid alone could be made to take a public key for a secret.
        return refuse(why, "the JWK set mixes symmetric and public keys");
    }
    return keys;
}

}  // namespace

std::string public_jwk(const SigningKey& key, std::string_view kid) {
    if (key.algorithm() == Algorithm::HS256) {
        throw InvalidArgument("an HS256 key has no public half");
    }
    if (!is_valid_kid(kid)) {
        throw InvalidArgument("a kid is 1 to 64 characters of [A-Za-z0-9_-]");
    }
    const Bytes bytes = key.public_bytes();
    std::string json;
    if (key.algorithm() == Algorithm::EdDSA) {
        json = R"({"kty":"OKP","crv":"Ed25519","x":")" + base64url_encode(bytes);
    } else {
        json = R"({"kty":"EC","crv":"P-256","x":")" +
               base64url_encode(ByteView(bytes).subspan(1, coordinate_size)) + R"(","y":")" +
               base64url_encode(ByteView(bytes).subspan(1 + coordinate_size));
    }
    json.append(R"(","kid":")").append(kid).append(R"(","alg":")").append(algorithm_name(key.algorithm()));
    return json + R"(","use":"sig"})";
}

std::optional<NamedKey> parse_jwk(std::string_view json, std::string* why) {
    std::string unasked;
    std::string& reason = why == nullptr ? unasked : *why;
    std::optional<JsonObject> parsed = parse_json_object(json, max_jwk_size, reason);
    if (!parsed) {
        return std::nullopt;
    }
    const WipedObject jwk(std::move(*parsed));
    const std::optional<Algorithm> algorithm = algorithm_of(jwk.object);
    if (!algorithm) {
        return refuse(reason, "not a JWK of a known type (OKP with Ed25519, EC with P-256, oct)");
    }
    return key_from_jwk(jwk.object, *algorithm, reason);
}

std::optional<std::vector<NamedKey>> parse_jwk_set(std::string_view json, std::string* why) {
    std::string unasked;
    std::string& reason = why == nullptr ? unasked : *why;
    std::optional<JsonObject> parsed = parse_json_object(json, max_jwk_size, reason);
    if (!parsed) {
        return std::nullopt;
    }
    const WipedObject set(std::move(*parsed));
    const JsonValue* keys = find_member(set.object, "keys");
    if (keys == nullptr || keys->array() == nullptr) {
        return refuse(reason, "a JWK set has an array named keys");
    }
    return keys_from_set(*keys->array(), reason);
}

}  // namespace apikey::core
