#pragma once

#include "store/snapshot.h"

namespace apikey::store {

/** A row of apikey.role. Views and arrays are good until find_role() is asked again. */
struct RoleRow {
    std::string_view name;
    const Interval* ttl;                     ///< null: anonymous, no keys are issued
    Datum permissions;                       ///< text[]
    std::optional<std::int64_t> rate_limit;  ///< requests for each window; none: no limit
    const Interval* rate_window;
    const Interval* refresh_window;
    std::string_view format;
    std::optional<Datum> issuable_by;  ///< name[]
};

/** By its normal form. */
std::optional<RoleRow> find_role(LatestSnapshot& snapshot, std::string_view name);

/** Locks the role FOR KEY SHARE until the end of the transaction, which sees it with its own snapshot: nobody
 * renames or deletes it. False when there is none of this name. */
bool lock_role(std::string_view name);

/**
 * Any spelling of a role's name to the row. Failure 22023 when there is none: the hint lists the roles that
 * exist.
 */
RoleRow require_role(LatestSnapshot& snapshot, std::string_view spelling);

}  // namespace apikey::store
