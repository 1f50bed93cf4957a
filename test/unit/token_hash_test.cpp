#include "core/token_hash.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "hex.h"

namespace apikey::core {
namespace {

MasterKeys example_keys() {
    Bytes master(master_key_size);
    for (std::size_t i = 0; i < master.size(); ++i) {
        master[i] = static_cast<std::uint8_t>(i);
    }
    return derive_master_keys(master);
}

// Computed with another implementation of RFC 5869. A change here makes every stored hash and signing key
// unreadable.
TEST(TokenHash, TheDerivationIsFrozen) {
    const MasterKeys keys = example_keys();
    EXPECT_EQ(to_hex(keys.pepper.view()), "e0338d508b6989ea1239a466ab0a09d5f935bc39188f64ce1da1f7d7e36b8414");
    EXPECT_EQ(to_hex(keys.tag_key.view()),
              "7b2dc7da224601b89cf66fb67e1ac11e42b6443f217ab92f7e5f57f00cdb1dab");
    EXPECT_EQ(to_hex(keys.nonce_key.view()),
              "4fe67ee1039b7486849696fdce0107394604c5a3be17732719986606bf80c09f");
    EXPECT_EQ(to_hex(keys.sealing_key.view()),
              "e0c6fbaf8fe44786201d6bbb3fce496bb7ac2119b497004caa75f794cd669751");
    EXPECT_EQ(to_hex(keys.address_key.view()), "486cf2adcf6afcd1f87e5b90037d9f96");
    EXPECT_EQ(to_hex(keys.fingerprint), "02827edfa7b36a72");
}

TEST(TokenHash, TheAddressKeyIsThatOfSipHash) {
    const SipHashKey key = address_key(example_keys());
    EXPECT_EQ(key[0], 0xd1fc6acfadf26c48ULL);
    EXPECT_EQ(key[1], 0x969f7d03905b7ef8ULL);
    EXPECT_NE(key, address_key(derive_master_keys(Bytes(32, 1))));
}

TEST(TokenHash, KnownHashAndTag) {
    const MasterKeys keys = example_keys();
    const Bytes salt = from_hex("000102030405060708090a0b0c0d0e0f");
    EXPECT_EQ(to_hex(hash_token(keys, "ak_live_token", salt, 1000)),
              "6d69cda5d594ec37d66ee2b3d8d21b00471274a951ba9d6805641505fa42fa58");
    EXPECT_EQ(to_hex(token_tag(keys, "ak_live_token")), "4384e3203b529feb");
}

TEST(TokenHash, KnownNonce) {
    const MasterKeys keys = example_keys();
    const Bytes salt = from_hex("000102030405060708090a0b0c0d0e0f");
    const Uuid key_id = *uuid_from_string("018f2d5e-7c4a-7b3c-8d1e-2f3a4b5c6d7e");
    EXPECT_EQ(token_nonce(keys, salt, key_id, 258), "vDE070jspv0SH05jafitXQ");
    EXPECT_NE(token_nonce(keys, salt, key_id, 257), token_nonce(keys, salt, key_id, 258));
    EXPECT_NE(token_nonce(keys, Bytes(16), key_id, 258), token_nonce(keys, salt, key_id, 258));
    EXPECT_NE(token_nonce(keys, salt, Uuid{}, 258), token_nonce(keys, salt, key_id, 258));
    EXPECT_NE(token_nonce(derive_master_keys(Bytes(32, 1)), salt, key_id, 258),
              token_nonce(keys, salt, key_id, 258));
}

TEST(TokenHash, DependsOnAllItsInputs) {
    const MasterKeys keys = example_keys();
    const MasterKeys other = derive_master_keys(Bytes(32, 1));
    const auto hash = hash_token(keys, "token", Bytes(16, 1), 10);
    EXPECT_NE(hash, hash_token(other, "token", Bytes(16, 1), 10));
    EXPECT_NE(hash, hash_token(keys, "tokem", Bytes(16, 1), 10));
    EXPECT_NE(hash, hash_token(keys, "token", Bytes(16, 2), 10));
    EXPECT_NE(hash, hash_token(keys, "token", Bytes(16, 1), 11));
    EXPECT_NE(token_tag(keys, "token"), token_tag(other, "token"));
    EXPECT_NE(token_tag(keys, "token"), token_tag(keys, "tokem"));
}

TEST(TokenHash, AnInterruptEndsIt) {
    struct Interrupted {};
    EXPECT_THROW(hash_token(example_keys(), "token", Bytes(16), 4'000'000'000u, [] { throw Interrupted(); }),
                 Interrupted);
}

TEST(TokenHash, RefusesAMasterKeyOfAnotherSize) {
    EXPECT_THROW(derive_master_keys(Bytes(31)), InvalidArgument);
    EXPECT_THROW(derive_master_keys(Bytes(33)), InvalidArgument);
    EXPECT_THROW(derive_master_keys({}), InvalidArgument);
}

}  // namespace
}  // namespace apikey::core
