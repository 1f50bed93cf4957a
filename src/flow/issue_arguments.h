#pragma once

#include "core/crypto.h"
#include "flow/issue.h"
#include "store/roles.h"

/** What issue() may be asked for. All throw Failure 22023 (or what they say) with a hint that says what would
 * be right. */
namespace apikey::flow {

/** 22023 for an anonymous role, 42501 when role.issuable_by leaves `caller` out. */
void check_may_issue(const store::RoleRow& role, Oid caller);

/** Owner, name and idempotency key. */
void check_labels(const IssueRequest& request);

/** Everything else but ttl. */
void check_arguments(const IssueRequest& request, const store::RoleRow& role);

/** When the key expires: after `ttl`, which must be positive and no longer than the role's, or the role's
 * when null. */
TimestampTz checked_expiry(TimestampTz issued_at, const Interval* ttl, const store::RoleRow& role);

/** A digest of what was asked for, so that an idempotency key with other arguments is noticed. */
core::Digest256 digest_of(const IssueRequest& request, std::string_view role);

}  // namespace apikey::flow
