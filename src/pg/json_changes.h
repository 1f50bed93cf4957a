#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/** Members that two jsonb objects have in common and that differ, as {"name": {"old": …, "new": …}}; nullopt
 * when there are none. */
std::optional<Datum> changed_members(Datum before, Datum after);

}  // namespace apikey::pg
