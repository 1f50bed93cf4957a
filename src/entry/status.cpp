#include "flow/status.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "shm/audit_months.h"

namespace apikey::entry {
namespace {

Datum composite(FunctionCallInfo fcinfo, const flow::Status& status) {
    std::array<Datum, 2> values = {pg::text_datum(status.state),
                                   pg::jsonb_datum(status.detail.empty() ? "{}" : status.detail.text())};
    std::array<bool, 2> nulls{};
    return pg::make_composite(fcinfo, values, nulls, std::array{Oid(TEXTOID), Oid(JSONBOID)});
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_worker_state) {
    return entry::composite(fcinfo, flow::worker_status(pg::text_view(PG_GETARG_DATUM(0))));
}

PG_ENTRY(apikey_mirror_state) {
    return entry::composite(fcinfo, flow::mirror_status());
}

PG_ENTRY(apikey_master_key_state) {
    const flow::MasterKeyStatus status = flow::master_key_status();
    std::array<Datum, 2> values = {pg::text_datum(status.state), pg::text_datum(status.problem)};
    std::array<bool, 2> nulls = {false, status.problem.empty()};
    return pg::make_composite(fcinfo, values, nulls, std::array{Oid(TEXTOID), Oid(TEXTOID)});
}

PG_ENTRY(apikey_audit_month_failure) {
    const std::string_view step = pg::text_view(PG_GETARG_DATUM(0));
    if (step != "make" && step != "drop") {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "unknown step", {}, "Steps are make and drop.");
    }
    std::array<Datum, 5> values{};
    std::array<bool, 5> nulls = {true, true, true, true, true};
    shm::DatabaseSlot* slot = shm::area() == nullptr ? nullptr : shm::my_database();
    if (slot != nullptr) {
        const shm::MonthFailure failure =
            shm::month_failure(*slot, step == "make" ? shm::MonthStep::make : shm::MonthStep::drop);
        values[2] = Int64GetDatum(static_cast<std::int64_t>(failure.failures));
        nulls[2] = false;
        if (failure.since != 0) {
            values[0] = TimestampTzGetDatum(failure.since);
            values[1] = DateADTGetDatum(failure.month);
            values[3] = pg::text_datum(pg::call([&] { return unpack_sql_state(failure.sqlstate); }));
            values[4] = pg::text_datum(failure.message.data());
            nulls = {false, !failure.has_month, false, false, false};
        }
    }
    constexpr std::array<Oid, 5> types = {TIMESTAMPTZOID, DATEOID, INT8OID, TEXTOID, TEXTOID};
    return pg::make_composite(fcinfo, values, nulls, types);
}

PG_ENTRY(apikey_is_maintained) {
    if (shm::area() == nullptr) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    return BoolGetDatum(flow::is_listed());
}
