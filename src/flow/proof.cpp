#include "core/crypto.h"
#include "core/token.h"
#include "flow/proof.h"
#include "pg/datum.h"
#include "store/master_key.h"
#include "store/signing_keys.h"

namespace apikey::flow {
namespace {

using core::Code;
using core::Position;

Proof refuse(Code code, std::string why) {
    Proof proof;
    proof.code = code;
    proof.why = std::move(why);
    return proof;
}

struct Presented {
    const core::JwtToken* jwt = nullptr;
    core::Uuid key_id;
    std::int32_t generation = 0;
};

/** Which stored generation the token claims to be, if its hash is kept. */
const store::StoredHash* stored_hash(const store::KeyRow& key, std::int32_t generation) {
    if (generation == key.generation) {
        return &key.stored;
    }
    if (key.previous && generation == key.generation - 1) {
        return &key.previous->stored;
    }
    return nullptr;
}

enum class HashMatch { yes, no, unavailable };

HashMatch match_tag(const store::KeyRow& key, const store::StoredHash& stored, std::string_view token,
                    const core::MasterKeys*& keys) {
    const auto& master = store::load_master_key();
    if (master.state != store::MasterKeyState::ok) {
        return HashMatch::unavailable;
    }
    keys = master.keys;
    if (!core::equal_constant_time(key.master_key_fingerprint, keys->fingerprint)) {
        store::log_master_key_mismatch();
        return HashMatch::unavailable;
    }
    return core::equal_constant_time(core::token_tag(*keys, token), stored.tag) ? HashMatch::yes
                                                                                : HashMatch::no;
}

bool match_hash(const store::StoredHash& stored, std::string_view token, const core::MasterKeys& keys) {
    const auto hash = core::hash_token(
        keys, token, stored.salt, static_cast<std::uint32_t>(stored.iterations), pg::throw_if_interrupted);
    return core::equal_constant_time(hash, stored.hash);
}

/** The signature of a JWT under the key that its header names. */
Code verify_signature(const core::JwtToken& jwt, std::string_view expected_kid, Snapshot snapshot,
                      const core::MasterKeys* keys, bool& retired) {
    const auto& header = jwt.jws.header;
    if (!expected_kid.empty() && header.kid != expected_kid) {
        return Code::signature_invalid;
    }
    const auto row = store::find_signing_key(snapshot, header.kid);
    if (!row || row->algorithm != header.algorithm) {
        return Code::signature_invalid;
    }
    retired = row->state == store::SigningKeyState::retired;
    const core::SigningKey* key = store::verification_key(*row, keys);
    if (key == nullptr) {
        return Code::unavailable;
    }
    return key->verify(core::bytes_of(jwt.jws.signing_input), jwt.jws.signature) ? Code::valid
                                                                                 : Code::signature_invalid;
}

/** An older generation than the row keeps hashes of. */
Proof prove_by_signature(const Presented& presented, store::KeyRow key, Snapshot snapshot) {
    if (presented.jwt == nullptr) {
        return refuse(Code::signature_invalid,
                      "the token is of an older generation, whose hash is no longer kept");
    }
    const core::MasterKeys* keys = nullptr;
    if (presented.jwt->jws.header.algorithm == core::Algorithm::HS256) {
        keys = store::load_master_key().keys;
    }
    bool retired = false;
    const Code code = verify_signature(*presented.jwt, {}, snapshot, keys, retired);
    if (code != Code::valid) {
        return refuse(code, {});
    }
    if (retired) {
        return refuse(Code::signature_invalid, "the signing key has been retired");
    }
    Proof proof;
    proof.code = Code::valid;
    proof.generation = presented.generation;
    proof.position = Position::older;
    proof.generation_expires_at =
        pg::timestamp(core::Instant(std::chrono::seconds(presented.jwt->claims.expires_at)));
    proof.by_signature_alone = true;
    proof.key = std::move(key);
    return proof;
}

Proof prove_by_hash(const Presented& presented, std::string_view token, store::KeyRow key,
                    Snapshot snapshot) {
    const store::StoredHash stored = *stored_hash(key, presented.generation);
    const core::MasterKeys* keys = nullptr;
    // The tag comes first because it is cheap: a forgery that names a known key id costs neither a signature
    // check nor a slow hash.
    switch (match_tag(key, stored, token, keys)) {
        case HashMatch::unavailable:
            return refuse(Code::unavailable, "the master key cannot be used; the server log says why");
        case HashMatch::no:
            return refuse(Code::signature_invalid, {});
        case HashMatch::yes:
            break;
    }
    const bool current = presented.generation == key.generation;
    Proof proof;
    if (presented.jwt != nullptr) {
        const auto kid = current ? key.kid : key.previous->kid;
        const Code code = verify_signature(*presented.jwt, kid, snapshot, keys, proof.signing_key_retired);
        if (code != Code::valid) {
            return refuse(code, {});
        }
    }
    if (!match_hash(stored, token, *keys)) {
        return refuse(Code::signature_invalid, {});
    }
    proof.code = Code::valid;
    proof.generation = presented.generation;
    proof.position = current ? Position::current : Position::previous;
    proof.generation_expires_at = current ? key.expires_at : key.previous->expires_at;
    std::copy(stored.hash.begin(), stored.hash.end(), proof.matched_hash.begin());
    proof.key = std::move(key);
    return proof;
}

}  // namespace

core::KeyFacts facts_of(const Proof& proof, const store::KeyRow& key, core::Position position) {
    core::KeyFacts facts;
    facts.state = key.state;
    facts.signing_key_retired = proof.signing_key_retired;
    facts.position = position;
    facts.expires_at = pg::instant(key.expires_at);
    facts.generation_expires_at = pg::instant(proof.generation_expires_at);
    facts.grace_ends_at = key.previous ? pg::instant(key.previous->valid_until) : core::Instant();
    facts.environment = key.environment;
    return facts;
}

Proof prove(std::string_view token, Snapshot snapshot) {
    const core::ParsedToken parsed = core::parse_token(token);
    if (const auto* failure = std::get_if<core::TokenFailure>(&parsed)) {
        const bool checksum = failure->error == core::TokenError::checksum;
        return refuse(checksum ? Code::signature_invalid : Code::malformed, failure->why);
    }
    Presented presented;
    if (const auto* jwt = std::get_if<core::JwtToken>(&parsed)) {
        presented = {jwt, jwt->claims.key_id, jwt->claims.generation};
    } else {
        const auto& opaque = std::get<core::OpaqueToken>(parsed);
        presented = {nullptr, opaque.key_id, opaque.generation};
    }
    auto key = store::find_key(snapshot, presented.key_id);
    if (!key) {
        return refuse(Code::not_found, {});
    }
    const bool is_jwt = presented.jwt != nullptr;
    if (presented.generation > key->generation || is_jwt != (key->format == "jwt")) {
        return refuse(Code::signature_invalid, {});
    }
    if (stored_hash(*key, presented.generation) == nullptr) {
        return prove_by_signature(presented, std::move(*key), snapshot);
    }
    return prove_by_hash(presented, token, std::move(*key), snapshot);
}

}  // namespace apikey::flow
