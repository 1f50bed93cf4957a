#include "core/json_writer.h"
#include "core/mirror_layout.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/owner_scope.h"
#include "pg/settings.h"
#include "shm/mirror.h"
#include "shm/workers.h"

namespace apikey::entry {
namespace {

/** 55000 where there is nothing that a mirror could be. */
void require_mirror(const char* function) {
    if (pg::call([] { return RecoveryInProgress(); })) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          std::string(function) + " cannot be used on a standby", {},
                          "Ask the primary: its worker fills Redis.");
    }
    shm::require_area(function);
    if (*pg::settings::redis_url == '\0') {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          std::string(function) + " needs a mirror, and there is none", {},
                          "Set apikey.redis_url, and list the database in apikey.databases.");
    }
    if (shm::my_database() == nullptr) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          "this database has no place in shared memory", {},
                          "Increase apikey.max_databases.");
    }
}

std::int64_t waiting_time_us(const Interval* interval) {
    constexpr std::int64_t most_us = USECS_PER_DAY;
    __extension__ using Wide = __int128;  // an infinite interval, or a long one
    const Wide time =
        interval->time + Wide(std::int64_t(interval->month) * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
    if (time < 0) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "timeout must not be negative", {},
                          "For example interval '5 seconds'; 0 looks and does not wait.");
    }
    return static_cast<std::int64_t>(std::min<Wide>(time, most_us));
}

bool is_own_transaction(std::uint64_t xid) {
    return xid == U64FromFullTransactionId(GetTopFullTransactionIdIfAny());
}

std::string text_of(std::span<const char> text) {
    return {text.data(), strnlen(text.data(), text.size())};
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_wake_mirror) {
    shm::wake_mirror_at_commit();
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_redis_bucket) {
    const core::Uuid key_id = pg::uuid_from_datum(PG_GETARG_DATUM(0));
    return Int32GetDatum(static_cast<std::int32_t>(core::mirror_bucket(core::to_string(key_id))));
}

PG_ENTRY(apikey_wait_mirrored) {
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
        fcinfo->isnull = true;
        return Datum(0);
    }
    entry::require_mirror("apikey.wait_mirrored()");
    const std::uint64_t receipt = DatumGetUInt64(PG_GETARG_DATUM(0));
    const std::int64_t timeout = entry::waiting_time_us(PG_GETARG_INTERVAL_P(1));
    // It has not been committed yet, and we keep it from being so.
    if (entry::is_own_transaction(receipt)) {
        return BoolGetDatum(false);
    }
    return BoolGetDatum(shm::wait_until_mirrored(receipt, timeout));
}

PG_ENTRY(apikey_mirror_resync) {
    pg::refuse_in_restricted_operation("execute apikey.mirror_resync()");
    entry::require_mirror("apikey.mirror_resync()");
    shm::request_resync();
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_mirror_takeover) {
    pg::refuse_in_restricted_operation("execute apikey.mirror_takeover()");
    entry::require_mirror("apikey.mirror_takeover()");
    shm::request_takeover();
    PG_RETURN_VOID();
}

PG_ENTRY(apikey_mirror_state) {
    core::JsonWriter detail;
    std::string_view state = "off";
    const bool standby = pg::call([] { return RecoveryInProgress(); });
    const auto mirror = standby ? std::nullopt : shm::mirror_state();
    if (!pg::settings::preloaded()) {
        detail.add("reason", "apikey is not in shared_preload_libraries");
    } else if (standby) {
        state = "standby";
    } else if (*pg::settings::redis_url == '\0') {
        detail.add("reason", "apikey.redis_url is not set");
    } else if (mirror) {
        const auto worker = shm::worker_state(*shm::my_database(), shm::WorkerKind::mirror);
        const TimestampTz now = GetCurrentTimestamp();
        state = shm::name_of(shm::phase_at(*mirror, worker, now));
        detail.add("namespace", shm::mirror_namespace());
        if (const auto problem = entry::text_of(mirror->problem); !problem.empty()) {
            detail.add("problem", problem);
        }
        if (const auto server = entry::text_of(mirror->server); !server.empty()) {
            detail.add("server", server);
        }
        if (mirror->since != 0) {
            detail.add("since", pg::iso_timestamp(mirror->since));
        }
        if (mirror->watermark_at != 0) {
            detail.add("watermark_at", pg::iso_timestamp(mirror->watermark_at))
                .add("watermark_age_ms", (now - mirror->watermark_at) / 1000);
        }
        detail.add("members", static_cast<std::int64_t>(mirror->members))
            .add("connects", static_cast<std::int64_t>(mirror->connects))
            .add("connection_failures", static_cast<std::int64_t>(mirror->connection_failures));
        if (mirror->restorations != 0) {
            detail.add("restorations", static_cast<std::int64_t>(mirror->restorations));
        }
        for (std::size_t i = 0; i < mirror->resyncs.size(); i++) {
            if (mirror->resyncs[i] != 0) {
                const std::string name =
                    "resyncs_" + std::string(shm::name_of(static_cast<shm::ResyncCause>(i)));
                detail.add(name, static_cast<std::int64_t>(mirror->resyncs[i]));
            }
        }
    }
    std::array<Datum, 2> values = {pg::text_datum(state),
                                   pg::jsonb_datum(detail.empty() ? "{}" : detail.text())};
    std::array<bool, 2> nulls{};
    return pg::make_composite(fcinfo, values, nulls, std::array{Oid(TEXTOID), Oid(JSONBOID)});
}
