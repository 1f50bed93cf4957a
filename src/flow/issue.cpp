#include "core/crypto.h"
#include "core/token.h"
#include "flow/issue.h"
#include "flow/issue_arguments.h"
#include "flow/lifetime.h"
#include "flow/mint.h"
#include "flow/validate.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/owner_scope.h"
#include "shm/at_commit.h"
#include "store/keys.h"
#include "store/master_key.h"
#include "store/roles.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

/** The key that was issued under this idempotency key before; nullopt when there is none. */
std::optional<Issued> repeat(const IssueRequest& request, const core::Digest256& digest) {
    const auto key_id = store::find_idempotent_key(request.owner, *request.idempotency_key);
    if (!key_id) {
        return std::nullopt;
    }
    store::LatestSnapshot snapshot;
    const auto key = store::find_key(snapshot, *key_id);
    if (!key) {
        return std::nullopt;
    }
    if (!std::equal(digest.begin(), digest.end(), key->idempotency_digest.begin(),
                    key->idempotency_digest.end())) {
        throw pg::Failure(
            ERRCODE_INVALID_PARAMETER_VALUE, "this idempotency key was used with other arguments", {},
            "Repeat a request with the same arguments, or give a new one a new idempotency_key.");
    }
    const auto role = store::find_role(snapshot, key->role);
    const TimestampTz refreshable_from =
        refresh_after(key->issued_at, key->expires_at, role ? role->refresh_window : nullptr);
    std::optional<core::SecretBytes> token;
    if (key->state != core::KeyState::revoked && key->generation == 1) {
        token = mint_again(*key, snapshot, store::require_master_key());
    }
    return make_issued(facts_of(*key), refreshable_from, std::move(token));
}

}  // namespace

Issued issue(const IssueRequest& request) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::NewKey key{};
    TimestampTz refreshable_from = 0;
    // What `role` points to is gone when a trigger that somebody has added to a table looks at the role.
    std::string role_name;
    std::string format;
    {
        store::LatestSnapshot snapshot;
        const store::RoleRow role = store::require_role(snapshot, request.role);
        check_may_issue(role, as_owner.caller());
        check_labels(request);
        if (request.idempotency_key) {
            // Before the rest is looked at: a repeat gives the same key even if today's role would not allow
            // it any more.
            key.idempotency_key = request.idempotency_key;
            key.idempotency_digest = digest_of(request, role.name);
            if (auto before = repeat(request, key.idempotency_digest)) {
                return std::move(*before);
            }
        }
        check_arguments(request, role);

        key.issued_at = pg::timestamp(pg::now());
        key.expires_at = checked_expiry(key.issued_at, request.ttl, role);
        refreshable_from = refresh_after(key.issued_at, key.expires_at, role.refresh_window);
        role_name = role.name;
        key.role = role_name;
        format = request.format.value_or(role.format);
        key.format = format;
        key.owner = request.owner;
        key.name = request.name;
        key.environment = request.environment;
        key.permissions = request.permissions;
        key.allowed_cidrs = request.allowed_cidrs;
        key.metadata = request.metadata;
        if (request.ttl != nullptr) {
            key.ttl = IntervalPGetDatum(const_cast<Interval*>(request.ttl));
        }
    }
    const core::MasterKeys& keys = store::require_or_create_master_key();
    // In one draw: each costs a microsecond.
    struct {
        std::array<std::uint8_t, 8> of_key_id;
        Salt salt;
    } random;
    static_assert(sizeof(random) == sizeof(random.of_key_id) + sizeof(random.salt));
    pg::random_bytes({reinterpret_cast<std::uint8_t*>(&random), sizeof(random)});
    key.key_id = core::uuid_v7(pg::now(), random.of_key_id);
    const TokenFacts facts = {
        key.key_id,    1, key.owner, key.role, key.format, key.environment, key.permissions, key.issued_at,
        key.expires_at};
    Minted minted = mint(facts, keys, random.salt);
    key.kid = minted.kid;
    key.hash = minted.hash;
    key.tag = minted.tag;
    key.master_key_fingerprint = keys.fingerprint;
    if (!store::insert_key(key)) {
        // Another session was faster with the same idempotency key: its key it is.
        if (auto before = repeat(request, key.idempotency_digest)) {
            return std::move(*before);
        }
        throw pg::Failure(ERRCODE_T_R_SERIALIZATION_FAILURE,
                          "could not issue the key due to a concurrent use of its idempotency key", {},
                          "Try the transaction again.");
    }
    pg::call([] { CommandCounterIncrement(); });
    shm::count_at_commit(shm::Committed::issue);
    return make_issued(facts, refreshable_from, std::move(minted.token));
}

}  // namespace apikey::flow
