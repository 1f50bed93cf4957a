#pragma once

#include "pg/guard.h"

/** What follows from a new key, whoever inserts it: the triggers of apikey.key that every issue() runs. The
 * other triggers are PL/pgSQL, in sql/32_key_triggers.sql. Errors (55000) where these are on another table.
 */
namespace apikey::flow {

/** Before a key is inserted, or refers to another role or signing key: both exist, and stay as long as the
 * transaction lasts. 23503 where one does not. */
void check_references(const TriggerData& trigger);

/** After a key was inserted: the audit event. */
void record_issue(const TriggerData& trigger);

}  // namespace apikey::flow
