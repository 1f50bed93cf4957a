#include "core/crypto.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include <algorithm>
#include <climits>

#include "core/openssl_handles.h"

namespace apikey::core {
namespace {

constexpr std::size_t gcm_nonce_size = 12;
constexpr std::size_t gcm_tag_size = 16;
constexpr std::size_t aes256_key_size = 32;

// The fetched objects are never freed: destructors of other statics may still want them while the process
// exits. When a fetch throws, the static stays uninitialised and the next call tries again.

const EVP_MD* sha256_algorithm() {
    static EVP_MD* const algorithm = [] {
        EVP_MD* fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
        require(fetched != nullptr, "cannot fetch SHA-256");
        return fetched;
    }();
    return algorithm;
}

/** A context with its digest chosen, to be duplicated for each use: choosing the digest is the expensive
 * part. */
const EVP_MAC_CTX* hmac_sha256_template() {
    static EVP_MAC_CTX* const context = [] {
        const MacPtr mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
        require(mac != nullptr, "cannot fetch HMAC");
        MacCtxPtr fresh(EVP_MAC_CTX_new(mac.get()));
        char digest[] = "SHA256";
        const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                     OSSL_PARAM_construct_end()};
        // OpenSSL refuses to duplicate a context without a key; this one is replaced before any use.
        const std::uint8_t placeholder = 0;
        require(fresh != nullptr && EVP_MAC_init(fresh.get(), &placeholder, 1, params) == 1,
                "cannot set up HMAC-SHA-256");
        return fresh.release();
    }();
    return context;
}

EVP_KDF* hkdf_algorithm() {
    static EVP_KDF* const algorithm = [] {
        EVP_KDF* fetched = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
        require(fetched != nullptr, "cannot fetch HKDF");
        return fetched;
    }();
    return algorithm;
}

const EVP_CIPHER* aes256_gcm_algorithm() {
    static EVP_CIPHER* const algorithm = [] {
        EVP_CIPHER* fetched = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
        require(fetched != nullptr, "cannot fetch AES-256-GCM");
        return fetched;
    }();
    return algorithm;
}

/** EVP's cipher calls count in int. */
int int_size(ByteView bytes) {
    if (bytes.size() > INT_MAX) {
        throw InvalidArgument("too much data for one encryption");
    }
    return static_cast<int>(bytes.size());
}

void require_aes256_key(ByteView key) {
    if (key.size() != aes256_key_size) {
        throw InvalidArgument("an AES-256 key has 32 bytes");
    }
}

OSSL_PARAM octets(const char* name, ByteView bytes) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<std::uint8_t*>(non_null_data(bytes)),
                                             bytes.size());
}

}  // namespace

Digest256 sha256(ByteView data) {
    const ErrorQueueGuard guard;
    Digest256 digest;
    require(EVP_Digest(non_null_data(data), data.size(), digest.data(), nullptr, sha256_algorithm(),
                       nullptr) == 1,
            "SHA-256 failed");
    return digest;
}

Digest256 hmac_sha256(ByteView key, ByteView data) {
    const ErrorQueueGuard guard;
    const MacCtxPtr context(EVP_MAC_CTX_dup(hmac_sha256_template()));
    Digest256 code;
    std::size_t size = 0;
    require(context != nullptr && EVP_MAC_init(context.get(), non_null_data(key), key.size(), nullptr) == 1 &&
                EVP_MAC_update(context.get(), non_null_data(data), data.size()) == 1 &&
                EVP_MAC_final(context.get(), code.data(), &size, code.size()) == 1 && size == code.size(),
            "HMAC-SHA-256 failed");
    return code;
}

