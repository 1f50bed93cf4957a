#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/bytes.h"
#include "core/pbkdf2.h"
#include "core/secret.h"

/** What is stored of a token, and the keys that come of the master key (HKDF-SHA256, one label each). */
namespace apikey::core {

inline constexpr std::size_t master_key_size = 32;

/** Everything that the master key is for. Wiped when destroyed; copyable, since it is small and fixed. */
struct MasterKeys {
    SecretArray<32> pepper;                     ///< keys the HMAC under PBKDF2
    SecretArray<32> tag_key;                    ///< keys the cheap tag
    SecretArray<32> sealing_key;                ///< AES-256-GCM for private signing keys
    std::array<std::uint8_t, 8> fingerprint{};  ///< stored with rows; says nothing about the key
};

/** `master` is master_key_size bytes (InvalidArgument otherwise). */
MasterKeys derive_master_keys(ByteView master);

struct TokenHash {
    std::array<std::uint8_t, 16> salt{};
    std::uint32_t iterations = 0;
    std::array<std::uint8_t, 32> hash{};
};

/** PBKDF2-HMAC-SHA256 over HMAC-SHA256(pepper, token). */
std::array<std::uint8_t, 32> hash_token(const MasterKeys& keys, std::string_view token, ByteView salt,
                                        std::uint32_t iterations, InterruptCheck interrupt_check = nullptr);

/** First 8 bytes of HMAC-SHA256(tag_key, token): compared before PBKDF2, so that junk with a known key id
 * costs no derivation. */
std::array<std::uint8_t, 8> token_tag(const MasterKeys& keys, std::string_view token);

}  // namespace apikey::core
