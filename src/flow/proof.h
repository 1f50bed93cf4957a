#pragma once

#include "core/policy.h"
#include "core/verdict.h"
#include "store/keys.h"

/** The first half of every decision: parse → look up → prove. */
namespace apikey::flow {

struct Proof {
    /** valid: the token is the one that was issued, or at least signed (see by_signature_alone). Anything
     * else: it proves nothing, and `key` is empty. */
    core::Code code = core::Code::malformed;
    std::string why;  ///< English, for the verdict's detail; never a part of the token
    std::optional<store::KeyRow> key;
    std::int32_t generation = 0;
    core::Position position = core::Position::current;
    TimestampTz generation_expires_at = 0;
    /** An older generation's JWT, whose hash is no longer kept. Whoever stole a signing key can make one, so
     * it must not cause a change. */
    bool by_signature_alone = false;
    bool signing_key_retired = false;
    /** The stored hash that the token matched: tells after a row lock was waited for which generation the
     * token is by then. */
    std::array<std::uint8_t, 32> matched_hash{};
};

/**
 * What core::decide() asks about a key whose token has proven itself. `key` is the row as it is now and
 * `position` where the token is in it, which may be later than the proof. Without the address rule: that
 * needs a client.
 */
core::KeyFacts facts_of(const Proof& proof, const store::KeyRow& key, core::Position position);

/** Any bytes. Reads with `snapshot`; writes nothing; raises for no token. */
Proof prove(std::string_view token, Snapshot snapshot);

}  // namespace apikey::flow
