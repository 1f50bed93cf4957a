#include "pg/owner_scope.h"

namespace apikey::pg {

OwnerScope::OwnerScope(Oid owner) {
    call([&] {
        GetUserIdAndSecContext(&caller_, &security_context_);
        settings_level_ = NewGUCNestLevel();
        (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_SAVE, true, 0, false);
        SetUserIdAndSecContext(owner, security_context_ | SECURITY_LOCAL_USERID_CHANGE);
    });
}

OwnerScope::~OwnerScope() {
    SetUserIdAndSecContext(caller_, security_context_);
    try {
        call([&] { AtEOXact_GUC(false, settings_level_); });
    } catch (...) {
        // Putting a setting back runs assign hooks only, which do not fail; and if one did, abort puts the
        // rest back. Nothing may leave a destructor.
    }
}

}  // namespace apikey::pg
