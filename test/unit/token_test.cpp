#include "core/token.h"

#include <gtest/gtest.h>

#include <array>
#include <climits>
#include <string>
#include <vector>

#include "core/base64url.h"
#include "core/error.h"
#include "jose.h"

namespace apikey::core {
namespace {

constexpr std::array all_algorithms{Algorithm::EdDSA, Algorithm::ES256, Algorithm::HS256};

Bytes counting_bytes(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::uint8_t>(i);
    }
    return bytes;
}

Claims example_claims() {
    Claims claims;
    claims.issuer = "https://db.example";
    claims.subject = "acme";
    claims.key_id = *uuid_from_string("018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e");
    claims.issued_at = 1'700'000'000;
    claims.expires_at = 1'702'592'000;
    claims.role = "contributor";
    claims.nonce = "AAECAwQFBgcICQoLDA0ODw";
    return claims;
}

std::string make(const Claims& claims, const SigningKey& key, std::string_view kid = "k1") {
    const SecretBytes token = make_jwt(claims, key, kid);
    return std::string(text_of(token));
}

const SigningKey& hs256_key() {
    static const SigningKey key = SigningKey::from_private_bytes(Algorithm::HS256, counting_bytes(32));
    return key;
}

/** A token with any header and payload, signed. */
std::string forge(std::string_view header, std::string_view payload) {
    const SecretBytes token = sign_compact_jws(header, payload, hs256_key());
    return std::string(text_of(token));
}

constexpr std::string_view good_header = R"({"typ":"apikey+jwt","alg":"HS256","kid":"k1"})";
constexpr std::string_view good_claims =
    R"({"iss":"i","sub":"s","jti":"018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1","iat":1,"exp":2,"role":"r",)"
    R"("nonce":"AAECAwQFBgcICQoLDA0ODw"})";

std::string why_malformed(std::string_view text) {
    const ParsedToken parsed = parse_token(text);
    const auto* failure = std::get_if<TokenFailure>(&parsed);
    EXPECT_NE(failure, nullptr) << text.substr(0, 200);
    if (failure == nullptr) {
        return {};
    }
    EXPECT_EQ(failure->error, TokenError::malformed) << text.substr(0, 200);
    EXPECT_FALSE(failure->why.empty());
    return failure->why;
}

std::string why_malformed_claims(std::string_view payload) {
    return why_malformed(forge(good_header, payload));
}

/** good_claims with one member's value replaced, or another member added. */
std::string claims_with(std::string_view name, std::string_view value) {
    std::string json(good_claims);
    const std::string member = '"' + std::string(name) + "\":";
    const std::size_t at = json.find(member);
    if (at == std::string::npos) {
        json.insert(json.size() - 1, ',' + member + std::string(value));
    } else {
        const std::size_t start = at + member.size();
        json.replace(start, json.find_first_of(",}", start) - start, value);
    }
    return json;
}

/** Parsed as ours and proven by the key. */
bool is_accepted(std::string_view text, const SigningKey& key) {
    const ParsedToken parsed = parse_token(text);
    const auto* token = std::get_if<JwtToken>(&parsed);
    return token != nullptr && verify_parsed_jws(token->jws, key, "k1");
}

TEST(JwtToken, KnownAnswer) {
    EXPECT_EQ(make(example_claims(), hs256_key()),
              "eyJ0eXAiOiJhcGlrZXkrand0IiwiYWxnIjoiSFMyNTYiLCJraWQiOiJrMSJ9."
              "eyJpc3MiOiJodHRwczovL2RiLmV4YW1wbGUiLCJzdWIiOiJhY21lIiwianRpIjoiMDE4ZjJkNWUtN2M0"
              "YS03YjNjLThkMWUtMmYzYTRiNWM2ZDdlLjEiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMjU5MjAw"
              "MCwicm9sZSI6ImNvbnRyaWJ1dG9yIiwibm9uY2UiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3In0."
              "5C3uc1aAT3MsFycldwINp24YIqW9SdLWAfdSfLND-9A");
}

TEST(JwtToken, HeaderAndClaimsAreWrittenInTheFixedOrder) {
    Claims claims = example_claims();
    claims.audience = "gateway";
    claims.environment = "live";
    claims.scope = "chat:read dataset:*";
    const std::string token = make(claims, SigningKey::generate(Algorithm::EdDSA));
    const std::size_t dot = token.find('.');
    EXPECT_EQ(text_of(*base64url_decode(token.substr(0, dot))),
              R"({"typ":"apikey+jwt","alg":"EdDSA","kid":"k1"})");
    EXPECT_EQ(
        text_of(*base64url_decode(token.substr(dot + 1, token.rfind('.') - dot - 1))),
        R"({"iss":"https://db.example","sub":"acme","jti":"018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1","iat":1700000000,)"
        R"("exp":1702592000,"role":"contributor","aud":"gateway","env":"live","scope":"chat:read dataset:*",)"
        R"("nonce":"AAECAwQFBgcICQoLDA0ODw"})");
}

TEST(JwtToken, BeginsWithThePrefix) {
    EXPECT_EQ(base64url_encode(bytes_of(R"({"typ":"apikey+jwt)")), jwt_prefix);
    for (const Algorithm algorithm : all_algorithms) {
        EXPECT_TRUE(make(example_claims(), SigningKey::generate(algorithm)).starts_with(jwt_prefix));
    }
}

TEST(JwtToken, RoundTrip) {
    Claims rich = example_claims();
    rich.subject = "R\xC3\xA9n\xC3\xA9 \"the \\ slash\" / \xF0\x9F\x98\x80 \xE2\x80\xA8";
    rich.generation = INT_MAX;
    rich.issued_at = 0;
    rich.expires_at = 253402300799;
    rich.audience = "a b";
    rich.environment = "0123456789abcdef";
    rich.scope = "chat:* x.y-z_1:read";
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        for (const Claims& claims : {example_claims(), rich}) {
            const std::string text = make(claims, key);
            const ParsedToken parsed = parse_token(text);
            ASSERT_TRUE(std::holds_alternative<JwtToken>(parsed));
            const auto& token = std::get<JwtToken>(parsed);
            EXPECT_EQ(token.claims, claims);
            EXPECT_EQ(token.jws.header.algorithm, algorithm);
            EXPECT_EQ(token.jws.header.kid, "k1");
            EXPECT_TRUE(verify_parsed_jws(token.jws, key, "k1"));
            EXPECT_EQ(make(token.claims, key) == text, is_deterministic(algorithm));
        }
    }
}

TEST(JwtToken, EverySingleCharacterChangeIsRefused) {
    constexpr std::string_view alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        const std::string token = make(example_claims(), key);
        ASSERT_TRUE(is_accepted(token, key));
        // The slow algorithms get one digit for each position, HS256 all of them.
        const std::size_t step = algorithm == Algorithm::HS256 ? 1 : alphabet.size();
        for (std::size_t i = 0; i < token.size(); ++i) {
            for (std::size_t k = 0; k < alphabet.size(); k += step) {
                std::string changed = token;
                changed[i] = alphabet[(k + i) % alphabet.size()] == token[i]
                                 ? '~'
                                 : alphabet[(k + i) % alphabet.size()];
                ASSERT_FALSE(is_accepted(changed, key))
                    << algorithm_name(algorithm) << ' ' << i << ' ' << changed[i];
            }
            ASSERT_FALSE(is_accepted(token.substr(0, i), key));
            ASSERT_FALSE(is_accepted(token.substr(i + 1), key));
        }
        ASSERT_FALSE(is_accepted(token + 'A', key));
        ASSERT_FALSE(is_accepted(' ' + token, key));
    }
}

TEST(JwtToken, HeaderHasToBeOurs) {
    EXPECT_TRUE(is_accepted(forge(good_header, good_claims), hs256_key()));
    EXPECT_EQ(why_malformed(forge(R"({"alg":"HS256","typ":"apikey+jwt","kid":"k1"})", good_claims)),
              "unknown format");
    EXPECT_EQ(why_malformed(forge(R"({ "typ":"apikey+jwt","alg":"HS256","kid":"k1"})", good_claims)),
              "unknown format");
    EXPECT_EQ(why_malformed(forge(R"({"typ":"JWT","alg":"HS256","kid":"k1"})", good_claims)),
              "unknown format");
    EXPECT_EQ(why_malformed(forge(R"({"typ":"apikey+jwt2","alg":"HS256","kid":"k1"})", good_claims)),
              "not typed as an API key");
    EXPECT_EQ(why_malformed(forge(R"({"typ":"apikey+jwt","alg":"HS256"})", good_claims)), "no valid kid");
    EXPECT_EQ(why_malformed(forge(R"({"typ":"apikey+jwt","alg":"HS256","kid":"a/b"})", good_claims)),
              "no valid kid");
    EXPECT_EQ(why_malformed(forge(R"({"typ":"apikey+jwt","alg":"none","kid":"k1"})", good_claims)),
              "unknown algorithm");
    EXPECT_EQ(
        why_malformed(forge(R"({"typ":"apikey+jwt","alg":"HS256","kid":"k1","crit":["b64"]})", good_claims)),
        "a header member is not allowed");
}

TEST(JwtToken, AnotherAlgorithmsKeyDoesNotProve) {
    const SigningKey es256 = SigningKey::generate(Algorithm::ES256);
    const SecretBytes token =
        sign_compact_jws(R"({"typ":"apikey+jwt","alg":"EdDSA","kid":"k1"})", good_claims, es256);
    EXPECT_FALSE(is_accepted(text_of(token), es256));
    const SigningKey forger = SigningKey::from_private_bytes(Algorithm::HS256, es256.public_bytes());
    EXPECT_FALSE(is_accepted(make(example_claims(), forger), es256));
    EXPECT_TRUE(is_accepted(make(example_claims(), forger), forger));
}

TEST(JwtToken, RequiredClaims) {
    ASSERT_TRUE(is_accepted(forge(good_header, good_claims), hs256_key()));
    const std::array<std::string_view, 7> members{R"("iss":"i")",
                                                  R"("sub":"s")",
                                                  R"("jti":"018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1")",
                                                  R"("iat":1)",
                                                  R"("exp":2)",
                                                  R"("role":"r")",
                                                  R"("nonce":"AAECAwQFBgcICQoLDA0ODw")"};
    for (std::size_t left_out = 0; left_out < members.size(); ++left_out) {
        std::string json = "{";
        for (std::size_t i = 0; i < members.size(); ++i) {
            if (i != left_out) {
                json.append(json == "{" ? "" : ",").append(members[i]);
            }
        }
        EXPECT_EQ(why_malformed_claims(json + "}"), "a required claim is missing");
    }
}

TEST(JwtToken, UnknownDuplicateAndMistypedClaims) {
    for (const std::string_view name : {"nbf", "admin", "permissions", "ISS", ""}) {
        EXPECT_EQ(why_malformed_claims(claims_with(name, "1")), "unknown claim") << name;
    }
    for (const std::string_view name : {"iss", "sub", "role", "aud", "env", "scope", "nonce"}) {
        for (const std::string_view value : {"1", "null", "true", "[]", R"(["a"])", "{}", R"("")"}) {
            EXPECT_EQ(why_malformed_claims(claims_with(name, value)),
                      "a claim has the wrong type or is empty")
                << name << value;
        }
    }
    std::string twice(good_claims);
    twice.insert(twice.size() - 1, R"(,"\u0073ub":"root")");
    EXPECT_EQ(why_malformed_claims(twice), "a JSON member appears twice");
}

TEST(JwtToken, ControlCharactersAndMangledUtf8) {
    for (const std::string_view value : {R"("a\u0001")", R"("a\n")", R"("\u001f")", R"("\u007f")",
                                         R"("\u0080")", R"("\u009f")", "\"\x7f\"", "\"\xC2\x85\""}) {
        EXPECT_EQ(why_malformed_claims(claims_with("sub", value)), "control character in a claim") << value;
    }
    EXPECT_EQ(why_malformed_claims(claims_with("sub", R"("a\u0000")")), "NUL character in a JSON string");
    for (const std::string_view value :
         {"\"\xff\"", "\"\xC3\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", R"("\ud800")"}) {
        EXPECT_EQ(why_malformed_claims(claims_with("sub", value)), "not valid JSON") << value;
    }
    EXPECT_TRUE(is_accepted(forge(good_header, claims_with("sub", "\"\xC2\xA0\xC3\x85\"")), hs256_key()));
}

TEST(JwtToken, JtiHasOneForm) {
    for (const std::string_view jti :
         {"", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.0", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.01",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.-1", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.+1",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e. 1", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1 ",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1.1", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.2147483648",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.99999999999999999999",
          "018F2D5E-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1", "018f2d5e7c4a7b3c8d1e2f3a4b5c6d7e.1", ".1",
          "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.0x1", "018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.1e1"}) {
        EXPECT_EQ(why_malformed_claims(claims_with("jti", '"' + std::string(jti) + '"')),
                  "jti is not a key id and a generation")
            << jti;
    }
    EXPECT_EQ(why_malformed_claims(claims_with("jti", "1")), "jti is not a key id and a generation");
    EXPECT_TRUE(is_accepted(
        forge(good_header, claims_with("jti", R"("018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e.2147483647")")),
        hs256_key()));
}

TEST(JwtToken, TimesAreWholeSecondsOfThisEra) {
    for (const std::string_view name : {"iat", "exp"}) {
        for (const std::string_view value :
             {"-1", "-0", "1.5", "1.0", "1e9", R"("1")", "null", "253402300800", "18446744073709551615",
              "18446744073709551616", "9223372036854775808", "[1]"}) {
            EXPECT_EQ(why_malformed_claims(claims_with(name, value)),
                      "a time is not a whole number of seconds from 1970 to 9999")
                << name << value;
        }
        EXPECT_TRUE(is_accepted(forge(good_header, claims_with(name, "253402300799")), hs256_key()));
        EXPECT_TRUE(is_accepted(forge(good_header, claims_with(name, "0")), hs256_key()));
    }
}

TEST(JwtToken, EnvironmentNames) {
    for (const std::string_view value : {R"("Live")", R"("a b")", R"("0123456789abcdef0")", R"("a_b")"}) {
        EXPECT_EQ(why_malformed_claims(claims_with("env", value)),
                  "env is not 1 to 16 characters of [a-z0-9]")
            << value;
    }
}

TEST(JwtToken, TheNonceHas16Bytes) {
    for (const std::string_view value :
         {R"("AAECAwQFBgcICQoLDA0OD")", R"("AAECAwQFBgcICQoLDA0ODx")", R"("AAECAwQFBgcICQoLDA0ODw==")",
          R"("AAECAwQFBgcICQoLDA0ODwA")", R"("AAECAwQFBgcICQoLDA0O")", R"("!!!!!!!!!!!!!!!!!!!!!!")"}) {
        EXPECT_EQ(why_malformed_claims(claims_with("nonce", value)), "nonce is not 16 bytes in base64url")
            << value;
    }
}

TEST(JwtToken, MakeRefusesWhatParseWould) {
    const auto refuses = [](auto change) {
        Claims claims = example_claims();
        change(claims);
        EXPECT_THROW(make_jwt(claims, hs256_key(), "k1"), InvalidArgument);
    };
    refuses([](Claims& claims) { claims.issuer.clear(); });
    refuses([](Claims& claims) { claims.subject.clear(); });
    refuses([](Claims& claims) { claims.role.clear(); });
    refuses([](Claims& claims) { claims.subject = "a\nb"; });
    refuses([](Claims& claims) { claims.subject = std::string("a\0b", 3); });
    refuses([](Claims& claims) { claims.subject = "\xff"; });
    refuses([](Claims& claims) { claims.generation = 0; });
    refuses([](Claims& claims) { claims.generation = -1; });
    refuses([](Claims& claims) { claims.nonce.clear(); });
    refuses([](Claims& claims) { claims.issued_at = -1; });
    refuses([](Claims& claims) { claims.expires_at = 253402300800; });
    refuses([](Claims& claims) { claims.environment = "Live"; });
    refuses([](Claims& claims) { claims.scope = std::string(max_jws_size, 'a'); });
    // Short enough as JSON, too long as a token.
    refuses([](Claims& claims) { claims.scope = std::string(6'500, 'a'); });
    EXPECT_THROW(make_jwt(example_claims(), hs256_key(), ""), InvalidArgument);
    EXPECT_THROW(make_jwt(example_claims(), hs256_key(), "a\",\"x"), InvalidArgument);
    EXPECT_NO_THROW(make_jwt(example_claims(), hs256_key(), std::string(64, 'k')));
}

TEST(JwtToken, EveryTextIsReadBackOrRefused) {
    std::vector<std::string> texts = {"\u00e9",     "\u00a0", "\u0085",      "\u2028",
                                      "\U0001f511", "\xc3",   "\xed\xa0\x80"};
    for (int byte = 0; byte <= 0xff; byte++) {
        texts.emplace_back(1, static_cast<char>(byte));
    }
    for (const std::string& text : texts) {
        for (std::string Claims::*claim :
             {&Claims::subject, &Claims::role, &Claims::audience, &Claims::scope}) {
            Claims claims = example_claims();
            claims.*claim = "a" + text + "z";
            std::string token;
            try {
                token = make(claims, hs256_key());
            } catch (const InvalidArgument&) {
                EXPECT_TRUE(text.size() > 1 || text < " " || text > "~") << claims.*claim;
                continue;
            }
            const ParsedToken parsed = parse_token(token);
            ASSERT_TRUE(std::holds_alternative<JwtToken>(parsed)) << claims.*claim;
            EXPECT_EQ(std::get<JwtToken>(parsed).claims, claims) << claims.*claim;
        }
    }
}

TEST(Token, AnythingElseIsMalformed) {
    for (const std::string_view text :
         {"", "a", ".", "..", "ak", "AK_live", "Bearer x", "sk_live_123", "eyJ0eXAiOiJhcGlrZXkrand0",
          "eyJ0eXAiOiJhcGlrZXkrand0.e30.e30", "eyJhbGciOiJub25lIn0.e30."}) {
        why_malformed(text);
    }
    why_malformed(std::string_view("\0", 1));
    why_malformed(std::string(1 << 20, 'A'));
    why_malformed(std::string(jwt_prefix) + std::string(1 << 20, 'A'));
    std::string every_byte;
    for (int c = 0; c < 256; ++c) {
        every_byte += static_cast<char>(c);
        why_malformed(every_byte);
        why_malformed(std::string(jwt_prefix) + every_byte);
        why_malformed(std::string(opaque_prefix) + every_byte);
    }
}

TEST(Token, ReasonsAreWhatPeopleGetWrong) {
    const std::string token = forge(good_header, good_claims);
    EXPECT_EQ(why_malformed(token + '\n'), "a line break at the end");
    EXPECT_EQ(why_malformed("Bearer " + token), "a word of the HTTP header, such as Bearer, in front");
    EXPECT_EQ(why_malformed(token + "\xe2\x80\x8b"),
              "an invisible character, such as a zero-width space or a byte order mark");
}

TEST(Token, DeepJsonIsRefused) {
    EXPECT_EQ(why_malformed_claims("{\"iss\":" + std::string(100'000, '[')), "too long");
    EXPECT_EQ(why_malformed_claims("{\"iss\":" + std::string(5'000, '[')), "JSON is nested too deeply");
}

TEST(Token, ReasonsNeverQuoteTheToken) {
    EXPECT_EQ(why_malformed_claims(R"({"SECRET":"SECRET"})").find("SECRET"), std::string::npos);
    EXPECT_EQ(why_malformed_claims(claims_with("sub", "\"SECRET\n\"")).find("SECRET"), std::string::npos);
    EXPECT_EQ(why_malformed("ak_SECRET_" + std::string(80, 'x')).find("SECRET"), std::string::npos);
}

}  // namespace
}  // namespace apikey::core
