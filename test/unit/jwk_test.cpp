#include <gtest/gtest.h>

#include <string>

#include "core/base64url.h"
#include "core/error.h"
#include "core/jws.h"

namespace apikey::core {
namespace {

constexpr std::string_view ed_public =
    R"("kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")";
constexpr std::string_view ed_private = R"("d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")";
constexpr std::string_view ec_public =
    R"("kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")";
constexpr std::string_view ec_private = R"("d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")";
constexpr std::string_view oct = R"("kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T")";

std::string jwk(std::string_view members, std::string_view more = {}) {
    std::string json = "{" + std::string(members);
    if (!more.empty()) {
        json.append(",").append(more);
    }
    return json + "}";
}

std::string set_of(std::initializer_list<std::string> keys) {
    std::string json = R"({"keys":[)";
    for (const std::string& key : keys) {
        json += (json.back() == '[' ? "" : ",") + key;
    }
    return json + "]}";
}

std::string why_not(std::string_view json) {
    std::string why;
    EXPECT_FALSE(parse_jwk(json, &why)) << json;
    EXPECT_FALSE(why.empty()) << json;
    return why;
}

std::string why_not_set(std::string_view json) {
    std::string why;
    EXPECT_FALSE(parse_jwk_set(json, &why)) << json;
    EXPECT_FALSE(why.empty()) << json;
    return why;
}

TEST(Jwk, ReadsEveryType) {
    const auto ed = parse_jwk(jwk(ed_public, R"("kid":"k1","alg":"EdDSA","use":"sig","key_ops":["verify"])"));
    ASSERT_TRUE(ed);
    EXPECT_EQ(ed->kid, "k1");
    EXPECT_EQ(ed->key.algorithm(), Algorithm::EdDSA);
    EXPECT_FALSE(ed->key.can_sign());
    const auto ed_pair = parse_jwk(jwk(ed_public, ed_private));
    ASSERT_TRUE(ed_pair);
    EXPECT_EQ(ed_pair->kid, "");
    EXPECT_TRUE(ed_pair->key.can_sign());

    const auto ec = parse_jwk(jwk(ec_public, R"("alg":"ES256")"));
    ASSERT_TRUE(ec);
    EXPECT_EQ(ec->key.algorithm(), Algorithm::ES256);
    EXPECT_FALSE(ec->key.can_sign());
    const auto ec_pair = parse_jwk(jwk(ec_public, ec_private));
    ASSERT_TRUE(ec_pair);
    EXPECT_TRUE(ec_pair->key.can_sign());
    EXPECT_TRUE(ec->key.verify(bytes_of("x"), ec_pair->key.sign(bytes_of("x"))));

    const auto secret = parse_jwk(jwk(oct, R"("alg":"HS256","key_ops":["sign","verify"])"));
    ASSERT_TRUE(secret);
    EXPECT_EQ(secret->key.algorithm(), Algorithm::HS256);
    EXPECT_EQ(secret->key.private_bytes().size(), 33u);
}

// RFC 7517 section 4: members that are not understood are ignored.
TEST(Jwk, IgnoresUnknownMembers) {
    EXPECT_TRUE(parse_jwk(jwk(ed_public, R"("x5c":["AAAA"],"ext":true,"iat":1,"x-note":{"a":null})")));
}

TEST(Jwk, RefusesOtherTypes) {
    for (const std::string_view json :
         {R"({})", R"({"kty":1})", R"({"kty":"RSA","n":"AQAB","e":"AQAB"})",
          R"({"kty":"okp","crv":"Ed25519","x":"A"})", R"({"kty":"OKP","crv":"Ed448","x":"A"})",
          // RFC 8037 appendix A.6: a key of the same type that cannot sign.
          R"({"kty":"OKP","crv":"X25519","kid":"Bob","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"})",
          R"({"kty":"EC","crv":"P-384","x":"A","y":"A"})", R"({"kty":"EC","x":"A","y":"A"})",
          R"({"kty":"OCT","k":"A"})"}) {
        EXPECT_EQ(why_not(json), "not a JWK of a known type (OKP with Ed25519, EC with P-256, oct)") << json;
    }
}

TEST(Jwk, AlgHasToFitTheKey) {
    for (const std::string_view alg : {"ES256", "HS256", "none", "eddsa", "Ed25519", "RS256", ""}) {
        EXPECT_EQ(why_not(jwk(ed_public, R"("alg":")" + std::string(alg) + '"')),
                  "the JWK's alg does not fit its key");
    }
    EXPECT_EQ(why_not(jwk(ec_public, R"("alg":"ES512")")), "the JWK's alg does not fit its key");
    EXPECT_EQ(why_not(jwk(oct, R"("alg":"HS512")")), "the JWK's alg does not fit its key");
    EXPECT_EQ(why_not(jwk(oct, R"("alg":"A256GCM")")), "the JWK's alg does not fit its key");
    EXPECT_EQ(why_not(jwk(oct, R"("alg":256)")), "a JWK member has the wrong type");
}

TEST(Jwk, UseAndKeyOpsHaveToAllowSignatures) {
    for (const std::string_view use : {"enc", "", "SIG"}) {
        EXPECT_EQ(why_not(jwk(ed_public, R"("use":")" + std::string(use) + '"')),
                  "the JWK is not for signatures");
    }
    EXPECT_EQ(why_not(jwk(ed_public, R"("use":["sig"])")), "a JWK member has the wrong type");
    for (const std::string_view ops :
         {R"([])", R"(["encrypt"])", R"(["verify","verify"])", R"(["sign","verify","sign"])",
          R"(["sign, verify"])", R"(["verify",1])", R"([null])", R"("verify")", R"({})"}) {
        EXPECT_EQ(why_not(jwk(ed_public, R"("key_ops":)" + std::string(ops))),
                  "the JWK's key_ops do not allow signatures")
            << ops;
    }
    for (const std::string_view ops : {R"(["verify"])", R"(["sign"])", R"(["sign","verify"])"}) {
        EXPECT_TRUE(parse_jwk(jwk(ed_public, R"("key_ops":)" + std::string(ops)))) << ops;
    }
}

TEST(Jwk, KidHasToBeUsable) {
    for (const std::string_view kid : {R"("")", R"("a b")", R"("../../k")", R"(1)", R"(null)"}) {
        why_not(jwk(ed_public, R"("kid":)" + std::string(kid)));
    }
}

TEST(Jwk, CoordinatesHaveTheirSize) {
    const std::string full = base64url_encode(Bytes(32, 1)), shorter = base64url_encode(Bytes(31, 1)),
                      longer = base64url_encode(Bytes(33, 1));
    for (const std::string& x : {shorter, longer, std::string(), full + "=", full.substr(0, 42)}) {
        why_not(R"({"kty":"OKP","crv":"Ed25519","x":")" + x + "\"}");
        why_not(R"({"kty":"EC","crv":"P-256","x":")" + x + R"(","y":")" + full + "\"}");
        why_not(R"({"kty":"EC","crv":"P-256","x":")" + full + R"(","y":")" + x + "\"}");
        why_not(jwk(ed_public, R"("d":")" + x + '"'));
        why_not(jwk(ec_public, R"("d":")" + x + '"'));
    }
    why_not(R"({"kty":"OKP","crv":"Ed25519"})");
    why_not(R"({"kty":"OKP","crv":"Ed25519","x":12})");
    why_not(R"({"kty":"EC","crv":"P-256","x":")" + full + "\"}");
    EXPECT_EQ(why_not(R"({"kty":"EC","crv":"P-256","x":")" + full + R"(","y":")" + full + "\"}"),
              "not an uncompressed point of P-256");
    why_not(R"({"kty":"oct"})");
    why_not(R"({"kty":"oct","k":""})");
    EXPECT_EQ(why_not(R"({"kty":"oct","k":")" + shorter + "\"}"), "an HS256 secret has at least 32 bytes");
    EXPECT_TRUE(parse_jwk(R"({"kty":"oct","k":")" + longer + "\"}"));
}

