#pragma once

#include "core/token_hash.h"
#include "pg/guard.h"
#include "store/refusal.h"

namespace apikey::store {

/** What became of the attempt to read the master key file. */
enum class MasterKeyState : std::uint8_t {
    ok,
    missing,  ///< no such file
    refused,  ///< wrong size, readable by others, not a file, not readable
};

struct MasterKeyResult {
    MasterKeyState state = MasterKeyState::missing;
    std::string problem;  ///< English, with the path: for the server log and admins, not for API clients
    const core::MasterKeys* keys = nullptr;  ///< set when ok; good until the next call
};

/**
 * Reads apikey.master_key_file, or answers from the session's copy while the file is the same (device,
 * inode, size, times). Raises nothing: a problem is written to the server log, once a minute at most, and
 * returned.
 */
const MasterKeyResult& load_master_key();

/** Like load_master_key, for what happens at every request: looks at the file when nobody has for a second.
 * `now` is the clock. nullptr when there is none. */
const core::MasterKeys* recent_master_key(TimestampTz now);

/** Like load_master_key, but throws Refusal UNAVAILABLE when there is none: for functions that write. */
const core::MasterKeys& require_master_key();

/**
 * For issue and rotate: as require_master_key, but makes the file where there is none, on a primary, when
 * this database holds no keys. Created under a temporary name, synced, then linked into place, so that the
 * file is whole or absent and never replaced. Call as the owner of the tables.
 */
const core::MasterKeys& require_or_create_master_key();

/** As a function that writes raises it. `message`: English, for API clients, so without
 * paths. */
Refusal unavailable(std::string_view message);

/** The sentence, with the path: for the server log and admins. */
std::string describe_master_key_mismatch();

/** Tells the log, once a minute at most, that rows of this database were made under another master key. */
void log_master_key_mismatch();

}  // namespace apikey::store
