#pragma once

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <memory>
#include <string>

#include "core/bytes.h"
#include "core/error.h"

/** Owners of OpenSSL objects, and how its failures become exceptions. Internal to the crypto half of core. */
namespace apikey::core {

template <auto Free>
struct OpensslFree {
    template <typename T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};

using PkeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using PkeyCtxPtr = std::unique_ptr<EVP_PKEY_CTX, OpensslFree<EVP_PKEY_CTX_free>>;
using MdCtxPtr = std::unique_ptr<EVP_MD_CTX, OpensslFree<EVP_MD_CTX_free>>;
using MacPtr = std::unique_ptr<EVP_MAC, OpensslFree<EVP_MAC_free>>;
using MacCtxPtr = std::unique_ptr<EVP_MAC_CTX, OpensslFree<EVP_MAC_CTX_free>>;
using KdfCtxPtr = std::unique_ptr<EVP_KDF_CTX, OpensslFree<EVP_KDF_CTX_free>>;
using CipherCtxPtr = std::unique_ptr<EVP_CIPHER_CTX, OpensslFree<EVP_CIPHER_CTX_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, OpensslFree<BN_clear_free>>;
using BignumCtxPtr = std::unique_ptr<BN_CTX, OpensslFree<BN_CTX_free>>;
using EcGroupPtr = std::unique_ptr<EC_GROUP, OpensslFree<EC_GROUP_free>>;
using EcPointPtr = std::unique_ptr<EC_POINT, OpensslFree<EC_POINT_clear_free>>;
using EcdsaSigPtr = std::unique_ptr<ECDSA_SIG, OpensslFree<ECDSA_SIG_free>>;

/**
 * Leaves OpenSSL's per-thread error queue as it was. The server's own TLS code reads that queue to tell what
 * happened to a connection, and must not find an entry of ours there.
 */
class ErrorQueueGuard {
  public:
    ErrorQueueGuard() noexcept { ERR_set_mark(); }
    ~ErrorQueueGuard() { ERR_pop_to_mark(); }
    ErrorQueueGuard(const ErrorQueueGuard&) = delete;
    ErrorQueueGuard& operator=(const ErrorQueueGuard&) = delete;
};

[[noreturn]] inline void throw_crypto_error(const char* what) {
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    throw CryptoError(reason == nullptr ? std::string(what) : std::string(what) + ": " + reason);
}

inline void require(bool succeeded, const char* what) {
    if (!succeeded) {
        throw_crypto_error(what);
    }
}

/** OpenSSL takes a null pointer for "not given" in several places; an empty view may have one. */
inline const std::uint8_t* non_null_data(ByteView bytes) {
    static constexpr std::uint8_t nothing = 0;
    return bytes.empty() ? &nothing : bytes.data();
}

}  // namespace apikey::core
