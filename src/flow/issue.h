#pragma once

#include "flow/issued.h"

namespace apikey::flow {

/** Arguments of issue() as SQL gave them. */
struct IssueRequest {
    std::string_view owner;
    std::string_view role;
    std::optional<std::string_view> name;
    const Interval* ttl;
    std::optional<Datum> permissions;  ///< text[]
    std::string_view environment;
    std::optional<std::string_view> format;
    std::optional<Datum> allowed_cidrs;  ///< cidr[]
    Datum metadata;                      ///< jsonb
    std::optional<std::string_view> idempotency_key;
};

/**
 * Checks the arguments, mints, stores. Failure 22023 for arguments that make no sense, 42501 when the caller
 * may not issue the role, 25006 in a read-only transaction or on a standby, PT503 without a master key.
 */
Issued issue(const IssueRequest& request);

}  // namespace apikey::flow
