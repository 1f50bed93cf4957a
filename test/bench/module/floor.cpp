#include "floor.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/crypto.h"
#include "core/pbkdf2.h"
#include "core/token.h"
#include "core/token_hash.h"

using namespace apikey;

bool bench_core_pbkdf2(const unsigned char* password, size_t password_size, const unsigned char* salt,
                       size_t salt_size, int iterations, unsigned char* out, size_t out_size) {
    try {
        apikey::core::pbkdf2_hmac_sha256({password, password_size}, {salt, salt_size},
                                         static_cast<std::uint32_t>(iterations), {out, out_size});
        return true;
    } catch (...) {
        return false;
    }
}

bool bench_core_mint(const unsigned char* master, size_t master_size, const unsigned char* sealed,
                     size_t sealed_size, const char* kid, const unsigned char* key_id, const char* owner,
                     const char* role, long long issued_at, long long expires_at, const unsigned char* random,
                     struct bench_minted* minted) {
    try {
        const core::MasterKeys keys = core::derive_master_keys({master, master_size});
        core::Uuid id;
        std::copy_n(key_id, id.bytes.size(), id.bytes.begin());
        std::copy_n(random, sizeof(minted->salt), minted->salt);
        core::SecretBytes token;
        if (sealed != nullptr) {
            const std::string context = std::string(kid) + ".EdDSA";
            const auto plain = core::aes256_gcm_open(keys.sealing_key.view(), core::bytes_of(context),
                                                     {sealed, sealed_size});
            if (!plain) {
                return false;
            }
            core::Claims claims;
            claims.issuer = "apikey";
            claims.subject = owner;
            claims.key_id = id;
            claims.issued_at = issued_at;
            claims.expires_at = expires_at;
            claims.role = role;
            claims.environment = "live";
            claims.nonce = core::token_nonce(keys, minted->salt, id, 1);
            token = core::make_jwt(
                claims, core::SigningKey::from_private_bytes(core::Algorithm::EdDSA, core::view(*plain)),
                kid);
        } else {
            core::SecretArray<32> secret;
            std::copy_n(random + sizeof(minted->salt), secret.span().size(), secret.span().begin());
            token = core::make_opaque("live", id, 1, secret);
        }
        const auto text = core::text_of(token);
        if (text.size() > sizeof(minted->token)) {
            return false;
        }
        std::copy(text.begin(), text.end(), minted->token);
        minted->token_size = text.size();
        const auto hash = core::hash_token(keys, text, minted->salt, 1);
        std::copy(hash.begin(), hash.end(), minted->hash);
        const auto tag = core::token_tag(keys, text);
        std::copy(tag.begin(), tag.end(), minted->tag);
        std::copy(keys.fingerprint.begin(), keys.fingerprint.end(), minted->fingerprint);
        return true;
    } catch (...) {
        return false;
    }
}
