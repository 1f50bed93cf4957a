#include "core/crypto.h"
#include "core/label.h"
#include "core/permission.h"
#include "core/token.h"
#include "flow/issue.h"
#include "flow/mint.h"
#include "flow/validate.h"
#include "pg/access.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/owner_scope.h"
#include "store/keys.h"
#include "store/master_key.h"
#include "store/roles.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

pg::Failure invalid(const std::string& message, std::string hint) {
    return {ERRCODE_INVALID_PARAMETER_VALUE, message, {}, std::move(hint)};
}

void check_label(std::string_view value, const char* what) {
    if (!core::is_valid_label(value)) {
        throw invalid(std::string(what) + " is not valid",
                      "It takes 1 to 255 bytes without control characters.");
    }
}

void check_role(const store::RoleRow& role, Oid caller) {
    const std::string name(role.name);
    if (role.ttl == nullptr) {
        throw invalid("role \"" + name + "\" is anonymous: no keys are issued for it",
                      "Roles with a ttl have keys.");
    }
    if (role.issuable_by && !pg::is_member_of_any(caller, *role.issuable_by) &&
        !pg::is_apikey_admin(caller)) {
        throw pg::Failure(ERRCODE_INSUFFICIENT_PRIVILEGE,
                          "permission denied to issue keys of role \"" + name + "\"", {},
                          "apikey.role.issuable_by names the database roles that may; so may those with "
                          "access kind admin.");
    }
}

void check_narrowing(Datum narrowing, const store::RoleRow& role) {
    const auto grants = pg::text_array(narrowing);
    if (grants.empty()) {
        throw invalid("permissions must not be an empty array", "NULL means all of the role's permissions.");
    }
    const auto role_grants = pg::text_array(role.permissions);
    for (std::size_t i = 0; i < grants.size(); i++) {
        if (!core::is_valid_grant(grants[i])) {
            throw invalid("entry " + std::to_string(i + 1) + " of permissions is not a permission",
                          "A permission is segment(:segment)*, a segment [a-z0-9_.-]+ or *, for example "
                          "'chat:read' or 'chat:*'.");
        }
        if (std::find(grants.begin(), grants.begin() + static_cast<std::ptrdiff_t>(i), grants[i]) !=
            grants.begin() + static_cast<std::ptrdiff_t>(i)) {
            throw invalid("permission \"" + std::string(grants[i]) + "\" is given twice",
                          "Give each permission once.");
        }
        const bool shared = std::any_of(role_grants.begin(), role_grants.end(), [&](std::string_view grant) {
            return core::intersect(grant, grants[i]).has_value();
        });
        if (!shared) {
            std::string known;
            for (const auto grant : role_grants) {
                known += (known.empty() ? "" : ", ") + std::string(grant);
            }
            throw invalid(
                "permission \"" + std::string(grants[i]) + "\" shares nothing with role \"" +
                    std::string(role.name) + "\"",
                "A key narrows its role's permissions, which are: " + (known.empty() ? "none" : known) + ".");
        }
    }
}

void check_environment(std::string_view environment) {
    if (!core::is_valid_environment(environment)) {
        throw invalid("environment is not valid",
                      "It takes 1 to 16 characters of a-z and 0-9, for example 'live' or 'test'.");
    }
    const auto accepted = accepted_environments();
    if (!accepted.empty() && std::find(accepted.begin(), accepted.end(), environment) == accepted.end()) {
        throw invalid("environment \"" + std::string(environment) + "\" is not accepted here",
                      "apikey.environments lists those whose keys this server accepts.");
    }
}

void check_metadata(Datum metadata) {
    const bool object =
        pg::call([&] { return static_cast<bool>(JB_ROOT_IS_OBJECT(DatumGetJsonbP(metadata))); });
    if (!object) {
        throw invalid("metadata must be a JSON object", "For example '{\"team\": \"search\"}'.");
    }
}

void check_cidrs(Datum cidrs) {
    if (pg::cidr_array(cidrs).empty()) {
        throw invalid("allowed_cidrs must not be an empty array", "NULL means any client address.");
    }
}

TimestampTz checked_expiry(TimestampTz issued_at, const IssueRequest& request, const store::RoleRow& role) {
    const TimestampTz longest = expiry(issued_at, role.ttl);
    if (request.ttl == nullptr) {
        return longest;
    }
    const TimestampTz wanted = expiry(issued_at, request.ttl);
    if (wanted <= issued_at) {
        throw invalid("ttl must be positive", "For example interval '7 days'; NULL takes the role's.");
    }
    if (wanted > longest) {
        const char* text = pg::call([&] {
            return DatumGetCString(
                DirectFunctionCall1(interval_out, IntervalPGetDatum(const_cast<Interval*>(role.ttl))));
        });
        throw invalid("ttl is longer than role \"" + std::string(role.name) + "\" allows",
                      "At most " + std::string(text) + ".");
    }
    return wanted;
}

/** A digest of what was asked for, so that an idempotency key with other arguments is noticed. Each part is
 * preceded by its length. */
