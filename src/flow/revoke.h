#pragma once

#include "core/uuid.h"
#include "pg/guard.h"

namespace apikey::flow {

struct Revocation {
    core::Uuid key_id;
    TimestampTz revoked_at;
    bool already;
    std::uint64_t receipt;  ///< the top-level transaction's id
};

/** `key` is a key id or a token that proves itself. Failure PT404 for an unknown id, PT401 for a token that
 * does not, 22023 for neither of the two. */
Revocation revoke(std::string_view key, std::string_view reason);
Revocation revoke(const core::Uuid& key_id, std::string_view reason);

/** By proof of possession only. A denial is recorded. */
Revocation revoke_token(std::optional<std::string_view> token, std::string_view reason);

std::uint64_t revoke_owner(std::string_view owner, std::string_view reason);

/** Failure 55000 for a revoked key; nothing happens to one that is disabled already. */
void disable(std::string_view key, std::optional<std::string_view> reason);
void disable(const core::Uuid& key_id, std::optional<std::string_view> reason);

/** Failure 55000 for a revoked key; nothing happens to one that is active. */
void enable(std::string_view key);
void enable(const core::Uuid& key_id);

}  // namespace apikey::flow
