#include "flow/lifetime.h"
#include "pg/failure.h"

namespace apikey::flow {

TimestampTz expiry(TimestampTz issued_at, const Interval* ttl) {
    const TimestampTz at = DatumGetTimestamp(pg::call([&] {
        return DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(issued_at),
                                   IntervalPGetDatum(const_cast<Interval*>(ttl)));
    }));
    if (TIMESTAMP_NOT_FINITE(at)) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "ttl must be finite", {},
                          "For example interval '7 days'.");
    }
    return at;
}

TimestampTz refresh_after(TimestampTz issued_at, TimestampTz expires_at, const Interval* window) {
    if (window == nullptr) {
        return expires_at;
    }
    const TimestampTz opens = DatumGetTimestamp(pg::call([&] {
        return DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(expires_at),
                                   IntervalPGetDatum(const_cast<Interval*>(window)));
    }));
    return std::max(issued_at, opens);
}

}  // namespace apikey::flow
