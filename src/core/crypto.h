#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/secret.h"

/**
 * The few primitives that everything else is made of, over OpenSSL's EVP. Algorithm objects are fetched once
 * per process, on first use, and kept: an implicit fetch costs as much as the hash itself. All throw
 * CryptoError when OpenSSL fails.
 */
namespace apikey::core {

using Digest256 = std::array<std::uint8_t, 32>;

Digest256 sha256(ByteView data);

/** RFC 2104. */
Digest256 hmac_sha256(ByteView key, ByteView data);

/** RFC 5869, extract and expand. `out` is at most 255 * 32 bytes. */
void hkdf_sha256(ByteView input_key, ByteView salt, std::string_view info, std::span<std::uint8_t> out);

/** Takes the same time wherever the difference is. Different sizes are unequal at once: sizes are no secret
 * here. */
bool equal_constant_time(ByteView a, ByteView b);

/** AES-256-GCM. Returns nonce (12) || ciphertext || tag (16). A nonce must never be used twice with a key. */
Bytes aes256_gcm_seal(ByteView key, const std::array<std::uint8_t, 12>& nonce, ByteView aad,
                      ByteView plaintext);

/** The plaintext, or nullopt when key, aad or sealed bytes are not those of the seal. */
std::optional<SecretBytes> aes256_gcm_open(ByteView key, ByteView aad, ByteView sealed);

}  // namespace apikey::core
