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
