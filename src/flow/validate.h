#pragma once

#include "core/json_writer.h"
#include "flow/proof.h"

namespace apikey::flow {

struct Query {
    std::optional<std::string_view> token;
    std::optional<std::string_view> permission;  ///< one, or an expression
    std::optional<core::Network> client;
    std::int32_t cost = 1;
};

struct Verdict {
    core::Code code = core::Code::unavailable;
    /** Set once the token has proven itself; the members below mean something only then. */
    std::optional<store::KeyRow> key;
    /** The proof was a signature alone, which a stolen signing key can make: only what the token itself says
     * is shown. */
    bool by_signature_alone = false;
    std::int32_t generation = 0;
    TimestampTz expires_at = 0;  ///< of this token: for a previous generation no later than its grace
    bool refresh_due = false;
    std::vector<std::string> permissions;  ///< effective ones
    core::JsonWriter detail;

    bool valid() const noexcept { return code == core::Code::valid; }
};

/** How much of the verdict the caller will look at. */
enum class Extent { code_only, full };

/**
 * The pipeline: parse → look up → prove → state → times → address and environment → permission. Writes no
 * table, takes no row lock, works in read-only transactions and on standbys. Raises for wrong arguments (a
 * permission expression that does not parse, a negative cost), never for a token.
 */
Verdict validate(const Query& query, Extent extent);

/** What apikey.environments lists; empty means all. Views into the setting: good until it changes. */
std::vector<std::string_view> accepted_environments();

}  // namespace apikey::flow
