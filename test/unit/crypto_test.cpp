#include "core/crypto.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include <string>

#include "core/error.h"
#include "hex.h"

namespace apikey::core {
namespace {

TEST(Sha256, Fips180Examples) {
    EXPECT_EQ(to_hex(sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(to_hex(sha256(bytes_of("abc"))),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// RFC 4231 sections 4.2 to 4.8; 4.6 truncates.
TEST(HmacSha256, Rfc4231) {
    EXPECT_EQ(to_hex(hmac_sha256(Bytes(20, 0x0b), bytes_of("Hi There"))),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(to_hex(hmac_sha256(bytes_of("Jefe"), bytes_of("what do ya want for nothing?"))),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(to_hex(hmac_sha256(Bytes(20, 0xaa), Bytes(50, 0xdd))),
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    EXPECT_EQ(
        to_hex(hmac_sha256(from_hex("0102030405060708090a0b0c0d0e0f10111213141516171819"), Bytes(50, 0xcd))),
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    EXPECT_EQ(to_hex(hmac_sha256(Bytes(20, 0x0c), bytes_of("Test With Truncation"))).substr(0, 32),
              "a3b6167473100ee06e0c796c2955552b");
    EXPECT_EQ(to_hex(hmac_sha256(Bytes(131, 0xaa),
                                 bytes_of("Test Using Larger Than Block-Size Key - Hash Key First"))),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    EXPECT_EQ(to_hex(hmac_sha256(Bytes(131, 0xaa),
                                 bytes_of("This is a test using a larger than block-size key and a larger t"
                                          "han block-size data. The key needs to be hashed before being use"
                                          "d by the HMAC algorithm."))),
              "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

// The shared context holds a placeholder key: an empty key must replace it too.
TEST(HmacSha256, EmptyKeyAndData) {
    EXPECT_EQ(to_hex(hmac_sha256({}, {})),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    EXPECT_NE(hmac_sha256(Bytes{1}, {}), hmac_sha256({}, {}));
}

// RFC 5869 appendix A.1 to A.3.
TEST(HkdfSha256, Rfc5869) {
    Bytes out(42);
    hkdf_sha256(Bytes(22, 0x0b), from_hex("000102030405060708090a0b0c"),
                text_of(from_hex("f0f1f2f3f4f5f6f7f8f9")), out);
    EXPECT_EQ(to_hex(out),
              "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");

    Bytes key(80), salt(80), info(80);
    for (std::size_t i = 0; i < 80; ++i) {
        key[i] = static_cast<std::uint8_t>(i);
        salt[i] = static_cast<std::uint8_t>(0x60 + i);
        info[i] = static_cast<std::uint8_t>(0xb0 + i);
    }
    Bytes longer(82);
    hkdf_sha256(key, salt, text_of(info), longer);
    EXPECT_EQ(
        to_hex(longer),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");

    hkdf_sha256(Bytes(22, 0x0b), {}, {}, out);
    EXPECT_EQ(to_hex(out),
              "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(HkdfSha256, LengthLimit) {
    Bytes most(255 * 32);
    EXPECT_NO_THROW(hkdf_sha256(Bytes(32, 1), {}, "x", most));
    Bytes too_much(255 * 32 + 1);
    EXPECT_THROW(hkdf_sha256(Bytes(32, 1), {}, "x", too_much), InvalidArgument);
    EXPECT_THROW(hkdf_sha256(Bytes(32, 1), {}, "x", {}), InvalidArgument);
}

TEST(EqualConstantTime, ComparesContentAndSize) {
    EXPECT_TRUE(equal_constant_time({}, {}));
    EXPECT_TRUE(equal_constant_time(bytes_of("abc"), bytes_of("abc")));
    EXPECT_FALSE(equal_constant_time(bytes_of("abc"), bytes_of("abd")));
    EXPECT_FALSE(equal_constant_time(bytes_of("abc"), bytes_of("xbc")));
    EXPECT_FALSE(equal_constant_time(bytes_of("abc"), bytes_of("ab")));
    EXPECT_FALSE(equal_constant_time(bytes_of("a"), {}));
}

// Test case 16 of the GCM submission (McGrew and Viega), AES-256.
TEST(Aes256Gcm, KnownAnswer) {
    const Bytes key = from_hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    const std::array<std::uint8_t, 12> nonce{0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce,
                                             0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
    const Bytes aad = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    const Bytes plaintext = from_hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
        "b16aedf5aa0de657ba637b39");
    const Bytes sealed = aes256_gcm_seal(key, nonce, aad, plaintext);
    EXPECT_EQ(to_hex(sealed),
              "cafebabefacedbaddecaf888"
              "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10568288"
              "38c5f61e63"
              "93ba7a0abcc9f662"
              "76fc6ece0f4e1768cddf8853bb2d551b");
    const auto opened = aes256_gcm_open(key, aad, sealed);
    ASSERT_TRUE(opened);
    EXPECT_EQ(text_of(*opened), text_of(plaintext));
}

TEST(Aes256Gcm, EveryChangedByteIsFound) {
    const Bytes key(32, 7);
    const Bytes sealed = aes256_gcm_seal(key, {1, 2, 3}, bytes_of("kid|EdDSA"), Bytes(32, 9));
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        Bytes changed = sealed;
        changed[i] ^= 1;
        EXPECT_FALSE(aes256_gcm_open(key, bytes_of("kid|EdDSA"), changed)) << i;
    }
    for (std::size_t size = 0; size < sealed.size(); ++size) {
        EXPECT_FALSE(aes256_gcm_open(key, bytes_of("kid|EdDSA"), ByteView(sealed).first(size))) << size;
    }
    EXPECT_FALSE(aes256_gcm_open(key, bytes_of("kid|ES256"), sealed));
    EXPECT_FALSE(aes256_gcm_open(key, {}, sealed));
    EXPECT_FALSE(aes256_gcm_open(Bytes(32, 8), bytes_of("kid|EdDSA"), sealed));
    EXPECT_TRUE(aes256_gcm_open(key, bytes_of("kid|EdDSA"), sealed));
}

TEST(Aes256Gcm, EmptyPlaintextAndAad) {
    const Bytes sealed = aes256_gcm_seal(Bytes(32, 7), {}, {}, {});
    EXPECT_EQ(sealed.size(), 28u);
    const auto opened = aes256_gcm_open(Bytes(32, 7), {}, sealed);
    ASSERT_TRUE(opened);
    EXPECT_TRUE(opened->empty());
    EXPECT_FALSE(aes256_gcm_open(Bytes(32, 7), bytes_of("x"), sealed));
}

TEST(Aes256Gcm, RefusesOtherKeySizes) {
    EXPECT_THROW(aes256_gcm_seal(Bytes(16), {}, {}, {}), InvalidArgument);
    EXPECT_THROW(aes256_gcm_open(Bytes(31), {}, Bytes(28)), InvalidArgument);
}

// The queue belongs to the server's TLS code as well.
TEST(Aes256Gcm, LeavesTheErrorQueueAsItWas) {
    ERR_clear_error();
    EXPECT_FALSE(aes256_gcm_open(Bytes(32, 7), {}, Bytes(40)));
    EXPECT_EQ(ERR_peek_error(), 0u);
}

}  // namespace
}  // namespace apikey::core