TEST(Jwk, PrivateAndPublicMembersHaveToBelongTogether) {
    EXPECT_EQ(why_not(jwk(ed_public, R"("d":")" + base64url_encode(Bytes(32, 1)) + '"')),
              "the JWK's private and public members are not of one key");
    EXPECT_EQ(why_not(jwk(ec_public, R"("d":")" + base64url_encode(Bytes(32, 1)) + '"')),
              "the JWK's private and public members are not of one key");
    why_not(jwk(ec_public, R"("d":")" + base64url_encode(Bytes(32, 0)) + '"'));
    why_not(jwk(ed_public, R"("d":null)"));
}

TEST(Jwk, RefusesDuplicatesAndDeepOrHugeJson) {
    EXPECT_EQ(why_not(jwk(ed_public, R"("kty":"OKP")")), "a JSON member appears twice");
    EXPECT_EQ(why_not(jwk(ed_public, R"("\u0078":"A")")), "a JSON member appears twice");
    EXPECT_EQ(why_not("{\"kty\":" + std::string(60'000, '[')), "JSON is nested too deeply");
    EXPECT_EQ(why_not("{\"kty\":" + std::string(100'000, '[')), "JSON is too long");
}

TEST(Jwk, PublicJwkIsReadBack) {
    for (const Algorithm algorithm : {Algorithm::EdDSA, Algorithm::ES256}) {
        const SigningKey key = SigningKey::generate(algorithm);
        const std::string json = public_jwk(key, key.make_kid());
        EXPECT_EQ(json.find("\"d\""), std::string::npos);
        std::string why;
        const auto named = parse_jwk(json, &why);
        ASSERT_TRUE(named) << why;
        EXPECT_EQ(named->kid, key.make_kid());
        EXPECT_EQ(named->key.algorithm(), algorithm);
        EXPECT_EQ(named->key.public_bytes(), key.public_bytes());
        EXPECT_FALSE(named->key.can_sign());
    }
    EXPECT_EQ(public_jwk(parse_jwk(jwk(ed_public))->key, "k1"),
              jwk(ed_public, R"("kid":"k1","alg":"EdDSA","use":"sig")"));
    EXPECT_EQ(public_jwk(parse_jwk(jwk(ec_public, ec_private))->key, "k1"),
              jwk(ec_public, R"("kid":"k1","alg":"ES256","use":"sig")"));
    EXPECT_THROW(public_jwk(SigningKey::generate(Algorithm::HS256), "k"), InvalidArgument);
    EXPECT_THROW(public_jwk(SigningKey::generate(Algorithm::EdDSA), "a\"b"), InvalidArgument);
}

TEST(JwkSet, ReadsKeysAndIgnoresForeignTypes) {
    const auto keys =
        parse_jwk_set(set_of({jwk(ed_public, R"("kid":"a")"), R"({"kty":"RSA","kid":"b c@d","n":"x"})",
                              R"({"kty":"EC","crv":"P-521"})", jwk(ec_public, R"("kid":"c")")}));
    ASSERT_TRUE(keys);
    ASSERT_EQ(keys->size(), 2u);
    EXPECT_EQ(keys->at(0).kid, "a");
    EXPECT_EQ(keys->at(1).kid, "c");
    EXPECT_TRUE(parse_jwk_set(R"({"keys":[]})")->empty());
    EXPECT_EQ(parse_jwk_set(set_of({jwk(ed_public), jwk(ec_public)}))->size(), 2u);
}

TEST(JwkSet, RefusedWhole) {
    EXPECT_EQ(why_not_set(set_of({jwk(ed_public), jwk(oct)})), "the JWK set mixes symmetric and public keys");
    EXPECT_EQ(why_not_set(set_of({jwk(oct), R"({"kty":"RSA"})"})),
              "the JWK set mixes symmetric and public keys");
    EXPECT_EQ(why_not_set(set_of({jwk(ed_public, R"("kid":"a")"), jwk(ec_public, R"("kid":"a")")})),
              "two keys of the JWK set have the same kid");
    EXPECT_EQ(why_not_set(set_of({jwk(ed_public, R"("kid":"a")"), R"({"kty":"RSA","kid":"a"})"})),
              "two keys of the JWK set have the same kid");
    why_not_set(set_of({jwk(ed_public), jwk(ec_public, R"("use":"enc")")}));
    why_not_set(set_of({jwk(ed_public), R"({"kty":"OKP","crv":"Ed25519","x":"AA"})"}));
    why_not_set(set_of({jwk(ed_public), "1"}));
    why_not_set(set_of({jwk(ed_public), "{}"}));
    why_not_set(R"({"keys":{}})");
    why_not_set(R"({"key":[]})");
    why_not_set(R"({"keys":[],"keys":[]})");
    why_not_set("[]");
}

}  // namespace
}  // namespace apikey::core
