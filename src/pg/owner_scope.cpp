#include "pg/owner_scope.h"

#include <cstring>

namespace apikey::pg {

namespace {
constexpr const char* pinned_path = "pg_catalog, pg_temp";

/** Who called the outermost scope; InvalidOid outside all of them. */
Oid outermost_caller = InvalidOid;
}  // namespace

void refuse_in_restricted_operation(const char* what) {
    call([&] {
        if (InSecurityRestrictedOperation()) {
            ereport(ERROR,
                    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                     errmsg("cannot %s within security-restricted operation", what),
                     errdetail("The code runs with the privileges of a table's owner in the session of "
                               "another user, for example in ANALYZE or CREATE INDEX.")));
        }
    });
}

Oid acting_user() {
    return OidIsValid(outermost_caller) ? outermost_caller : GetUserId();
}

Oid acting_user_outside() {
    return OidIsValid(outermost_caller) ? outermost_caller : GetOuterUserId();
}

OwnerScope::OwnerScope(Oid owner) {
    call([&] {
        GetUserIdAndSecContext(&caller_, &security_context_);
        if (!OidIsValid(outermost_caller)) {
            // The owner calls from code of this extension, or the function is SECURITY DEFINER for the same
            // owner: neither is who acts.
            outermost_caller = caller_ == owner ? GetOuterUserId() : caller_;
            outermost_ = true;
        }
        // In another scope of this kind, or in a function that is SECURITY DEFINER for the same owner.
        if (caller_ == owner && (security_context_ & SECURITY_LOCAL_USERID_CHANGE) != 0 &&
            strcmp(namespace_search_path, pinned_path) == 0) {
            return;
        }
        settings_level_ = NewGUCNestLevel();
        (void)set_config_option("search_path", pinned_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                                0, false);
        SetUserIdAndSecContext(owner, security_context_ | SECURITY_LOCAL_USERID_CHANGE);
    });
}

OwnerScope::~OwnerScope() {
    if (outermost_) {
        outermost_caller = InvalidOid;
    }
    if (settings_level_ == 0) {
        return;
    }
    SetUserIdAndSecContext(caller_, security_context_);
    try {
        call([&] { AtEOXact_GUC(false, settings_level_); });
    } catch (...) {
        // Putting a setting back runs assign hooks only, which do not fail; and if one did, abort puts the
        // rest back. Nothing may leave a destructor.
    }
}

}  // namespace apikey::pg
