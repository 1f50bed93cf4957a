#pragma once

#include <optional>
#include <span>

#include "core/network.h"
#include "core/uuid.h"
#include "core/verdict.h"
#include "pg/guard.h"

namespace apikey::store {

struct CodeCount {
    core::Uuid key_id;
    core::Code code;
    std::int64_t count;
};

struct LastUse {
    core::Uuid key_id;
    TimestampTz at;
    std::optional<core::Network> client;
};

/** Adds to apikey.usage, in the hour that it is now. A key and code may occur more than once. In a
 * transaction, as the owner of the tables or a superuser. */
void add_usage(std::span<const CodeCount> counts);

/** Brings apikey.key_usage up to date. A key may occur more than once; the latest use stays. */
void set_last_uses(std::span<const LastUse> uses);

}  // namespace apikey::store
