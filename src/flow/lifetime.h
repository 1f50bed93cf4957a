#pragma once

#include "pg/guard.h"

/**
 * When keys begin and end. Reckoned in UTC, where a day is 24 hours and a month a calendar month: the
 * session's time zone, with its 23-hour days, has no say in how long a key lives.
 */
namespace apikey::flow {

/** issued_at + ttl. Failure 22023 when that is not finite. */
TimestampTz expiry(TimestampTz issued_at, const Interval* ttl);

/** From when on a key can be refreshed: max(issued_at, expires_at - window); never when there is no window.
 */
TimestampTz refresh_after(TimestampTz issued_at, TimestampTz expires_at, const Interval* window);

}  // namespace apikey::flow
