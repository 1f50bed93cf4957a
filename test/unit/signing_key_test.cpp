#include "core/signing_key.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <array>
#include <string>

#include "core/error.h"
#include "hex.h"
#include "jose.h"

namespace apikey::core {
namespace {

constexpr std::array all_algorithms{Algorithm::EdDSA, Algorithm::ES256, Algorithm::HS256};

TEST(SigningKey, ValidKids) {
    EXPECT_TRUE(is_valid_kid("a"));
    EXPECT_TRUE(is_valid_kid("AZaz09_-"));
    EXPECT_TRUE(is_valid_kid(std::string(64, 'k')));
    for (const std::string& kid :
         {std::string(), std::string(65, 'k'), std::string("a b"), std::string("a.b"), std::string("../k"),
          std::string("k'"), std::string("k\0", 2), std::string("\xc3\xa9")}) {
        EXPECT_FALSE(is_valid_kid(kid)) << kid;
    }
}

TEST(SigningKey, BytesRoundTrip) {
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        EXPECT_TRUE(key.can_sign());
        EXPECT_EQ(key.algorithm(), algorithm);
        const SecretBytes secret = key.private_bytes();
        EXPECT_EQ(secret.size(), 32u);
        const SigningKey again = SigningKey::from_private_bytes(algorithm, view(secret));
        EXPECT_EQ(again.private_bytes(), secret);
        EXPECT_EQ(again.public_bytes(), key.public_bytes());
        const Bytes signature = again.sign(bytes_of("x"));
        EXPECT_TRUE(key.verify(bytes_of("x"), signature));
        if (algorithm == Algorithm::HS256) {
            EXPECT_TRUE(key.public_bytes().empty());
            continue;
        }
        const SigningKey public_half = SigningKey::from_public_bytes(algorithm, key.public_bytes());
        EXPECT_FALSE(public_half.can_sign());
        EXPECT_EQ(public_half.public_bytes(), key.public_bytes());
        EXPECT_TRUE(public_half.verify(bytes_of("x"), signature));
        EXPECT_THROW(public_half.sign(bytes_of("x")), InvalidArgument);
        EXPECT_THROW(public_half.private_bytes(), InvalidArgument);
    }
}

TEST(SigningKey, GeneratedKeysDiffer) {
    for (const Algorithm algorithm : all_algorithms) {
        EXPECT_NE(SigningKey::generate(algorithm).private_bytes(),
                  SigningKey::generate(algorithm).private_bytes());
    }
}

TEST(SigningKey, EmptyInputCanBeSigned) {
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        EXPECT_TRUE(key.verify({}, key.sign({})));
        EXPECT_FALSE(key.verify(bytes_of("x"), key.sign({})));
    }
}

TEST(SigningKey, SignaturesOfOtherSizesDoNotVerify) {
    for (const Algorithm algorithm : all_algorithms) {
        const SigningKey key = SigningKey::generate(algorithm);
        Bytes signature = key.sign(bytes_of("x"));
        for (std::size_t size = 0; size < signature.size(); ++size) {
            EXPECT_FALSE(key.verify(bytes_of("x"), ByteView(signature).first(size)));
        }
        signature.push_back(0);
        EXPECT_FALSE(key.verify(bytes_of("x"), signature));
    }
}

TEST(SigningKey, Es256RefusesNumbersOutOfRange) {
    const SigningKey key = SigningKey::generate(Algorithm::ES256);
    const Bytes order = from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    for (const Bytes& r : {Bytes(32), order, Bytes(32, 0xff)}) {
        for (const Bytes& s : {Bytes(32), order, Bytes(32, 0xff)}) {
            Bytes signature = r;
            signature.insert(signature.end(), s.begin(), s.end());
            EXPECT_FALSE(key.verify(bytes_of("x"), signature));
        }
    }
}

TEST(SigningKey, RefusesBytesThatAreNoKey) {
    const Bytes order = from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    Bytes largest = order;
    largest.back() -= 1;
    EXPECT_THROW(SigningKey::from_private_bytes(Algorithm::ES256, Bytes(32)), InvalidArgument);
    EXPECT_THROW(SigningKey::from_private_bytes(Algorithm::ES256, order), InvalidArgument);
    EXPECT_NO_THROW(SigningKey::from_private_bytes(Algorithm::ES256, largest));
    for (const std::size_t size : {0u, 31u, 33u}) {
        EXPECT_THROW(SigningKey::from_private_bytes(Algorithm::ES256, Bytes(size, 1)), InvalidArgument);
        EXPECT_THROW(SigningKey::from_private_bytes(Algorithm::EdDSA, Bytes(size, 1)), InvalidArgument);
        EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::EdDSA, Bytes(size, 1)), InvalidArgument);
    }
    EXPECT_THROW(SigningKey::from_private_bytes(Algorithm::HS256, Bytes(31, 1)), InvalidArgument);
    EXPECT_NO_THROW(SigningKey::from_private_bytes(Algorithm::HS256, Bytes(33, 1)));
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::HS256, Bytes(32, 1)), InvalidArgument);
}

TEST(SigningKey, RefusesPointsThatAreNotOnTheCurve) {
    const Bytes point = SigningKey::generate(Algorithm::ES256).public_bytes();
    ASSERT_EQ(point.size(), 65u);
    EXPECT_NO_THROW(SigningKey::from_public_bytes(Algorithm::ES256, point));
    ERR_clear_error();
    Bytes off_curve = point;
    off_curve.back() ^= 1;
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::ES256, off_curve), InvalidArgument);
    Bytes zero(65);
    zero[0] = 4;
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::ES256, zero), InvalidArgument);
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::ES256, Bytes{0}),
                 InvalidArgument);  // the point at infinity
    Bytes hybrid = point;
    hybrid[0] = static_cast<std::uint8_t>(6 + point.back() % 2);
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::ES256, hybrid), InvalidArgument);
    Bytes compressed(point.begin(), point.begin() + 33);
    compressed[0] = static_cast<std::uint8_t>(2 + point.back() % 2);
    EXPECT_THROW(SigningKey::from_public_bytes(Algorithm::ES256, compressed), InvalidArgument);
    EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST(SigningKey, Thumbprints) {
    // RFC 8037 appendix A.3.
    EXPECT_EQ(parse_jwk(R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})")
                  ->key.make_kid(),
              "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // The key of RFC 7515 appendix A.3, hashed with another implementation.
    EXPECT_EQ(parse_jwk(R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                        R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})")
                  ->key.make_kid(),
              "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    const SigningKey secret = SigningKey::generate(Algorithm::HS256);
    EXPECT_EQ(secret.make_kid().size(), 43u);
    EXPECT_NE(secret.make_kid(), secret.make_kid());
    EXPECT_TRUE(is_valid_kid(secret.make_kid()));
}

TEST(SigningKey, MovesLikeAValue) {
    SigningKey key = SigningKey::generate(Algorithm::EdDSA);
    const Bytes public_bytes = key.public_bytes();
    SigningKey moved = std::move(key);
    EXPECT_EQ(moved.public_bytes(), public_bytes);
    moved = SigningKey::generate(Algorithm::HS256);
    EXPECT_EQ(moved.algorithm(), Algorithm::HS256);
}

}  // namespace
}  // namespace apikey::core
