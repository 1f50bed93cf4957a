#include "core/jwk.h"
#include "core/label.h"
#include "core/permission.h"
#include "core/role_name.h"
#include "core/token.h"
#include "core/verdict.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/json_changes.h"
#include "pg/owner_scope.h"
#include "store/keys.h"
#include "store/roles.h"
#include "store/snapshot.h"

/** What table constraints, defaults and views of the install script call. */
using namespace apikey;

PG_ENTRY(apikey_is_role_name) {
    return BoolGetDatum(core::is_valid_role_name(pg::text_view(PG_GETARG_DATUM(0))));
}

PG_ENTRY(apikey_is_environment) {
    return BoolGetDatum(core::is_valid_environment(pg::text_view(PG_GETARG_DATUM(0))));
}

PG_ENTRY(apikey_is_label) {
    return BoolGetDatum(core::is_valid_label(pg::text_view(PG_GETARG_DATUM(0))));
}

PG_ENTRY(apikey_is_revocation_reason) {
    return BoolGetDatum(core::is_revocation_reason(pg::text_view(PG_GETARG_DATUM(0))));
}

PG_ENTRY(apikey_is_grant_list) {
    const Datum array = PG_GETARG_DATUM(0);
    const auto shape = pg::array_shape(array);
    if (shape.dimensions > 1 || shape.elements > core::max_grants || shape.has_null) {
        return BoolGetDatum(false);
    }
    const auto grants = pg::text_array(array);
    for (auto grant = grants.begin(); grant != grants.end(); ++grant) {
        if (!core::is_valid_grant(*grant) || std::find(grants.begin(), grant, *grant) != grant) {
            return BoolGetDatum(false);
        }
    }
    return BoolGetDatum(true);
}

PG_ENTRY(apikey_uuid_v7) {
    std::array<std::uint8_t, 8> random;
    pg::random_bytes(random);
    return pg::uuid_datum(core::uuid_v7(pg::now(), random));
}

PG_ENTRY(apikey_acting_user) {
    pg::refuse_in_restricted_operation("write to the audit trail");
    return pg::user_name(pg::acting_user_outside());
}

PG_ENTRY(apikey_jwk) {
    const auto algorithm = core::algorithm_from_name(pg::text_view(PG_GETARG_DATUM(0)));
    if (!algorithm) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "that is not a signing algorithm");
    }
    const auto key =
        core::SigningKey::from_public_bytes(*algorithm, core::bytes_of(pg::text_view(PG_GETARG_DATUM(1))));
    return pg::jsonb_datum(core::public_jwk(key, pg::text_view(PG_GETARG_DATUM(2))));
}

PG_ENTRY(apikey_normalize_role) {
    const auto name = pg::text_argument(fcinfo, 0);
    if (!name) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    store::LatestSnapshot snapshot;
    return pg::text_datum(store::require_role(snapshot, *name).name);
}

PG_ENTRY(apikey_changed_members) {
    const auto changes = pg::changed_members(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
    fcinfo->isnull = !changes;
    return changes.value_or(Datum(0));
}

PG_ENTRY(apikey_force_sync_commit) {
    pg::call([] { ForceSyncCommit(); });
    PG_RETURN_VOID();
}
