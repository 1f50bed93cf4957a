#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/**
 * Runs what follows as `owner`, with search_path pinned to pg_catalog, pg_temp, until the end of the scope.
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
    Oid caller_ = InvalidOid;
    int security_context_ = 0;
    int settings_level_ = 0;  ///< 0: it was all like that already
};

}  // namespace apikey::pg
