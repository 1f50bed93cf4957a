#include "core/token.h"
#include "flow/issue.h"
#include "flow/refresh.h"
#include "flow/revoke.h"
#include "flow/signing.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/owner_scope.h"
#include "pg/settings.h"

namespace apikey::entry {
namespace {

/** 25006 and 42501 before anything else is looked at, with the function's name in the message. */
void require_writable(const char* function) {
    pg::refuse_in_restricted_operation((std::string("execute ") + function).c_str());
    pg::call([&] {
        PreventCommandIfReadOnly(function);
        PreventCommandDuringRecovery(function);
        PreventCommandIfParallelMode(function);
    });
}

std::string_view required_argument(FunctionCallInfo fcinfo, int index, const char* name) {
    const auto text = pg::text_argument(fcinfo, index);
    if (!text) {
        throw pg::Failure(ERRCODE_NULL_VALUE_NOT_ALLOWED, std::string(name) + " must not be NULL");
    }
    return *text;
}

core::Uuid required_key_id(FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(0)) {
        throw pg::Failure(ERRCODE_NULL_VALUE_NOT_ALLOWED, "key must not be NULL");
    }
    return pg::uuid_from_datum(PG_GETARG_DATUM(0));
}

std::optional<Datum> optional_argument(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index)) {
        return std::nullopt;
    }
    return pg::call([&] { return PointerGetDatum(PG_DETOAST_DATUM(PG_GETARG_DATUM(index))); });
}

Datum composite(FunctionCallInfo fcinfo, const flow::Issued& issued) {
    std::array<Datum, 8> values = {
        pg::uuid_datum(issued.key_id),
        issued.token ? pg::text_datum(core::text_of(*issued.token)) : Datum(0),
        Int32GetDatum(issued.generation),
        pg::text_datum(issued.owner),
        pg::text_datum(issued.role),
        TimestampTzGetDatum(issued.issued_at),
        TimestampTzGetDatum(issued.refresh_after),
        TimestampTzGetDatum(issued.expires_at),
    };
    std::array<bool, 8> nulls{};
    nulls[1] = !issued.token;
    constexpr std::array<Oid, 8> types = {UUIDOID, TEXTOID,        INT4OID,        TEXTOID,
                                          TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
    return pg::make_composite(fcinfo, values, nulls, types);
}

Datum composite(FunctionCallInfo fcinfo, const flow::Revocation& revocation) {
    std::array<Datum, 4> values = {
        pg::uuid_datum(revocation.key_id),
        TimestampTzGetDatum(revocation.revoked_at),
        BoolGetDatum(revocation.already),
        UInt64GetDatum(revocation.receipt),
    };
    std::array<bool, 4> nulls{};
    constexpr std::array<Oid, 4> types = {UUIDOID, TIMESTAMPTZOID, BOOLOID, XID8OID};
    return pg::make_composite(fcinfo, values, nulls, types);
}

core::Algorithm algorithm_argument(FunctionCallInfo fcinfo, int index) {
    const auto algorithm = core::algorithm_from_name(required_argument(fcinfo, index, "algorithm"));
    if (!algorithm) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "that is not a signing algorithm", {},
                          "Algorithms are EdDSA, ES256 and HS256, written just so.");
    }
    return *algorithm;
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_issue) {
    entry::require_writable("apikey.issue()");
    pg::settings::require_preloaded("apikey.issue()");
    flow::IssueRequest request{};
    request.owner = entry::required_argument(fcinfo, 0, "owner");
    request.role = entry::required_argument(fcinfo, 1, "role");
    request.name = pg::text_argument(fcinfo, 2);
    request.ttl = PG_ARGISNULL(3) ? nullptr : PG_GETARG_INTERVAL_P(3);
    request.permissions = entry::optional_argument(fcinfo, 4);
    request.environment = entry::required_argument(fcinfo, 5, "environment");
    request.format = pg::text_argument(fcinfo, 6);
    request.allowed_cidrs = entry::optional_argument(fcinfo, 7);
    const auto metadata = entry::optional_argument(fcinfo, 8);
    request.metadata = metadata ? *metadata : pg::jsonb_datum("{}");
    request.idempotency_key = pg::text_argument(fcinfo, 9);
    return entry::composite(fcinfo, flow::issue(request));
}

PG_ENTRY(apikey_refresh) {
    entry::require_writable("apikey.refresh()");
    pg::settings::require_preloaded("apikey.refresh()");
    return entry::composite(fcinfo, flow::refresh(pg::text_argument(fcinfo, 0)));
}

PG_ENTRY(apikey_revoke) {
    entry::require_writable("apikey.revoke()");
    const auto key = entry::required_argument(fcinfo, 0, "key");
    return entry::composite(fcinfo, flow::revoke(key, entry::required_argument(fcinfo, 1, "reason")));
}

PG_ENTRY(apikey_revoke_id) {
    entry::require_writable("apikey.revoke()");
    const core::Uuid key_id = entry::required_key_id(fcinfo);
    return entry::composite(fcinfo, flow::revoke(key_id, entry::required_argument(fcinfo, 1, "reason")));
}

PG_ENTRY(apikey_revoke_token) {
    entry::require_writable("apikey.revoke_token()");
    pg::settings::require_preloaded("apikey.revoke_token()");
    const auto token = pg::text_argument(fcinfo, 0);
    return entry::composite(fcinfo, flow::revoke_token(token, entry::required_argument(fcinfo, 1, "reason")));
}

PG_ENTRY(apikey_revoke_owner) {
    entry::require_writable("apikey.revoke_owner()");
    const auto owner = entry::required_argument(fcinfo, 0, "owner");
    return Int64GetDatum(
        static_cast<std::int64_t>(flow::revoke_owner(owner, entry::required_argument(fcinfo, 1, "reason"))));
}

PG_ENTRY(apikey_disable) {
    entry::require_writable("apikey.disable()");
    flow::disable(entry::required_argument(fcinfo, 0, "key"), pg::text_argument(fcinfo, 1));
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_disable_id) {
    entry::require_writable("apikey.disable()");
    flow::disable(entry::required_key_id(fcinfo), pg::text_argument(fcinfo, 1));
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_enable) {
    entry::require_writable("apikey.enable()");
    flow::enable(entry::required_argument(fcinfo, 0, "key"));
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_enable_id) {
    entry::require_writable("apikey.enable()");
    flow::enable(entry::required_key_id(fcinfo));
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_lock_signing_key) {
    entry::require_writable("apikey.retire_signing_key()");
    return BoolGetDatum(flow::lock_signing_key(entry::required_argument(fcinfo, 0, "kid")));
}

PG_ENTRY(apikey_rotate_signing_key) {
    entry::require_writable("apikey.rotate_signing_key()");
    pg::settings::require_preloaded("apikey.rotate_signing_key()");
    return pg::text_datum(flow::rotate_signing_key(entry::algorithm_argument(fcinfo, 0)));
}

PG_ENTRY(apikey_stage_signing_key) {
    entry::require_writable("apikey.stage_signing_key()");
    pg::settings::require_preloaded("apikey.stage_signing_key()");
    return pg::text_datum(flow::stage_signing_key(entry::algorithm_argument(fcinfo, 0)));
}

PG_ENTRY(apikey_adopt_master_key) {
    entry::require_writable("apikey.adopt_master_key()");
    pg::settings::require_preloaded("apikey.adopt_master_key()");
    return pg::text_datum(flow::adopt_master_key());
}
