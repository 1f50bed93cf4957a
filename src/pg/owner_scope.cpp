#include "pg/owner_scope.h"

#include <cstring>

extern "C" {
#include "parser/parse_expr.h"
#include "utils/plancache.h"
}

namespace apikey::pg {

namespace {

/** A setting of the caller's session that reaches into what runs as the owner. */
struct PinnedSetting {
    const char* name;
    const char* value;
    bool (*holds)();
};

// Asked for by their variables: nearly always all but the first hold already, and putting one costs more than
// the question. docs/security-model.md says what each would do, and why others are left as they are.
constexpr std::array<PinnedSetting, 7> pinned_settings = {{
    {"search_path", "pg_catalog, pg_temp",
     [] { return strcmp(namespace_search_path, "pg_catalog, pg_temp") == 0; }},
    {"plan_cache_mode", "force_generic_plan",
     [] { return plan_cache_mode == PLAN_CACHE_MODE_FORCE_GENERIC_PLAN; }},
    {"debug_print_parse", "off", [] { return !Debug_print_parse; }},
    {"debug_print_rewritten", "off", [] { return !Debug_print_rewritten; }},
    {"debug_print_plan", "off", [] { return !Debug_print_plan; }},
    {"session_replication_role", "origin",
     [] { return SessionReplicationRole == SESSION_REPLICATION_ROLE_ORIGIN; }},
    {"transform_null_equals", "off", [] { return !Transform_null_equals; }},
}};

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
        for (const PinnedSetting& setting : pinned_settings) {
            if (!setting.holds()) {
                settings_level_ = settings_level_ == 0 ? NewGUCNestLevel() : settings_level_;
                (void)set_config_option(setting.name, setting.value, PGC_SUSET, PGC_S_SESSION,
                                        GUC_ACTION_SAVE, true, 0, false);
            }
        }
        // Not in another scope of this kind, or in a function that is SECURITY DEFINER for the same owner.
        if (caller_ != owner || (security_context_ & SECURITY_LOCAL_USERID_CHANGE) == 0) {
            switched_ = true;
            SetUserIdAndSecContext(owner, security_context_ | SECURITY_LOCAL_USERID_CHANGE);
        }
        if (!OidIsValid(outermost_caller)) {
            // The owner calls from code of this extension, or the function is SECURITY DEFINER for the same
            // owner: neither is who acts.
            outermost_caller = caller_ == owner ? GetOuterUserId() : caller_;
            outermost_ = true;
        }
    });
}

OwnerScope::~OwnerScope() {
    if (outermost_) {
        outermost_caller = InvalidOid;
    }
    if (switched_) {
        SetUserIdAndSecContext(caller_, security_context_);
    }
    if (settings_level_ == 0) {
        return;
    }
    try {
        call([&] { AtEOXact_GUC(false, settings_level_); });
    } catch (...) {
        // Putting a setting back runs assign hooks only, which do not fail; and if one did, abort puts the
        // rest back. Nothing may leave a destructor.
    }
}

}  // namespace apikey::pg
