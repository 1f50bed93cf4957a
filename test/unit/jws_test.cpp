#include "core/jws.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "core/base64url.h"
#include "jose.h"

namespace apikey::core {
namespace {

constexpr std::array all_algorithms{Algorithm::EdDSA, Algorithm::ES256, Algorithm::HS256};

std::string b64(std::string_view text) {
    return base64url_encode(bytes_of(text));
}

std::string sign(std::string_view header, std::string_view payload, const SigningKey& key) {
    const SecretBytes token = sign_compact_jws(header, payload, key);
    return std::string(text_of(token));
}

std::string why_not(std::string_view text) {
    std::string why;
    EXPECT_FALSE(parse_compact_jws(text, &why)) << text.substr(0, 100);
    return why;
}

std::string why_not_header(std::string_view header) {
    return why_not(b64(header) + ".e30.AAAA");
}

SigningKey key_of(std::string_view jwk) {
    return std::move(parse_jwk(jwk).value().key);
}

// RFC 7515 appendix A.1.
constexpr std::string_view rfc7515_a1 =
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
constexpr std::string_view rfc7515_a1_key =
    R"({"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"})";

// RFC 7515 appendix A.3.
constexpr std::string_view rfc7515_a3 =
    "eyJhbGciOiJFUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
constexpr std::string_view rfc7515_a3_key =
    R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
    R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"})";

// RFC 8037 appendix A.1 and A.4.
constexpr std::string_view rfc8037_a4 =
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
constexpr std::string_view rfc8037_a1_key =
    R"({"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",)"
    R"("x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})";

TEST(Jws, Rfc7515AppendixA1) {
    const SigningKey key = key_of(rfc7515_a1_key);
    const auto payload = verify_compact_jws(rfc7515_a1, key);
    ASSERT_TRUE(payload);
    EXPECT_EQ(text_of(*payload),
              "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}");
    EXPECT_EQ(sign("{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}", text_of(*payload), key), rfc7515_a1);
}

TEST(Jws, Rfc7515AppendixA3) {
    EXPECT_TRUE(verify_compact_jws(rfc7515_a3, key_of(rfc7515_a3_key)));
}

TEST(Jws, Rfc8037AppendixA4AndA5) {
    const SigningKey key = key_of(rfc8037_a1_key);
    EXPECT_EQ(sign(R"({"alg":"EdDSA"})", "Example of Ed25519 signing", key), rfc8037_a4);
    const SigningKey public_half = SigningKey::from_public_bytes(Algorithm::EdDSA, key.public_bytes());
    const auto payload = verify_compact_jws(rfc8037_a4, public_half);
    ASSERT_TRUE(payload);
    EXPECT_EQ(text_of(*payload), "Example of Ed25519 signing");
}

TEST(Jws, SignAndVerifyWithEveryAlgorithm) {
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        const std::string header = R"({"alg":")" + std::string(algorithm_name(algorithm)) + R"("})";
        const std::string token = sign(header, "payload", key);
        const auto payload = verify_compact_jws(token, key);
        ASSERT_TRUE(payload) << algorithm_name(algorithm);
        EXPECT_EQ(text_of(*payload), "payload");
        EXPECT_FALSE(verify_compact_jws(token, SigningKey::generate(algorithm)));
        EXPECT_EQ(sign(header, "payload", key) == token, is_deterministic(algorithm));
        EXPECT_EQ(parse_compact_jws(token)->signature.size(), algorithm == Algorithm::HS256 ? 32u : 64u);
    }
}

TEST(Jws, EverySingleCharacterChangeIsRefused) {
    constexpr std::string_view alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    for (const auto& [jwk, token] :
         {std::pair(rfc7515_a1_key, rfc7515_a1), std::pair(rfc8037_a1_key, rfc8037_a4)}) {
        const SigningKey key = key_of(jwk);
        ASSERT_TRUE(verify_compact_jws(token, key));
        for (std::size_t i = 0; i < token.size(); ++i) {
            for (const char c : alphabet) {
                std::string changed(token);
                if (changed[i] == c) {
                    continue;
                }
                changed[i] = c;
                ASSERT_FALSE(verify_compact_jws(changed, key)) << i << ' ' << c;
            }
            std::string shorter(token);
            shorter.erase(i, 1);
            ASSERT_FALSE(verify_compact_jws(shorter, key)) << i;
        }
    }
}

TEST(Jws, AlgorithmNamesAreCaseSensitiveAndFew) {
    for (const Algorithm algorithm : all_algorithms) {
        EXPECT_EQ(algorithm_from_name(algorithm_name(algorithm)), algorithm);
    }
    for (const std::string_view name :
         {"none",  "None",  "NONE",  "nOnE",  "",      "eddsa",  "EDDSA",   "es256",  "hs256",  "HS384",
          "HS512", "RS256", "PS256", "ES384", "ES512", "ES256K", "Ed25519", "HS256 ", " HS256", "A256GCM"}) {
        EXPECT_EQ(algorithm_from_name(name), std::nullopt) << name;
        EXPECT_EQ(why_not_header(R"({"alg":")" + std::string(name) + R"("})"), "unknown algorithm") << name;
    }
    EXPECT_EQ(why_not_header(R"({"alg":null})"), "unknown algorithm");
    EXPECT_EQ(why_not_header(R"({"alg":["HS256"]})"), "unknown algorithm");
    EXPECT_EQ(why_not_header("{}"), "no algorithm");
}

