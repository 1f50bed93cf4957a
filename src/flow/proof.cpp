#include <cstring>

#include "core/crypto.h"
#include "core/jws.h"
#include "core/token.h"
#include "flow/proof.h"
#include "pg/datum.h"
#include "store/master_key.h"
#include "shm/counters.h"
#include "shm/meter.h"
#include "shm/proof_cache.h"
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

/** Where a generation is whose hash the row keeps. */
std::optional<Position> kept_position(const store::KeyHead& key, std::int32_t generation) {
    if (generation == key.generation) {
        return Position::current;
    }
    if (key.previous && generation == key.generation - 1) {
        return Position::previous;
    }
    return std::nullopt;
}

core::ByteView kept_hash(const store::KeyHead& key, Position position) {
    return position == Position::current ? key.token_hash : key.previous->token_hash;
}

/** In the memory of the call, where what it points to is as well. */
const store::KeyHead* kept(const store::KeyHead& key) {
    static_assert(std::is_trivially_destructible_v<store::KeyHead>);
    void* memory = pg::call([] { return palloc(sizeof(store::KeyHead)); });
    return new (memory) store::KeyHead(key);
}

/** The token is the one whose hash the row, already in proof.key, keeps at `position`. */
void accept(Proof& proof, std::int32_t generation, Position position) {
    const store::KeyHead& key = *proof.key;
    const auto hash = kept_hash(key, position);
    proof.code = Code::valid;
    proof.generation = generation;
    proof.position = position;
    proof.generation_expires_at = position == Position::current ? key.expires_at : key.previous->expires_at;
    std::copy_n(hash.begin(), std::min(hash.size(), proof.matched_hash.size()), proof.matched_hash.begin());
}

enum class HashMatch { yes, no, unavailable };

HashMatch match_tag(const store::KeyRow& key, core::ByteView tag, std::string_view token,
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
    return core::equal_constant_time(core::token_tag(*keys, token), tag) ? HashMatch::yes : HashMatch::no;
}

bool match_hash(core::ByteView stored, const store::HashParameters& how, std::string_view token,
                const core::MasterKeys& keys) {
    const auto hash = core::hash_token(keys, token, how.salt, static_cast<std::uint32_t>(how.iterations),
                                       pg::throw_if_interrupted);
    return core::equal_constant_time(hash, stored);
}

/** The signature of a JWT under the key that its header names. */
Code verify_signature(const core::JwtToken& jwt, std::string_view expected_kid, store::RowSnapshot& snapshot,
                      const core::MasterKeys* keys, bool* retired = nullptr) {
    const auto& header = jwt.jws.header;
    if (!expected_kid.empty() && header.kid != expected_kid) {
        return Code::signature_invalid;
    }
    const auto row = store::find_signing_key(snapshot, header.kid);
    if (!row || row->algorithm != header.algorithm) {
        return Code::signature_invalid;
    }
    if (retired != nullptr) {
        *retired = row->state == store::SigningKeyState::retired;
    }
    const core::SigningKey* key = store::verification_key(*row, keys);
    if (key == nullptr) {
        return Code::unavailable;
    }
    return key->verify(core::bytes_of(jwt.jws.signing_input), jwt.jws.signature) ? Code::valid
                                                                                 : Code::signature_invalid;
}

/** An older generation than the row keeps hashes of. */
Proof prove_by_signature(const Presented& presented, const store::KeyRow& key, store::RowSnapshot& snapshot) {
    if (presented.jwt == nullptr) {
        return refuse(Code::signature_invalid,
                      "the token is of an older generation, whose hash is no longer kept");
    }
    const core::MasterKeys* keys = nullptr;
    if (presented.jwt->jws.header.algorithm == core::Algorithm::HS256) {
        keys = store::load_master_key().keys;
    }
    bool retired = false;
    const Code code = verify_signature(*presented.jwt, {}, snapshot, keys, &retired);
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
    proof.key = kept(key);
    return proof;
}

Proof prove_by_hash(const Presented& presented, std::string_view token, const store::KeyRow& key,
                    Position position, store::RowSnapshot& snapshot) {
    const bool current = position == Position::current;
    const store::HashParameters& how = current ? key.hashed : key.previous_hashed;
    const core::MasterKeys* keys = nullptr;
    // The tag comes first because it is cheap: a forgery that names a known key id costs neither a signature
    // check nor a slow hash.
    switch (match_tag(key, how.tag, token, keys)) {
        case HashMatch::unavailable:
            return refuse(Code::unavailable, "the master key cannot be used; the server log says why");
        case HashMatch::no:
            return refuse(Code::signature_invalid, {});
        case HashMatch::yes:
            break;
    }
    Proof proof;
    if (presented.jwt != nullptr) {
        const auto kid = current ? key.kid : key.previous_kid;
        const Code code = verify_signature(*presented.jwt, kid, snapshot, keys);
        if (code != Code::valid) {
            return refuse(code, {});
        }
    }
    if (!match_hash(kept_hash(key, position), how, token, *keys)) {
        return refuse(Code::signature_invalid, {});
    }
    proof.key = kept(key);
    accept(proof, presented.generation, position);
    return proof;
}

/** A token that has proven itself before, if the row still holds the hash that it matched then. False, with
 * nothing in `proof`, when it has to prove itself again. */