core::Digest256 digest_of(const IssueRequest& request, std::string_view role) {
    std::string text;
    const auto add = [&](bool present, std::string_view part) {
        text += present ? std::to_string(part.size()) + ':' : std::string("-:");
        text += part;
    };
    const auto output = [](PGFunction function, Datum value) -> std::string {
        return pg::call([&] { return DatumGetCString(DirectFunctionCall1(function, value)); });
    };
    const auto array_output = [](Datum value, Oid type) -> std::string {
        return pg::call([&] {
            Oid function;
            bool is_varlena;
            getTypeOutputInfo(type, &function, &is_varlena);
            return OidOutputFunctionCall(function, value);
        });
    };
    add(true, role);
    add(request.name.has_value(), request.name.value_or(""));
    if (request.ttl != nullptr) {
        // The three parts, not the text: that depends on IntervalStyle.
        add(true, std::to_string(request.ttl->month) + ' ' + std::to_string(request.ttl->day) + ' ' +
                      std::to_string(request.ttl->time));
    } else {
        add(false, {});
    }
    add(request.permissions.has_value(),
        request.permissions ? array_output(*request.permissions, TEXTARRAYOID) : "");
    add(true, request.environment);
    add(request.format.has_value(), request.format.value_or(""));
    add(request.allowed_cidrs.has_value(),
        request.allowed_cidrs ? array_output(*request.allowed_cidrs, CIDRARRAYOID) : "");
    add(true, output(jsonb_out, request.metadata));
    return core::sha256(core::bytes_of(text));
}

/** The key that was issued under this idempotency key before; nullopt when there is none. */
std::optional<Issued> repeat(const IssueRequest& request, const core::Digest256& digest) {
    const auto key_id = store::find_idempotent_key(request.owner, *request.idempotency_key);
    if (!key_id) {
        return std::nullopt;
    }
    const store::LatestSnapshot snapshot;
    const auto key = store::find_key(snapshot, *key_id);
    if (!key) {
        return std::nullopt;
    }
    if (!std::equal(digest.begin(), digest.end(), key->idempotency_digest.begin(),
                    key->idempotency_digest.end())) {
        throw invalid("this idempotency key was used with other arguments",
                      "Repeat a request with the same arguments, or give a new one a new idempotency_key.");
    }
    const auto role = store::find_role(snapshot, key->role);
    Issued issued{key->key_id,
                  std::nullopt,
                  key->generation,
                  std::string(key->owner),
                  std::string(key->role),
                  key->issued_at,
                  refresh_after(key->issued_at, key->expires_at, role ? role->refresh_window : nullptr),
                  key->expires_at};
    if (key->state != core::KeyState::revoked && key->generation == 1) {
        issued.token = mint_again(*key, snapshot, store::require_master_key());
    }
    return issued;
}

}  // namespace

TimestampTz expiry(TimestampTz issued_at, const Interval* ttl) {
    const TimestampTz at = DatumGetTimestamp(pg::call([&] {
        return DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(issued_at),
                                   IntervalPGetDatum(const_cast<Interval*>(ttl)));
    }));
    if (TIMESTAMP_NOT_FINITE(at)) {
        throw invalid("ttl must be finite", "For example interval '7 days'.");
    }
    return at;
}

Issued issue(const IssueRequest& request) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::NewKey key{};
    {
        const store::LatestSnapshot snapshot;
        const store::RoleRow role = store::require_role(snapshot, request.role);
        check_role(role, as_owner.caller());
        check_label(request.owner, "owner");
        if (request.name) {
            check_label(*request.name, "name");
        }
        if (request.idempotency_key) {
            check_label(*request.idempotency_key, "idempotency_key");
        }
        if (request.permissions) {
            check_narrowing(*request.permissions, role);
        }
        check_environment(request.environment);
        if (request.format && *request.format != "jwt" && *request.format != "opaque") {
            throw invalid("format is not known", "Formats are 'jwt' and 'opaque'; NULL takes the role's.");
        }
        if (request.allowed_cidrs) {
            check_cidrs(*request.allowed_cidrs);
        }
        check_metadata(request.metadata);

        key.issued_at = pg::timestamp(pg::now());
        key.expires_at = checked_expiry(key.issued_at, request, role);
        key.role = role.name;
        key.format = request.format.value_or(role.format);
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
    if (request.idempotency_key) {
        key.idempotency_key = request.idempotency_key;
        key.idempotency_digest = digest_of(request, key.role);
        if (auto before = repeat(request, key.idempotency_digest)) {
            return std::move(*before);
        }
    }

    const core::MasterKeys& keys = store::require_or_create_master_key();
    std::array<std::uint8_t, 8> random;
    pg::random_bytes(random);
    key.key_id = core::uuid_v7(pg::now(), random);
    Minted minted = mint({key.key_id, 1, key.owner, key.role, key.format, key.environment, key.permissions,
                          key.issued_at, key.expires_at},
                         keys);
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

    const store::LatestSnapshot snapshot;
    const auto role = store::find_role(snapshot, key.role);
    return {key.key_id,
            std::move(minted.token),
            1,
            std::string(key.owner),
            std::string(key.role),
            key.issued_at,
            refresh_after(key.issued_at, key.expires_at, role ? role->refresh_window : nullptr),
            key.expires_at};
}

}  // namespace apikey::flow
