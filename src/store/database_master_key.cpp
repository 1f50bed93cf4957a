#include "store/database_master_key.h"
#include "store/keys.h"
#include "store/master_key.h"
#include "store/signing_keys.h"
#include "store/snapshot.h"

namespace apikey::store {

bool is_database_master_key(const core::MasterKeys& keys) {
    if (const auto answer = active_key_is_under(keys)) {
        return *answer;
    }
    pg::call([] { CommandCounterIncrement(); });
    LatestSnapshot snapshot;
    const auto newest = newest_fingerprint(snapshot);
    return !newest || std::ranges::equal(*newest, keys.fingerprint);
}

void require_database_master_key(const core::MasterKeys& keys) {
    if (!is_database_master_key(keys)) {
        log_master_key_mismatch();
        throw unavailable("The keys of this database were made under another master key.");
    }
}

}  // namespace apikey::store
