#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/**
 * Error (42501) inside a security-restricted operation, where `what` (as in "execute apikey.issue()") must
 * not happen: there ANALYZE, autovacuum, CREATE INDEX and the like run code of a table's owner, while the
 * session is somebody else's.
 */
void refuse_in_restricted_operation(const char* what);

/**
 * Whose privileges the call of this library has used: who called the outermost function that switched to the
 * owner (OwnerScope), or else the current user, which inside a SECURITY DEFINER function is its owner.
 */
Oid acting_user();

/** The same for code that itself runs as the owner of the tables (triggers in SQL): where no OwnerScope knows
 * better, the user outside every SECURITY DEFINER function. */
Oid acting_user_outside();

/**
 * Runs what follows as `owner` until the end of the scope, with search_path pinned to pg_catalog, pg_temp,
 * plans that are generic and not printed, and whatever else a session can set that would change what is done
 * here.
 *
 * The functions that write are SECURITY INVOKER and switch here instead of being SECURITY DEFINER, because a
 * definer function cannot see who called it: GetUserId() is already the owner, and the outer user may be a
 * superuser who merely runs ANALYZE over an attacker's index expression. The caller is read before the switch
 * (see caller()).
 *
 * The destructor puts user and settings back, also while an exception passes; transaction abort would do so
 * again, harmlessly.
 */
class OwnerScope {
  public:
    explicit OwnerScope(Oid owner);
    OwnerScope(const OwnerScope&) = delete;
    OwnerScope& operator=(const OwnerScope&) = delete;
    ~OwnerScope();

    /** Who called. */
    Oid caller() const noexcept { return caller_; }

  private:
    bool outermost_ = false;
    Oid caller_ = InvalidOid;
    int security_context_ = 0;
    int settings_level_ = 0;  ///< 0: all settings were like that already
    bool switched_ = false;
};

}  // namespace apikey::pg
