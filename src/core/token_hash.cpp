#include "core/token_hash.h"

#include <algorithm>

#include "core/base64url.h"
#include "core/crypto.h"
#include "core/error.h"
#include "core/token.h"

namespace apikey::core {
namespace {

// One label for each use, so that no key can stand in for another (RFC 5869 section 3.2). They are in every
// stored hash: changing one makes every key of an installation unreadable.
constexpr std::string_view pepper_label = "apikey/1 pepper";
constexpr std::string_view tag_label = "apikey/1 tag";
constexpr std::string_view nonce_label = "apikey/1 nonce";
constexpr std::string_view sealing_label = "apikey/1 sealing";
constexpr std::string_view address_label = "apikey/1 address";
constexpr std::string_view fingerprint_label = "apikey/1 fingerprint";

/** An HMAC that is itself secret: what is between the token and the stored hash. */
SecretArray<32> secret_hmac(ByteView key, ByteView data) {
    Digest256 code = hmac_sha256(key, data);
    SecretArray<32> secret;
    std::copy(code.begin(), code.end(), secret.data());
    OPENSSL_cleanse(code.data(), code.size());
    return secret;
}

}  // namespace

MasterKeys derive_master_keys(ByteView master) {
    if (master.size() != master_key_size) {
        throw InvalidArgument("a master key has 32 bytes");
    }
    MasterKeys keys;
    hkdf_sha256(master, {}, pepper_label, keys.pepper.span());
    hkdf_sha256(master, {}, tag_label, keys.tag_key.span());
    hkdf_sha256(master, {}, nonce_label, keys.nonce_key.span());
    hkdf_sha256(master, {}, sealing_label, keys.sealing_key.span());
    hkdf_sha256(master, {}, address_label, keys.address_key.span());
    hkdf_sha256(master, {}, fingerprint_label, keys.fingerprint);
    return keys;
}

SipHashKey address_key(const MasterKeys& keys) {
    std::array<std::uint8_t, 16> bytes;
    std::copy_n(keys.address_key.data(), bytes.size(), bytes.begin());
    return siphash_key(bytes);
}

std::array<std::uint8_t, 32> hash_token(const MasterKeys& keys, std::string_view token, ByteView salt,
                                        std::uint32_t iterations, InterruptCheck interrupt_check) {
    const SecretArray<32> peppered = secret_hmac(keys.pepper.view(), bytes_of(token));
    std::array<std::uint8_t, 32> hash;
    pbkdf2_hmac_sha256(peppered.view(), salt, iterations, hash, interrupt_check);
    return hash;
}

std::string token_nonce(const MasterKeys& keys, ByteView salt, const Uuid& key_id, std::int32_t generation) {
    Bytes input(salt.begin(), salt.end());
    input.insert(input.end(), key_id.bytes.begin(), key_id.bytes.end());
    for (int shift = 24; shift >= 0; shift -= 8) {
        input.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(generation) >> shift));
    }
    const SecretArray<32> code = secret_hmac(keys.nonce_key.view(), input);
    return base64url_encode(code.view().first(nonce_size));
}

std::array<std::uint8_t, 8> token_tag(const MasterKeys& keys, std::string_view token) {
    const SecretArray<32> code = secret_hmac(keys.tag_key.view(), bytes_of(token));
    std::array<std::uint8_t, 8> tag;
    std::copy_n(code.data(), tag.size(), tag.begin());
    return tag;
}

}  // namespace apikey::core
