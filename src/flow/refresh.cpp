#include <limits>

#include "core/crypto.h"
#include "flow/denial.h"
#include "flow/lifetime.h"
#include "flow/mint.h"
#include "flow/proof.h"
#include "flow/refresh.h"
#include "flow/validate.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/owner_scope.h"
#include "pg/prepare_guard.h"
#include "pg/settings.h"
#include "shm/at_commit.h"
#include "store/master_key.h"
#include "store/roles.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

using core::Code;
using core::Position;

/** Everything that validation would refuse as well, but the client's address, which is not known here. */
void refuse_unless_good(const Proof& proof, const store::KeyHead& key, Position position) {
    const auto environments = accepted_environments();
    const core::KeyFacts facts = facts_of(proof, key, position);
    core::Request request;
    request.now = pg::now();
    request.environments = environments;
    const core::Decision decision = core::decide(facts, request);
    if (decision.code != Code::valid) {
        core::JsonWriter detail;
        detail.add("generation", proof.generation);
        if (decision.code == Code::expired) {
            detail.add("expired_at",
                       pg::iso_timestamp(std::min(key.expires_at, proof.generation_expires_at)));
        }
        if (decision.code == Code::superseded) {
            detail.add("generation_in_force", key.generation);
        }
        throw denial(decision.code, key.key_id, detail);
    }
}

Issued successor(const store::KeyRow& key, const store::RoleRow& role, store::RowSnapshot& snapshot,
                 const core::MasterKeys& keys) {
    auto token = mint_again(key, snapshot, keys);
    if (!token) {
        core::JsonWriter detail;
        detail.add("generation_in_force", key.generation);
        throw denial(Code::already_refreshed, key.key_id, detail,
                     "The token of the generation in force was handed out once and cannot be made again.");
    }
    return make_issued(facts_of(key), refresh_after(key.issued_at, key.expires_at, role.refresh_window),
                       std::move(token));
}

void refuse_too_early(const store::KeyHead& key, const store::RoleRow& role) {
    const TimestampTz now = pg::timestamp(pg::now());
    const TimestampTz opens = refresh_after(key.issued_at, key.expires_at, role.refresh_window);
    if (now < opens) {
        core::JsonWriter detail;
        detail.add("refresh_after", pg::iso_timestamp(opens))
            .add("expires_at", pg::iso_timestamp(key.expires_at));
        throw denial(Code::refresh_too_early, key.key_id, detail,
                     "Refresh from refresh_after on, before expires_at.");
    }
}

Issued next_generation(const store::KeyRow& key, const store::RoleRow& role, const core::MasterKeys& keys) {
    refuse_too_early(key, role);
    const TimestampTz now = pg::timestamp(pg::now());
    const Interval* ttl = key.ttl != nullptr ? key.ttl : role.ttl;
    if (ttl == nullptr) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          "role \"" + std::string(role.name) + "\" has no ttl any more", {},
                          "Give the role a ttl, or the key another role.");
    }
    if (key.generation == std::numeric_limits<std::int32_t>::max()) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the key has used up its generations", {},
                          "Issue a new key.");
    }
    store::NextGeneration next{};
    next.issued_at = now;
    next.expires_at = expiry(now, ttl);
    next.previous_valid_until = now + pg::settings::refresh_grace * USECS_PER_SEC;
    Salt salt;
    pg::random_bytes(salt);
    TokenFacts facts = facts_of(key);
    facts.generation++;
    facts.issued_at = next.issued_at;
    facts.expires_at = next.expires_at;
    Minted minted = mint(facts, keys, salt);
    next.kid = minted.kid;
    next.hash = minted.hash;
    next.tag = minted.tag;
    // Before triggers run, one of which may look at the role again: what `role` points to is gone then.
    const TimestampTz reopens = refresh_after(next.issued_at, next.expires_at, role.refresh_window);
    store::advance_generation(key.key_id, key.generation, next);
    pg::call([] { CommandCounterIncrement(); });
    shm::count_at_commit(shm::Committed::refresh);
    return make_issued(facts, reopens, std::move(minted.token));
}

Issued next_token(std::optional<std::string_view> token, Claim& claim) {
    if (!token) {
        throw denial(Code::missing, std::nullopt, {});
    }
    Proof proof;
    {
        store::LatestSnapshot snapshot;
        proof = prove(PresentedToken(*token, GetCurrentTimestamp()), snapshot);
        claim = claim_of(proof);
        if (proof.code != Code::valid) {
            throw denial(proof);
        }
        refuse_unless_good(proof, *proof.key, proof.position);
        // Before anything is locked: a token that is not due yet must not be of use to hold up others.
        if (const auto role = store::find_role(snapshot, proof.key->role);
            role && proof.position == Position::current) {
            refuse_too_early(*proof.key, *role);
        }
    }

    // The proof took milliseconds; others may have refreshed meanwhile. From here on the row is ours until
    // COMMIT.
    pg::forbid_prepare("apikey.refresh()");
    const pg::OwnerScope as_owner(store::tables_owner());
    const core::Uuid key_id = proof.key->key_id;
    store::lock_key(key_id);
    store::LatestSnapshot snapshot;
    const auto key = store::find_key(snapshot, key_id);
    if (!key) {
        throw denial(Code::not_found, std::nullopt, {});
    }
    const Position position = position_in(proof, *key);
    refuse_unless_good(proof, *key, position);
    const auto role = store::find_role(snapshot, key->role);
    if (!role) {
        throw pg::Failure(ERRCODE_INTERNAL_ERROR, "the key's role does not exist");
    }
    const core::MasterKeys& keys = store::require_master_key();
    if (!core::equal_constant_time(key->master_key_fingerprint, keys.fingerprint)) {
        // The file was replaced while we waited: the row would hold a hash that its own fingerprint denies.
        throw store::unavailable("The key was made under another master key.");
    }
    return position == Position::previous ? successor(*key, *role, snapshot, keys)
                                          : next_generation(*key, *role, keys);
}

}  // namespace

Issued refresh(std::optional<std::string_view> token) {
    return recording_denials(shm::Operation::refresh, [&](Claim& claim) { return next_token(token, claim); });
}

}  // namespace apikey::flow
