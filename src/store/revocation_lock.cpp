#include "store/revocation_lock.h"

#include <functional>

#include "pg/lock_timeout.h"
#include "pg/settings.h"
#include "pg/subtransaction.h"
#include "store/keys.h"
#include "store/lock_holders.h"
#include "store/signing_keys.h"

namespace apikey::store {
namespace {

/** How one row is locked. */
struct RowLock {
    const char* table;
    HeldUp held_up;
    std::function<bool()> attempt;  ///< without waiting; false also where there is no such row
    std::function<bool()> wait;     ///< false where there is no such row
    std::function<RowLockers()> lockers;
};

/** No lock on the table is in the way of an UPDATE. */
bool table_can_be_locked(Oid table) {
    return pg::call([&] { return ConditionalLockRelationOid(table, RowExclusiveLock); });
}

bool win(const RowLock& row) {
    const Oid table = pg::call([&] { return table_oid(row.table); });
    for (;;) {
        // Nearly always nobody is there, and no subtransaction is needed to find that out.
        if (table_can_be_locked(table) && row.attempt()) {
            return true;
        }
        bool found = false;
        const bool locked = pg::succeeds_without(ERRCODE_LOCK_NOT_AVAILABLE, [&] {
            // In a library that is not preloaded a client could have set it.
            const pg::LockTimeoutScope bounded(pg::settings::preloaded() ? pg::settings::revoke_wait
                                                                         : pg::settings::default_revoke_wait);
            const RevokerMark mark(table);
            found = row.wait();
        });
        if (locked) {
            return found;
        }
        RowLockers lockers;
        const bool looked = pg::succeeds_without(ERRCODE_LOCK_NOT_AVAILABLE, [&] {
            const pg::LockTimeoutScope bounded(1);
            lockers = row.lockers();
        });
        if (!looked) {
            // The table itself is locked: those who hold it are known without the row.
            lockers.table = table;
        }
        end_lock_holders(lockers, row.held_up);
    }
}

}  // namespace

bool lock_key_for_revocation(const core::Uuid& key_id) {
    return win({"key",
                {"key " + core::to_string(key_id), key_id},
                [&] { return try_lock_key(key_id); },
                [&] { return lock_key(key_id); },
                [&] { return find_key_lockers(key_id); }});
}

bool lock_signing_key_for_retirement(std::string_view kid) {
    const bool found = win({"signing_key",
                            {"signing key \"" + std::string(kid) + "\"", std::nullopt},
                            [&] { return try_lock_signing_key_for_update(kid); },
                            [&] { return lock_signing_key_for_update(kid); },
                            [&] { return find_signing_key_lockers(kid); }});
    if (found) {
        for (const core::Uuid& key_id : unrevoked_keys_signed_by(kid)) {
            lock_key_for_revocation(key_id);
        }
    }
    return found;
}

}  // namespace apikey::store
