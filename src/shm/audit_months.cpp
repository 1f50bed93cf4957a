#include <cstring>

#include "shm/audit_months.h"

namespace apikey::shm {

void note_month_failure(MonthStep step, std::optional<DateADT> month, int sqlstate, const char* message) {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return;
    }
    pg::call([&] {
        const TimestampTz now = GetCurrentTimestamp();
        LWLockAcquire(area()->workers_lock, LW_EXCLUSIVE);
        MonthFailure& failure = slot->month_failure(step);
        failure.since = failure.since == 0 ? now : failure.since;
        failure.failures++;
        failure.has_month = month.has_value();
        failure.month = month.value_or(0);
        failure.sqlstate = sqlstate;
        strlcpy(failure.message.data(), message, failure.message.size());
        LWLockRelease(area()->workers_lock);
    });
}

void note_month_success(MonthStep step) {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return;
    }
    pg::call([&] {
        LWLockAcquire(area()->workers_lock, LW_EXCLUSIVE);
        slot->month_failure(step).since = 0;
        LWLockRelease(area()->workers_lock);
    });
}

MonthFailure month_failure(DatabaseSlot& slot, MonthStep step) {
    return pg::call([&] {
        LWLockAcquire(area()->workers_lock, LW_SHARED);
        const MonthFailure failure = slot.month_failure(step);
        LWLockRelease(area()->workers_lock);
        return failure;
    });
}

}  // namespace apikey::shm
