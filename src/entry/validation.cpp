#include "flow/denial.h"
#include "flow/validate.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/settings.h"

namespace apikey::entry {
namespace {

using flow::Verdict;

flow::Query query_from(FunctionCallInfo fcinfo, shm::Operation operation, const char* function) {
    pg::settings::require_preloaded(function);
    flow::Query query;
    query.operation = operation;
    query.token = pg::text_argument(fcinfo, 0);
    query.permission = pg::text_argument(fcinfo, 1);
    if (!PG_ARGISNULL(2)) {
        query.client = pg::network_from_datum(PG_GETARG_DATUM(2));
    }
    if (PG_ARGISNULL(3)) {
        throw pg::Failure(ERRCODE_NULL_VALUE_NOT_ALLOWED, "cost must not be NULL", {},
                          "Leave it out for 1; 0 consumes nothing.");
    }
    query.cost = PG_GETARG_INT32(3);
    return query;
}

/** Columns of apikey.verdict, in its order. */
enum : std::size_t {
    v_valid,
    v_code,
    v_http_status,
    v_message,
    v_key_id,
    v_generation,
    v_owner,
    v_role,
    v_permissions,
    v_environment,
    v_metadata,
    v_expires_at,
    v_refresh_due,
    v_rate_limit,
    v_rate_remaining,
    v_rate_reset,
    v_retry_after,
    v_detail,
    verdict_columns
};
constexpr std::array<Oid, verdict_columns> verdict_types = {
    BOOLOID, TEXTOID,  INT4OID,        TEXTOID, UUIDOID, INT4OID, TEXTOID,     TEXTOID,     TEXTARRAYOID,
    TEXTOID, JSONBOID, TIMESTAMPTZOID, BOOLOID, INT8OID, INT8OID, INTERVALOID, INTERVALOID, JSONBOID};

Datum composite(FunctionCallInfo fcinfo, const Verdict& verdict) {
    std::array<Datum, verdict_columns> values{};
    std::array<bool, verdict_columns> nulls;
    nulls.fill(true);
    const auto set = [&](std::size_t column, Datum value) {
        values[column] = value;
        nulls[column] = false;
    };
    const auto& info = core::info(verdict.code);
    set(v_valid, BoolGetDatum(verdict.valid()));
    set(v_code, pg::text_datum(info.name));
    set(v_http_status, Int32GetDatum(info.http_status));
    set(v_message, pg::text_datum(info.message));
    set(v_refresh_due, BoolGetDatum(verdict.refresh_due));
    if (verdict.key) {
        const auto& key = *verdict.key;
        set(v_key_id, pg::uuid_datum(key.key_id));
        set(v_generation, Int32GetDatum(verdict.generation));
    }
    if (verdict.key && !verdict.by_signature_alone) {
        const auto& key = *verdict.key;
        set(v_owner, pg::text_datum(key.owner));
        set(v_role, pg::text_datum(key.role));
        set(v_permissions, pg::text_array_datum(verdict.permissions));
        set(v_environment, pg::text_datum(key.environment));
        set(v_metadata, key.metadata);
        set(v_expires_at, TimestampTzGetDatum(verdict.expires_at));
    }
    if (verdict.anonymous && verdict.code != core::Code::missing) {
        set(v_role, pg::text_datum("free"));
        set(v_permissions, pg::text_array_datum(verdict.permissions));
    }
    if (verdict.limit) {
        set(v_rate_limit, Int64GetDatum(verdict.limit->limit));
        set(v_rate_remaining, Int64GetDatum(verdict.rate.remaining));
        set(v_rate_reset, pg::interval_datum(verdict.rate.reset_us));
        if (verdict.rate.retry_after_us) {
            set(v_retry_after, pg::interval_datum(*verdict.rate.retry_after_us));
        }
    }
    if (!verdict.detail.empty()) {
        set(v_detail, pg::jsonb_datum(verdict.detail.text()));
    }
    return pg::make_composite(fcinfo, values, nulls, verdict_types);
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_validate) {
    const auto query = entry::query_from(fcinfo, shm::Operation::validate, "apikey.validate()");
    return entry::composite(fcinfo, flow::validate(query, flow::Extent::full));
}

PG_ENTRY(apikey_check_token) {
    const auto query = entry::query_from(fcinfo, shm::Operation::check_token, "apikey.check_token()");
    return BoolGetDatum(flow::validate(query, flow::Extent::code_only).valid());
}

PG_ENTRY(apikey_require) {
    const auto query = entry::query_from(fcinfo, shm::Operation::require, "apikey.require()");
    const flow::Verdict verdict = flow::validate(query, flow::Extent::full);
    if (!verdict.valid()) {
        throw flow::denial(verdict.code, verdict.key ? std::optional(verdict.key->key_id) : std::nullopt,
                           verdict.detail);
    }
    return entry::composite(fcinfo, verdict);
}
