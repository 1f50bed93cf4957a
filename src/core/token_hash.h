#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/pbkdf2.h"
#include "core/secret.h"
#include "core/siphash.h"
#include "core/uuid.h"

/** What is stored of a token, and the keys that come of the master key (HKDF-SHA256, one label each). */
namespace apikey::core {

inline constexpr std::size_t master_key_size = 32;

/** Everything that the master key is for. Wiped when destroyed; copyable, since it is small and fixed. */
struct MasterKeys {
    SecretArray<32> pepper;                     ///< keys the HMAC under PBKDF2
    SecretArray<32> tag_key;                    ///< keys the cheap tag
    SecretArray<32> nonce_key;                  ///< keys the nonce of a JWT
    SecretArray<32> sealing_key;                ///< AES-256-GCM for private signing keys
    SecretArray<16> address_key;                ///< SipHash: by which name nodes count a client's address
    std::array<std::uint8_t, 8> fingerprint{};  ///< stored with rows; says nothing about the key
};

/** `master` is master_key_size bytes (InvalidArgument otherwise). */
MasterKeys derive_master_keys(ByteView master);

SipHashKey address_key(const MasterKeys& keys);

struct TokenHash {
    std::array<std::uint8_t, 16> salt{};
    std::uint32_t iterations = 0;
    std::array<std::uint8_t, 32> hash{};
};

/** PBKDF2-HMAC-SHA256 over HMAC-SHA256(pepper, token). */
std::array<std::uint8_t, 32> hash_token(const MasterKeys& keys, std::string_view token, ByteView salt,
                                        std::uint32_t iterations, InterruptCheck interrupt_check = nullptr);

/**
 * The nonce claim of a JWT: 16 bytes of HMAC-SHA256(nonce_key, salt || key id || generation), base64url.
 * Everything else in a JWT can be guessed or looked up, so without it whoever steals a signing key could sign
 * the very token that was issued; with it they need the master key and the stored salt as well. Derived, not
 * stored, so that the same token can be made again.
 */
std::string token_nonce(const MasterKeys& keys, ByteView salt, const Uuid& key_id, std::int32_t generation);

/** First 8 bytes of HMAC-SHA256(tag_key, token): compared before PBKDF2, so that junk with a known key id
 * costs no derivation. */
std::array<std::uint8_t, 8> token_tag(const MasterKeys& keys, std::string_view token);

}  // namespace apikey::core
