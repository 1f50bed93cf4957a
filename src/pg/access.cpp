#include "pg/access.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
}

namespace apikey::pg {

bool is_member_of_any(Oid user, Datum role_names) {
    return call([&] {
        Datum* names = nullptr;
        bool* nulls = nullptr;
        int count = 0;
        deconstruct_array(DatumGetArrayTypeP(role_names), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names,
                          &nulls, &count);
        for (int i = 0; i < count; i++) {
            if (nulls[i]) {
                continue;
            }
            const Oid role = get_role_oid(NameStr(*DatumGetName(names[i])), true);
            if (OidIsValid(role) && has_privs_of_role(user, role)) {
                return true;
            }
        }
        return false;
    });
}

bool is_apikey_admin(Oid user) {
    return call([&] {
        const Oid argument_types[] = {NAMEOID, TEXTOID};
        List* name = list_make2(makeString(pstrdup("apikey")), makeString(pstrdup("grant_access")));
        const Oid function = LookupFuncName(name, 2, argument_types, true);
        return OidIsValid(function) && may_execute(function, user);
    });
}

}  // namespace apikey::pg
