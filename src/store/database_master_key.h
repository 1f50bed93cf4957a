#pragma once

#include "core/token_hash.h"

/** Whether the master key is the one of this database: the file can have been replaced, or the database
 * restored on another server. */
namespace apikey::store {

/**
 * Were this database's keys made under `keys`? The signing key in use decides, where there is none the newest
 * key; a database that holds neither takes any. Call as the owner of the tables.
 */
bool is_database_master_key(const core::MasterKeys& keys);

/** Refusal UNAVAILABLE when is_database_master_key says no: a key issued now would be lost as soon as the
 * right file is back. */
void require_database_master_key(const core::MasterKeys& keys);

}  // namespace apikey::store
