#pragma once

#include "core/json_writer.h"
#include "core/window.h"
#include "flow/proof.h"
#include "shm/events.h"

namespace apikey::flow {

struct Query {
    shm::Operation operation = shm::Operation::validate;  ///< for the audit trail
    std::optional<std::string_view> token;
    std::optional<std::string_view> permission;  ///< one, or an expression
    std::optional<core::Network> client;
    std::int32_t cost = 1;
};

struct Verdict {
    core::Code code = core::Code::unavailable;
    /** Set once the token has proven itself; the members below mean something only then. Good until the next
     * validation. */
    const store::KeyHead* key = nullptr;
    /** The proof was a signature alone, which a stolen signing key can make: only what the token itself says
     * is shown. */
    bool by_signature_alone = false;
    /** Answered as role free, without a key. */
    bool anonymous = false;
    std::int32_t generation = 0;
    TimestampTz expires_at = 0;  ///< of this token: for a previous generation no later than its grace
    bool refresh_due = false;
    std::vector<std::string> permissions;  ///< effective ones
    /** Set when the limit was asked, that is when everything before it was in order. */
    std::optional<core::RateLimit> limit;
    core::RateDecision rate;
    core::JsonWriter detail;
    Claim claim;  ///< of a denial, for the audit trail

    bool valid() const noexcept { return code == core::Code::valid; }
};

/** How much of the verdict the caller will look at. */
enum class Extent { code_only, full };

/**
 * The pipeline: parse → look up → prove → state → times → address and environment → permission → rate limit;
 * a denial at one step consumes nothing at later ones. Where the free tier is on, what it rescues goes
 * through permission and rate limit as role free. Writes no table, takes no row lock, works in read-only
 * transactions and on standbys; counts, and records a denial, in shared memory. Raises for wrong arguments (a
 * permission expression that does not parse, a negative cost), and 55000 for a rate limit without shared
 * memory; never for a token.
 */
Verdict validate(const Query& query, Extent extent);

/** What apikey.environments lists; empty means all. Views into the setting: good until it changes. */
std::vector<std::string_view> accepted_environments();

}  // namespace apikey::flow
