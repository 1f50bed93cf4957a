#pragma once

#include "shm/area.h"

/** How the maintenance worker fares with the partitions of audit_event, for those who ask. Under the lock of
 * the workers. */
namespace apikey::shm {

/** To be called by the maintenance worker: the step failed, at this month if it is about one. */
void note_month_failure(MonthStep step, std::optional<DateADT> month, int sqlstate, const char* message);

/** The same: there is nothing left to do. */
void note_month_success(MonthStep step);

/** A copy, as it is now. */
MonthFailure month_failure(DatabaseSlot& slot, MonthStep step);

}  // namespace apikey::shm
