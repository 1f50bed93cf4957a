// Test vectors of Project Wycheproof, read from the directory in APIKEY_VECTORS; skipped when they are not
// there.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/jws.h"
#include "core/pbkdf2.h"
#include "hex.h"
#include "jose.h"

namespace apikey::core {
namespace {

using Json = nlohmann::json;

std::optional<Json> read_vectors(const std::string& name) {
    const char* directory = std::getenv("APIKEY_VECTORS");
    if (directory == nullptr) {
        return std::nullopt;
    }
    std::ifstream file(std::string(directory) + "/wycheproof_" + name + "_test.json");
    if (!file) {
        return std::nullopt;
    }
    return Json::parse(file);
}

/** Cases where the file's verdict is not the one wanted here, and why. Their outcome is the opposite of the
 * file's. */
const std::map<int, std::string_view> jws_exceptions{
    {346,
     "valid with a JWK for PS256 and a header that says PS384: RFC 8725 section 3.1, one key, one algorithm"},
    {347,
     "valid with a JWK for ES521 and a header that says ES512: as above, and there is no algorithm ES521"},
    {350, "as 346"},
    {351, "as 347"},
    {367, "said to be padded, but the file holds no padding: the text is that of case 357, which is valid"},
    {370, "as 367"},
    {372, "valid with a '?' in the header: RFC 7515 section 2 has no character outside the alphabet"},
    {373, "valid with a '?' in the payload: as 372"},
};

struct Counts {
    int as_expected = 0;
    int skipped = 0;
    int exceptions = 0;
};

void report(const std::string& name, const Counts& counts, const Json& vectors, std::size_t exceptions) {
    std::cout << name << ": " << counts.as_expected << " as expected, " << counts.skipped
              << " skipped (algorithm not implemented), " << counts.exceptions << " exceptions\n";
    EXPECT_EQ(counts.as_expected + counts.skipped + counts.exceptions, vectors["numberOfTests"].get<int>());
    EXPECT_EQ(static_cast<std::size_t>(counts.exceptions), exceptions);
}

/** Judged by the JWK alone, without the code under test. */
bool is_implemented(const Json& jwk) {
    const std::string alg = jwk.value("alg", "");
    if (jwk["kty"] == "oct") {
        return alg == "HS256";
    }
    return (jwk["kty"] == "EC" && jwk["crv"] == "P-256" && alg == "ES256") ||
           (jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519" && alg == "EdDSA");
}

void judge(const Json& test, bool accepted, bool implemented,
           const std::map<int, std::string_view>& exceptions, Counts& counts) {
    const int id = test["tcId"];
    const bool valid = test["result"] == "valid";
    if (exceptions.contains(id)) {
        EXPECT_EQ(accepted, !valid) << id << ": " << exceptions.at(id);
        ++counts.exceptions;
    } else if (valid && !implemented) {
        EXPECT_FALSE(accepted) << id << ": an algorithm that is not implemented must not verify";
        ++counts.skipped;
    } else {
        EXPECT_EQ(accepted, valid) << id << ": " << test["comment"];
        ++counts.as_expected;
    }
}

TEST(Wycheproof, JsonWebSignature) {
    const auto vectors = read_vectors("json_web_signature");
    if (!vectors) {
        GTEST_SKIP() << "no vectors";
    }
    Counts counts;
    for (const Json& group : (*vectors)["testGroups"]) {
        const Json& jwk = group.contains("public") ? group["public"] : group["private"];
        const auto key = parse_jwk(jwk.dump());
        for (const Json& test : group["tests"]) {
            // A few cases are the general JSON serialization, which is no text to verify.
            const std::string text =
                test["jws"].is_string() ? test["jws"].get<std::string>() : test["jws"].dump();
            const bool accepted = key && verify_compact_jws(text, key->key, key->kid);
            judge(test, accepted, is_implemented(jwk), jws_exceptions, counts);
        }
    }
    report("json_web_signature", counts, *vectors, jws_exceptions.size());
}

bool accepted_by_set(const Json& set, std::string_view text) {
    const auto keys = parse_jwk_set(set.dump());
    const auto jws = parse_compact_jws(text);
    return keys && jws && std::any_of(keys->begin(), keys->end(), [&](const NamedKey& key) {
               return key.kid == jws->header.kid && verify_parsed_jws(*jws, key.key, key.kid);
           });
}

TEST(Wycheproof, JsonWebKey) {
    const auto vectors = read_vectors("json_web_key");
    if (!vectors) {
        GTEST_SKIP() << "no vectors";
    }
    Counts counts;
    for (const Json& group : (*vectors)["testGroups"]) {
        const Json& keys = group["private"]["keys"];
        const bool implemented = std::all_of(keys.begin(), keys.end(), is_implemented);
        for (const Json& test : group["tests"]) {
            const std::string text = test["jws"];
            const bool accepted = accepted_by_set(group["private"], text);
            if (group.contains("public")) {
                EXPECT_EQ(accepted_by_set(group["public"], text), accepted) << test["tcId"];
            }
            judge(test, accepted, implemented, {}, counts);
        }
    }
    report("json_web_key", counts, *vectors, 0);
}

TEST(Wycheproof, Ed25519) {
    const auto vectors = read_vectors("ed25519");
    if (!vectors) {
        GTEST_SKIP() << "no vectors";
    }
    Counts counts;
    for (const Json& group : (*vectors)["testGroups"]) {
        const Bytes public_bytes = from_hex(group["publicKey"]["pk"].get<std::string>());
        const SigningKey key = SigningKey::from_public_bytes(Algorithm::EdDSA, public_bytes);
        for (const Json& test : group["tests"]) {
            const bool accepted = key.verify(from_hex(test["msg"].get<std::string>()),
                                             from_hex(test["sig"].get<std::string>()));
            judge(test, accepted, true, {}, counts);
        }
    }
    report("ed25519", counts, *vectors, 0);
}

TEST(Wycheproof, Pbkdf2HmacSha256) {
    const auto vectors = read_vectors("pbkdf2_hmacsha256");
    if (!vectors) {
        GTEST_SKIP() << "no vectors";
    }
    Counts counts;
    for (const Json& group : (*vectors)["testGroups"]) {
        for (const Json& test : group["tests"]) {
            Bytes out(test["dkLen"].get<std::size_t>());
            pbkdf2_hmac_sha256(from_hex(test["password"].get<std::string>()),
                               from_hex(test["salt"].get<std::string>()),
                               test["iterationCount"].get<std::uint32_t>(), out);
            judge(test, to_hex(out) == test["dk"].get<std::string>(), true, {}, counts);
        }
    }
    report("pbkdf2_hmacsha256", counts, *vectors, 0);
}

}  // namespace
}  // namespace apikey::core