bool recall(const core::Fingerprint& token, store::LatestSnapshot& snapshot, std::uint32_t tick,
            Proof& proof) {
    const core::ProofTable& cache = *shm::proof_cache();
    const auto proven = cache.find(token, tick);
    if (!proven) {
        return false;
    }
    shm::prefetch(shm::key_subject(proven->key_id));
    store::RowHint hint = proven->row_hint;
    const store::KeyHead* key = store::find_key_head(snapshot, proven->key_id, hint);
    if (key == nullptr) {
        return false;
    }
    if (hint != proven->row_hint) {
        cache.update_row_hint(token, hint);
    }
    const auto position = kept_position(*key, proven->generation);
    if (!position || shm::hash_tag(kept_hash(*key, *position)) != proven->hash_tag) {
        return false;
    }
    proof.key = key;
    proof.waits = snapshot.waits();
    accept(proof, proven->generation, *position);
    return true;
}

/** Parse → look up → signature → hash. */
Proof prove_from_scratch(std::string_view token, store::LatestSnapshot& snapshot) {
    const core::ParsedToken parsed = core::parse_token(token);
    if (const auto* failure = std::get_if<core::TokenFailure>(&parsed)) {
        const bool opaque = token.starts_with(core::opaque_prefix);
        if (!opaque) {
            shm::count(shm::my_counters().jwt_decode_failures);
        }
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
    Proof proof;
    if (const auto key = store::find_key(snapshot, presented.key_id)) {
        const unsigned waits = snapshot.waits();
        const auto position = kept_position(*key, presented.generation);
        const bool is_jwt = presented.jwt != nullptr;
        if (presented.generation > key->generation || is_jwt != (key->format == "jwt")) {
            proof = refuse(Code::signature_invalid, {});
        } else if (position) {
            proof = prove_by_hash(presented, token, *key, *position, snapshot);
        } else {
            proof = prove_by_signature(presented, *key, snapshot);
        }
        proof.waits = waits;
        if (proof.code == Code::valid && waits != snapshot.waits()) {
            read_again(proof, snapshot);
        }
    } else {
        proof = refuse(Code::not_found, {});
    }
    if (proof.code != Code::valid) {
        proof.claimed_key_id = presented.key_id;
        proof.generation = presented.generation;
    }
    return proof;
}

/** Signatures alone are not remembered: they prove less than the stored hash does. */
void remember(const core::Fingerprint& token, const Proof& proof, std::uint32_t tick) {
    if (proof.code != Code::valid || proof.by_signature_alone) {
        return;
    }
    shm::remember(token, {proof.key->key_id, proof.generation, shm::hash_tag(proof.matched_hash), 0}, tick);
}

}  // namespace

Claim claim_of(const Proof& proof) {
    return {proof.key == nullptr ? proof.claimed_key_id : proof.key->key_id, proof.generation};
}

core::KeyFacts facts_of(const Proof& proof, const store::KeyHead& key, core::Position position) {
    core::KeyFacts facts;
    facts.state = key.state;
    facts.position = position;
    facts.expires_at = pg::instant(key.expires_at);
    facts.generation_expires_at = pg::instant(proof.generation_expires_at);
    facts.grace_ends_at = key.previous ? pg::instant(key.previous->valid_until) : core::Instant();
    facts.environment = key.environment;
    return facts;
}

PresentedToken::PresentedToken(std::string_view presented, TimestampTz now)
    : text_(presented), presented_at_(now) {
    const core::ProofTable* cache = shm::proof_cache();
    if (cache == nullptr || presented.size() > core::max_jws_size) {
        return;
    }
    // What was proven under a master key counts as long as that is the server's: without it, nobody is let
    // in.
    if (const core::MasterKeys* keys = store::recent_master_key(now)) {
        std::uint64_t master_key = 0;
        static_assert(sizeof(master_key) == sizeof(keys->fingerprint));
        memcpy(&master_key, keys->fingerprint.data(), sizeof(master_key));
        fingerprint_ = shm::fingerprint(presented, master_key);
        cache->prefetch(*fingerprint_);
    }
}

core::Position position_in(const Proof& proof, const store::KeyHead& key) {
    if (core::equal_constant_time(proof.matched_hash, key.token_hash)) {
        return Position::current;
    }
    if (key.previous && core::equal_constant_time(proof.matched_hash, key.previous->token_hash)) {
        return Position::previous;
    }
    return Position::older;
}

void read_again(Proof& proof, store::LatestSnapshot& snapshot) {
    const core::Uuid key_id = proof.key->key_id;
    store::RowHint hint = 0;
    const store::KeyHead* key = store::find_key_head(snapshot, key_id, hint);
    proof.waits = snapshot.waits();
    if (key == nullptr) {
        const std::int32_t generation = proof.generation;
        proof = refuse(Code::not_found, {});
        proof.claimed_key_id = key_id;
        proof.generation = generation;
        return;
    }
    proof.key = key;
    if (!proof.by_signature_alone) {
        proof.position = position_in(proof, *key);
    }
}

Proof prove(const PresentedToken& token, store::LatestSnapshot& snapshot) {
    if (!token.fingerprint()) {
        return prove_from_scratch(token.text(), snapshot);
    }
    const std::uint32_t tick = shm::cache_tick(token.presented_at());
    shm::Counters& counters = shm::my_counters();
    Proof proof;
    if (recall(*token.fingerprint(), snapshot, tick, proof)) {
        shm::count(counters.cache_hits);
        return proof;
    }
    shm::count(counters.cache_misses);
    proof = prove_from_scratch(token.text(), snapshot);
    remember(*token.fingerprint(), proof, tick);
    return proof;
}

}  // namespace apikey::flow
