#pragma once

#include <optional>
#include <span>

#include "core/network.h"
#include "core/uuid.h"
#include "core/verdict.h"
#include "pg/guard.h"

namespace apikey::store {

/** A denial, or several of the same kind. */
struct Denial {
    core::Code code;
    std::string_view operation;        ///< the function that refused
    std::optional<core::Uuid> key_id;  ///< what the token names; the code says whether it has proven that
    std::optional<std::int32_t> generation;
    Oid session_user;
    Oid outer_user;
    std::optional<core::Network> client;  ///< of the API, as the caller named it
    TimestampTz first_at;
    TimestampTz last_at;
    std::int64_t count;
    /** Of more kinds than there are rows for: key and client are not known. */
    bool summary;
};

/** Appends them to apikey.audit_event as 'denied'. In a transaction, as the owner of the tables or a
 * superuser. */
void insert_denials(std::span<const Denial> denials);

}  // namespace apikey::store
