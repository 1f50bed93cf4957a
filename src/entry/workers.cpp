#include "core/json_writer.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/library_version.h"
#include "pg/settings.h"
#include "shm/audit_months.h"
#include "shm/workers.h"

namespace apikey::entry {
namespace {

bool is_listed() {
    return pg::call([] {
        const char* name = get_database_name(MyDatabaseId);
        const List* names = pg::settings::raw_database_names();
        for (int i = 0; i < list_length(names); i++) {
            if (name != nullptr && strcmp(static_cast<const char*>(list_nth(names, i)), name) == 0) {
                return true;
            }
        }
        return false;
    });
}

std::string_view launcher_state(core::JsonWriter& detail) {
    const pid_t pid = shm::launcher_pid();
    if (pid == 0) {
        return "missing";
    }
    detail.add("pid", pid);
    return "ok";
}

std::string_view running_state(shm::WorkerSlot::Health health, core::JsonWriter& detail) {
    using Health = shm::WorkerSlot::Health;
    switch (health) {
        case Health::good:
            break;
        case Health::failing:
            return "failing";
        case Health::other_version:
            detail.add("reason", pg::remedy(pg::call([] { return pg::raw_installed(); })));
            return "mismatch";
    }
    return "ok";
}

std::string_view database_worker_state(shm::WorkerKind kind, core::JsonWriter& detail) {
    using State = shm::WorkerSlot::State;
    shm::DatabaseSlot* slot = shm::my_database();
    if (slot == nullptr) {
        detail.add("reason", "all places of apikey.max_databases are taken");
        return "missing";
    }
    const shm::WorkerSlot worker = shm::worker_state(*slot, kind);
    if (worker.state == State::running) {
        detail.add("pid", worker.pid).add("started_at", pg::iso_timestamp(worker.started_at));
    }
    if (worker.last_turn_at != 0) {
        detail.add("last_turn_at", pg::iso_timestamp(worker.last_turn_at));
    }
    detail.add("starts", static_cast<std::int64_t>(worker.starts))
        .add("failures", static_cast<std::int64_t>(worker.failures))
        .add("failed_steps", static_cast<std::int64_t>(worker.failed_steps));
    if (worker.step_failed_at != 0) {
        detail.add("step_failed_at", pg::iso_timestamp(worker.step_failed_at))
            .add("step_problem", std::string_view(worker.step_problem.data()));
    }
    switch (worker.state) {
        case State::running:
            return running_state(worker.health, detail);
        case State::starting:
            return "starting";
        case State::failed:
            return "failed";
        case State::absent:
            break;
    }
    return is_listed() ? "missing" : "unlisted";
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_worker_state) {
    const std::string_view worker = pg::text_view(PG_GETARG_DATUM(0));
    core::JsonWriter detail;
    std::string_view state;
    if (shm::area() == nullptr) {
        detail.add("reason", "apikey is not in shared_preload_libraries");
        state = "missing";
    } else if (pg::call([] { return RecoveryInProgress(); })) {
        detail.add("reason", "starts when the standby is promoted");
        state = "standby";
    } else if (worker == "launcher") {
        state = entry::launcher_state(detail);
    } else if (worker == "maintenance") {
        state = entry::database_worker_state(shm::WorkerKind::maintenance, detail);
    } else if (worker == "mirror") {
        state = entry::database_worker_state(shm::WorkerKind::mirror, detail);
    } else {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "unknown worker", {},
                          "Workers are launcher, maintenance and mirror.");
    }
    std::array<Datum, 2> values = {pg::text_datum(state),
                                   pg::jsonb_datum(detail.empty() ? "{}" : detail.text())};
    std::array<bool, 2> nulls{};
    return pg::make_composite(fcinfo, values, nulls, std::array{Oid(TEXTOID), Oid(JSONBOID)});
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
    return BoolGetDatum(entry::is_listed());
}