// RFC 8725 section 2.1: the same bytes taken for a public key and for a secret.
TEST(Jws, APublicKeyIsNoHmacSecret) {
    for (const Algorithm algorithm : {Algorithm::EdDSA, Algorithm::ES256}) {
        const SigningKey key = SigningKey::generate(algorithm);
        const SigningKey forger = SigningKey::from_private_bytes(Algorithm::HS256, key.public_bytes());
        const std::string forged = sign(R"({"alg":"HS256"})", "payload", forger);
        ASSERT_TRUE(verify_compact_jws(forged, forger));
        EXPECT_FALSE(verify_compact_jws(forged, key));
        EXPECT_FALSE(
            verify_compact_jws(forged, SigningKey::from_public_bytes(algorithm, key.public_bytes())));
    }
}

TEST(Jws, NoneIsRefusedWithAndWithoutSignature) {
    const SigningKey key = SigningKey::generate(Algorithm::HS256);
    for (const std::string_view none : {"none", "None", "nOnE", "NONE"}) {
        const std::string header = R"({"alg":")" + std::string(none) + R"("})";
        EXPECT_FALSE(verify_compact_jws(b64(header) + ".cGF5bG9hZA.", key));
        EXPECT_FALSE(verify_compact_jws(sign(header, "payload", key), key));
    }
    EXPECT_FALSE(verify_compact_jws(b64(R"({"alg":"HS256"})") + ".cGF5bG9hZA.", key));
}

TEST(Jws, HeaderMembersAreFew) {
    const std::string text = b64(R"({"typ":"t","alg":"ES256","kid":"k"})") + ".e30.AAAA";
    const auto jws = parse_compact_jws(text);
    ASSERT_TRUE(jws);
    EXPECT_EQ(jws->header.algorithm, Algorithm::ES256);
    EXPECT_EQ(jws->header.kid, "k");
    EXPECT_EQ(jws->header.typ, "t");
    EXPECT_EQ(text_of(jws->payload), "{}");
    EXPECT_EQ(jws->signing_input, b64(R"({"typ":"t","alg":"ES256","kid":"k"})") + ".e30");

    for (const std::string_view member :
         {R"("crit":["exp"])", R"("crit":[])", R"("jwk":{"kty":"oct","k":"AA"})", R"("jku":"https://a")",
          R"("x5c":["A"])", R"("x5u":"https://a")", R"("x5t":"A")", R"("x5t#S256":"A")", R"("b64":false)",
          R"("b64":true)", R"("zip":"DEF")", R"("cty":"JWT")", R"("enc":"A256GCM")", R"("epk":{})",
          R"("p2c":1)", R"("iss":"a")", R"("ALG":"HS256")", R"("":1)"}) {
        EXPECT_EQ(why_not_header(R"({"alg":"HS256",)" + std::string(member) + "}"),
                  "a header member is not allowed")
            << member;
    }
    for (const std::string_view member :
         {R"("kid":1)", R"("kid":"")", R"("kid":null)", R"("typ":{})", R"("typ":"")"}) {
        EXPECT_EQ(why_not_header(R"({"alg":"HS256",)" + std::string(member) + "}"),
                  "a header member has the wrong type or is empty")
            << member;
    }
    EXPECT_EQ(why_not_header(R"({"alg":"HS256","alg":"HS256"})"), "a JSON member appears twice");
    EXPECT_EQ(why_not_header(R"({"alg":"HS256","\u0061lg":"EdDSA"})"), "a JSON member appears twice");
    EXPECT_EQ(why_not_header("{\"alg\":\"HS256\",\"kid\":\"\xC3\x28\"}"), "not valid JSON");
    EXPECT_EQ(why_not_header(R"([{"alg":"HS256"}])"), "not a JSON object");
}

TEST(Jws, ShapeOfTheCompactForm) {
    for (const std::string_view text :
         {"", ".", "a", "a.b", "e30.e30", "e30.e30.e30.e30", "....", "e30.e30.e30."}) {
        EXPECT_EQ(why_not(text), "not three parts") << text;
    }
    const std::string header = b64(R"({"alg":"HS256"})");
    EXPECT_TRUE(parse_compact_jws(header + ".."));
    for (const std::string& text :
         {header + "=.e30.AAAA", header + ".e30=.AAAA", header + ".e30.AAAA=", header + ".e30.AA A",
          header + ".e30.AAB", header + ".e30.A", "\n" + header + ".e30.AAAA", header + ".e3\xff.AAAA"}) {
        EXPECT_EQ(why_not(text), "not base64url") << text;
    }
    EXPECT_EQ(why_not("..AAAA"), "not valid JSON");
}

TEST(Jws, HugeAndDeepInputIsRefusedAtOnce) {
    EXPECT_EQ(why_not(std::string(1 << 20, 'A')), "too long");
    EXPECT_EQ(why_not(std::string(1 << 20, '.')), "too long");
    EXPECT_EQ(why_not(b64("{\"alg\":" + std::string(100'000, '[')) + ".e30.AAAA"), "too long");
    EXPECT_EQ(why_not_header("{\"alg\":" + std::string(5'000, '[')), "JSON is nested too deeply");
    EXPECT_EQ(why_not(std::string(max_jws_size, 'A')), "not three parts");

    const std::string header = b64(R"({"alg":"HS256"})");
    const std::string rest(max_jws_size - header.size() - 2 - 4, 'A');
    EXPECT_TRUE(parse_compact_jws(header + '.' + rest.substr(rest.size() % 4) + ".AAAA"));
}

TEST(Jws, ReasonsNeverQuoteTheToken) {
    for (const std::string_view header :
         {R"({"SECRET":1})", R"({"alg":"SECRET"})", R"({"alg":"HS256","kid":"SECRET)"}) {
        EXPECT_EQ(why_not_header(header).find("SECRET"), std::string::npos);
    }
}

}  // namespace
}  // namespace apikey::core
