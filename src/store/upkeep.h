#pragma once

#include "pg/guard.h"

/** What the maintenance worker does to the tables from time to time; the SQL functions of the same names say
 * how. In a transaction, as a superuser. Each is one small step; they return how many rows it took. */
namespace apikey::store {

/** Is the extension there, in the version of this library? */
enum class Installation { absent, other_version, complete };
Installation installation();

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

/** The first day of a month that audit_event has no partition for and should, or nullopt. The other three
 * make it, each in a transaction of its own, so that the one that reads all rows of the default partition
 * stops nobody. */
std::optional<DateADT> missing_audit_month();
void announce_audit_month(DateADT month);
void validate_audit_month(DateADT month);
void attach_audit_month(DateADT month);
/** Undoes what those have begun and not finished. */
void withdraw_audit_months();
/** Drops at most one partition. */
std::int64_t drop_audit_month(int retention_minutes);

}  // namespace apikey::store
