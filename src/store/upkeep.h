#pragma once

#include "pg/guard.h"

/** What the maintenance worker does to the tables from time to time; the SQL functions of the same names say
 * how. In a transaction, as a superuser. Each is one small step; they return how many rows it took. */
namespace apikey::store {

/** Takes the lock that DROP EXTENSION asks for before any other, so that it waits for us while it has nothing
 * that we could want; false where it is being dropped at the moment. To be held to the end of the
 * transaction. */
bool lock_against_drop();
/** Another one when the extension has been dropped and created again. InvalidOid: it is not there. */
Oid extension_id();

std::int64_t record_expired(int batch);
std::int64_t prune_revocations(int batch);
std::int64_t prune_usage(int retention_minutes, int batch);
/** Looks at the `batch` keys after the one that it looked at last, and starts again at the end. */
std::int64_t prune_key_usage(int batch);

/** The first days of the months that audit_event has no partition for and should, the latest first. */
std::vector<DateADT> missing_audit_months();
/** Leaves everything as it was when it fails. */
void make_audit_month(DateADT month);
/** Drops at most one partition. */
std::int64_t drop_audit_month(int retention_minutes);
/** Statistics of the partitioned table, where they are a day old or its partitions have `changed`. */
void analyze_audit_trail(bool changed);

}  // namespace apikey::store
