#include "core/crypto.h"
#include "core/token.h"
#include "flow/mint.h"
#include "pg/datum.h"
#include "pg/settings.h"
#include "store/database_master_key.h"
#include "store/master_key.h"
#include "store/signing_keys.h"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace apikey::flow {
namespace {

/** JSON is UTF-8 whatever the database's encoding; 22021 when a text has no such form. */
std::string utf8(std::string_view text) {
    const std::string copy(text);
    const char* converted =
        pg::call([&] { return pg_server_to_any(copy.c_str(), static_cast<int>(copy.size()), PG_UTF8); });
    return converted;
}

core::Claims claims_of(const TokenFacts& facts, const core::MasterKeys& keys, core::ByteView salt) {
    core::Claims claims;
    claims.issuer = utf8(pg::settings::issuer);
    claims.audience = utf8(pg::settings::audience);
    claims.subject = utf8(facts.owner);
    claims.key_id = facts.key_id;
    claims.generation = facts.generation;
    claims.issued_at = pg::unix_seconds(facts.issued_at);
    claims.expires_at = pg::unix_seconds(facts.expires_at);
    claims.role = facts.role;
    claims.environment = facts.environment;
    claims.nonce = core::token_nonce(keys, salt, facts.key_id, facts.generation);
    if (facts.permissions) {
        for (const auto permission : pg::text_array(*facts.permissions)) {
            if (!claims.scope.empty()) {
                claims.scope += ' ';
            }
            claims.scope += permission;
        }
    }
    return claims;
}

}  // namespace

TokenFacts facts_of(const store::KeyRow& key) {
    return {key.key_id,      key.generation,  key.owner,     key.role,      key.format,
            key.environment, key.permissions, key.issued_at, key.expires_at};
}

Minted mint(const TokenFacts& facts, const core::MasterKeys& keys, const Salt& salt) {
    Minted minted;
    minted.hash.salt = salt;
    if (facts.format == "jwt") {
        const auto signing_key = store::lock_active_signing_key(keys);
        minted.kid = signing_key.kid;
        minted.token = core::make_jwt(claims_of(facts, keys, minted.hash.salt),
                                      store::unseal(signing_key, keys), minted.kid);
    } else {
        store::require_database_master_key(keys);
        core::SecretArray<32> secret;
        pg::random_bytes(secret.span());
        minted.token = core::make_opaque(facts.environment, facts.key_id, facts.generation, secret);
    }
    minted.hash.iterations = static_cast<std::uint32_t>(pg::settings::pbkdf2_iterations);
    const auto text = core::text_of(minted.token);
    minted.hash.hash =
        core::hash_token(keys, text, minted.hash.salt, minted.hash.iterations, pg::throw_if_interrupted);
    minted.tag = core::token_tag(keys, text);
    return minted;
}

std::optional<core::SecretBytes> mint_again(const store::KeyRow& key, store::RowSnapshot& snapshot,
                                            const core::MasterKeys& keys) {
    if (key.format != "jwt" || !core::equal_constant_time(key.master_key_fingerprint, keys.fingerprint)) {
        return std::nullopt;
    }
    const auto signing_key = store::find_signing_key(snapshot, key.kid);
    if (!signing_key || !core::is_deterministic(signing_key->algorithm) ||
        signing_key->state == store::SigningKeyState::retired) {
        return std::nullopt;
    }
    auto token = core::make_jwt(claims_of(facts_of(key), keys, key.hashed.salt),
                                store::unseal(*signing_key, keys), key.kid);
    const auto hash =
        core::hash_token(keys, core::text_of(token), key.hashed.salt,
                         static_cast<std::uint32_t>(key.hashed.iterations), pg::throw_if_interrupted);
    if (!core::equal_constant_time(hash, key.token_hash)) {
        return std::nullopt;
    }
    return token;
}

}  // namespace apikey::flow
