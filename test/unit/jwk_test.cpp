#include "core/jwk.h"

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "jose.h"

namespace apikey::core {
namespace {

TEST(Jwk, PublicMembersInOneOrder) {
    for (
        const std::string_view members :
        {// RFC 8037 appendix A.2.
         R"("kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"k1","alg":"EdDSA")",
         // RFC 7515 appendix A.3.1.
         R"("kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
         R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"k1","alg":"ES256")"}) {
        const std::string json = "{" + std::string(members) + R"(,"use":"sig"})";
        EXPECT_EQ(public_jwk(parse_jwk(json).value().key, "k1"), json);
    }
}

TEST(Jwk, OfAPrivateKeyIsItsPublicHalf) {
    for (const Algorithm algorithm : {Algorithm::EdDSA, Algorithm::ES256}) {
        const SigningKey key = SigningKey::generate(algorithm);
        const std::string json = public_jwk(key, key.make_kid());
        EXPECT_EQ(json.find("\"d\""), std::string::npos);
        const auto named = parse_jwk(json);
        ASSERT_TRUE(named);
        EXPECT_EQ(named->kid, key.make_kid());
        EXPECT_EQ(named->key.algorithm(), algorithm);
        EXPECT_EQ(named->key.public_bytes(), key.public_bytes());
        EXPECT_FALSE(named->key.can_sign());
    }
}

TEST(Jwk, NeedsAPublicHalfAndAValidKid) {
    EXPECT_THROW(public_jwk(SigningKey::generate(Algorithm::HS256), "k"), InvalidArgument);
    EXPECT_THROW(public_jwk(SigningKey::generate(Algorithm::EdDSA), "a\"b"), InvalidArgument);
}

}  // namespace
}  // namespace apikey::core
