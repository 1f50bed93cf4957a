#pragma once

#include "core/json_writer.h"
#include "core/uuid.h"
#include "core/verdict.h"
#include "pg/failure.h"
#include "pg/guard.h"

namespace apikey::flow {

/** What require(), refresh() and revoke_token() raise: SQLSTATE PT and the HTTP status, the code as message,
 * JSON as detail. */
pg::Failure denial(core::Code code, const std::optional<core::Uuid>& key_id, const core::JsonWriter& detail,
                   std::string hint = {});

/** NOT_FOUND as a management function raises it (PT404): here the id is the caller's own argument, not a
 * credential. */
pg::Failure unknown_key(std::string_view id);

}  // namespace apikey::flow