void hkdf_sha256(ByteView input_key, ByteView salt, std::string_view info, std::span<std::uint8_t> out) {
    // RFC 5869 section 2.3: L <= 255 * HashLen.
    if (out.empty() || out.size() > 255 * std::tuple_size_v<Digest256>) {
        throw InvalidArgument("HKDF-SHA-256 gives 1 to 8160 bytes");
    }
    const ErrorQueueGuard guard;
    const KdfCtxPtr context(EVP_KDF_CTX_new(hkdf_algorithm()));
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                                 octets(OSSL_KDF_PARAM_KEY, input_key), octets(OSSL_KDF_PARAM_SALT, salt),
                                 octets(OSSL_KDF_PARAM_INFO, bytes_of(info)), OSSL_PARAM_construct_end()};
    require(context != nullptr && EVP_KDF_derive(context.get(), out.data(), out.size(), params) == 1,
            "HKDF-SHA-256 failed");
}

bool equal_constant_time(ByteView a, ByteView b) {
    return a.size() == b.size() && CRYPTO_memcmp(non_null_data(a), non_null_data(b), a.size()) == 0;
}

Bytes aes256_gcm_seal(ByteView key, const std::array<std::uint8_t, 12>& nonce, ByteView aad,
                      ByteView plaintext) {
    require_aes256_key(key);
    const ErrorQueueGuard guard;
    const CipherCtxPtr context(EVP_CIPHER_CTX_new());
    Bytes sealed(gcm_nonce_size + plaintext.size() + gcm_tag_size);
    std::copy(nonce.begin(), nonce.end(), sealed.begin());
    std::uint8_t* const ciphertext = sealed.data() + gcm_nonce_size;
    std::uint8_t* const tag = ciphertext + plaintext.size();
    int size = 0;
    require(context != nullptr &&
                EVP_EncryptInit_ex2(context.get(), aes256_gcm_algorithm(), key.data(), nonce.data(),
                                    nullptr) == 1 &&
                EVP_EncryptUpdate(context.get(), nullptr, &size, non_null_data(aad), int_size(aad)) == 1 &&
                EVP_EncryptUpdate(context.get(), ciphertext, &size, non_null_data(plaintext),
                                  int_size(plaintext)) == 1 &&
                EVP_EncryptFinal_ex(context.get(), tag, &size) == 1 &&
                EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, gcm_tag_size, tag) == 1,
            "AES-256-GCM encryption failed");
    return sealed;
}

std::optional<SecretBytes> aes256_gcm_open(ByteView key, ByteView aad, ByteView sealed) {
    require_aes256_key(key);
    if (sealed.size() < gcm_nonce_size + gcm_tag_size) {
        return std::nullopt;
    }
    const ErrorQueueGuard guard;
    const ByteView nonce = sealed.first(gcm_nonce_size);
    const ByteView ciphertext = sealed.subspan(gcm_nonce_size, sealed.size() - gcm_nonce_size - gcm_tag_size);
    std::array<std::uint8_t, gcm_tag_size> tag;
    std::copy(sealed.end() - gcm_tag_size, sealed.end(), tag.begin());

    const CipherCtxPtr context(EVP_CIPHER_CTX_new());
    // The spare byte keeps data() from being null for an empty plaintext, which EVP would take for more aad.
    SecretBytes plaintext(ciphertext.size() + 1);
    int size = 0;
    require(context != nullptr &&
                EVP_DecryptInit_ex2(context.get(), aes256_gcm_algorithm(), key.data(), nonce.data(),
                                    nullptr) == 1 &&
                EVP_DecryptUpdate(context.get(), nullptr, &size, non_null_data(aad), int_size(aad)) == 1 &&
                EVP_DecryptUpdate(context.get(), plaintext.data(), &size, non_null_data(ciphertext),
                                  int_size(ciphertext)) == 1 &&
                EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, gcm_tag_size, tag.data()) == 1,
            "AES-256-GCM decryption failed");
    // Nothing of the plaintext leaves before the tag has been checked.
    if (EVP_DecryptFinal_ex(context.get(), plaintext.data() + ciphertext.size(), &size) != 1) {
        return std::nullopt;
    }
    plaintext.resize(ciphertext.size());
    return plaintext;
}

}  // namespace apikey::core
