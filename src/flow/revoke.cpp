#include "core/label.h"
#include "core/token.h"
#include "flow/denial.h"
#include "flow/proof.h"
#include "flow/revoke.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/owner_scope.h"
#include "pg/prepare_guard.h"
#include "pg/settings.h"
#include "store/revocation_lock.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

using core::Code;

void check_reason(std::string_view reason) {
    if (!core::is_revocation_reason(reason)) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "that is not a revocation reason", {},
                          "Reasons are UNSPECIFIED, KEY_COMPROMISE, SUPERSEDED, AFFILIATION_CHANGED and "
                          "PRIVILEGE_WITHDRAWN.");
    }
}

/** The key of a token that proves itself: anybody can write a token that merely names a key. */
core::Uuid proven_key_id(std::string_view token, Claim& claim) {
    pg::settings::require_preloaded("the proof of a token");
    store::LatestSnapshot snapshot;
    const Proof proof = prove(PresentedToken(token, GetCurrentTimestamp()), snapshot);
    claim = claim_of(proof);
    if (proof.code != Code::valid) {
        throw denial(proof);
    }
    if (proof.by_signature_alone) {
        core::JsonWriter detail;
        detail.add("generation_in_force", proof.key->generation);
        throw denial(
            Code::superseded, proof.key->key_id, detail,
            "A token this old is known by its signature only, which is not proof enough to change anything.");
    }
    return proof.key->key_id;
}

core::Uuid resolve(std::string_view key) {
    std::string lower(key.substr(0, 37));
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; });
    if (const auto id = core::uuid_from_string(lower)) {
        return *id;
    }
    if (key.starts_with(core::jwt_prefix) || key.starts_with(core::opaque_prefix)) {
        Claim unused;
        return proven_key_id(key, unused);
    }
    // The text is not repeated: it may be a credential of another system.
    throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "that is neither a key id nor a token", {},
                      "A key id is a UUID with hyphens, as issue() returned it.");
}

std::optional<store::KeyRow> read(const core::Uuid& key_id) {
    store::LatestSnapshot snapshot;
    return store::find_key(snapshot, key_id);
}

[[noreturn]] void fail_concurrent() {
    throw pg::Failure(ERRCODE_T_R_SERIALIZATION_FAILURE,
                      "could not change the key due to a concurrent change", {},
                      "Try the transaction again.");
}

Revocation revoke_by_id(const core::Uuid& key_id, std::string_view reason) {
    const std::uint64_t receipt =
        U64FromFullTransactionId(pg::call([] { return GetTopFullTransactionId(); }));
    const pg::OwnerScope as_owner(store::tables_owner());
    if (const auto revoked_at = store::revoke_key(key_id, reason)) {
        pg::call([] { CommandCounterIncrement(); });
        return {key_id, *revoked_at, false, receipt};
    }
    const auto key = read(key_id);
    if (!key) {
        throw unknown_key(core::to_string(key_id));
    }
    if (key->state != core::KeyState::revoked || !key->revoked_at) {
        fail_concurrent();
    }
    return {key_id, *key->revoked_at, true, receipt};
}

/** Ends whoever holds the revocation up. */
Revocation revoke_by_privilege(const core::Uuid& key_id, std::string_view reason) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::lock_key_for_revocation(key_id);
    return revoke_by_id(key_id, reason);
}

[[noreturn]] void fail_revoked(const core::Uuid& key_id) {
    throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                      "key " + core::to_string(key_id) + " is revoked, which is final", {},
                      "Issue a new key.");
}

/** After an UPDATE that changed nothing: was there nothing to do, or is it an error? */
void check_unchanged(const core::Uuid& key_id, core::KeyState wanted) {
    const auto key = read(key_id);
    if (!key) {
        throw unknown_key(core::to_string(key_id));
    }
    if (key->state == core::KeyState::revoked) {
        fail_revoked(key_id);
    }
    if (key->state != wanted) {
        fail_concurrent();
    }
}

void check_disabled_reason(std::optional<std::string_view> reason) {
    if (reason && !core::is_valid_label(*reason)) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "reason is not valid", {}, core::label_rule);
    }
}

void disable_by_id(const core::Uuid& key_id, std::optional<std::string_view> reason) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::lock_key_for_revocation(key_id);
    if (!store::disable_key(key_id, reason)) {
        check_unchanged(key_id, core::KeyState::disabled);
    }
    pg::call([] { CommandCounterIncrement(); });
}

}  // namespace

Revocation revoke(std::string_view key, std::string_view reason) {
    check_reason(reason);
    return revoke_by_privilege(resolve(key), reason);
}

Revocation revoke(const core::Uuid& key_id, std::string_view reason) {
    check_reason(reason);
    return revoke_by_privilege(key_id, reason);
}

Revocation revoke_token(std::optional<std::string_view> token, std::string_view reason) {
    check_reason(reason);
    const core::Uuid key_id = recording_denials(shm::Operation::revoke_token, [&](Claim& claim) {
        if (!token) {
            throw denial(Code::missing, std::nullopt, {});
        }
        return proven_key_id(*token, claim);
    });
    pg::forbid_prepare("apikey.revoke_token()");
    // Only waits: a thief of the token must not be able to end the session that is about to revoke the key.
    return revoke_by_id(key_id, reason);
}

std::uint64_t revoke_owner(std::string_view owner, std::string_view reason) {
    check_reason(reason);
    const pg::OwnerScope as_owner(store::tables_owner());
    std::uint64_t count = 0;
    // Locked one after the other in the order of their ids, so that two of these at once cannot wait for each
    // other. What was issued meanwhile is found the next time round.
    for (;;) {
        const auto key_ids = store::unrevoked_keys_of_owner(owner);
        for (const core::Uuid& key_id : key_ids) {
            store::lock_key_for_revocation(key_id);
        }
        const auto revoked = key_ids.empty() ? 0 : store::revoke_keys_of_owner(owner, key_ids, reason);
        if (revoked == 0) {
            return count;
        }
        count += revoked;
        pg::call([] { CommandCounterIncrement(); });
    }
}

void disable(std::string_view key, std::optional<std::string_view> reason) {
    check_disabled_reason(reason);
    disable_by_id(resolve(key), reason);
}

void disable(const core::Uuid& key_id, std::optional<std::string_view> reason) {
    check_disabled_reason(reason);
    disable_by_id(key_id, reason);
}

void enable(std::string_view key) {
    enable(resolve(key));
}

void enable(const core::Uuid& key_id) {
    const pg::OwnerScope as_owner(store::tables_owner());
    if (!store::enable_key(key_id)) {
        check_unchanged(key_id, core::KeyState::active);
    }
    pg::call([] { CommandCounterIncrement(); });
}

}  // namespace apikey::flow
