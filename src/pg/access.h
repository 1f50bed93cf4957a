#pragma once

#include "pg/guard.h"

/** Who may do what, beyond EXECUTE on the function itself. */
namespace apikey::pg {

/** Has `user` the rights of one of these roles (a name[])? Names of roles that do not exist are passed over.
 */
bool is_member_of_any(Oid user, Datum role_names);

/** Access kind admin is being allowed to hand out access: EXECUTE on grant_access(). Superusers are. */
bool is_apikey_admin(Oid user);

}  // namespace apikey::pg
