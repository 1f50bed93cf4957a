#pragma once

#include "core/secret.h"
#include "core/uuid.h"
#include "pg/guard.h"

namespace apikey::flow {

struct TokenFacts;

/** What issue() and refresh() hand out. The only place, with the caller's own result, where a plaintext token
 * lives. */
struct Issued {
    core::Uuid key_id;
    std::optional<core::SecretBytes> token;  ///< absent where an idempotent repeat cannot give it again
    std::int32_t generation;
    std::string owner;
    std::string role;
    TimestampTz issued_at;
    TimestampTz refresh_after;
    TimestampTz expires_at;
};

/** `facts`: what the token says, whether or not there is one. */
Issued make_issued(const TokenFacts& facts, TimestampTz refresh_after,
                   std::optional<core::SecretBytes> token);

}  // namespace apikey::flow
