#pragma once

#include "core/policy.h"
#include "core/siphash.h"
#include "core/verdict.h"
#include "store/keys.h"

/** The first half of every decision: parse → look up → prove. */
namespace apikey::flow {

struct Proof {
    /** valid: the token is the one that was issued, or at least signed (see by_signature_alone). Anything
     * else: it proves nothing, and `key` is empty. */
    core::Code code = core::Code::malformed;
    std::string why;                      ///< English, for the verdict's detail; never a part of the token
    const store::KeyHead* key = nullptr;  ///< good until prove() is called again
    /** What a token that proves nothing claims to be, for the audit trail: anybody can write that. */
    std::optional<core::Uuid> claimed_key_id;
    std::int32_t generation = 0;  ///< claimed, or proven
    core::Position position = core::Position::current;
    TimestampTz generation_expires_at = 0;
    /** An older generation's JWT, whose hash is no longer kept. Whoever stole a signing key can make one, so
     * it must not cause a change. */
    bool by_signature_alone = false;
    /** The stored hash that the token matched: tells after a row lock was waited for which generation the
     * token is by then. */
    std::array<std::uint8_t, 32> matched_hash{};
    unsigned waits = 0;  ///< of the snapshot (RowSnapshot::waits) when `key` was read
};

/** Which key a token names, whether or not it has proven that: for the audit trail. */
struct Claim {
    std::optional<core::Uuid> key_id;
    std::int32_t generation = 0;
};

Claim claim_of(const Proof& proof);

/**
 * What core::decide() asks about a key whose token has proven itself. `key` is the row as it is now and
 * `position` where the token is in it, which may be later than the proof. Without the address rule: that
 * needs a client.
 */
core::KeyFacts facts_of(const Proof& proof, const store::KeyHead& key, core::Position position);

/** A token as it was presented: any bytes. Made before the snapshot is taken, so that what the proof cache
 * knows of it is on its way from memory meanwhile. Views the text. `now` is the clock. */
class PresentedToken {
  public:
    PresentedToken(std::string_view presented, TimestampTz now);

    std::string_view text() const { return text_; }
    /** None without shared memory or master key, or for what is too long to be a token: then nothing is
     * remembered of it. */
    const std::optional<core::Fingerprint>& fingerprint() const { return fingerprint_; }
    TimestampTz presented_at() const { return presented_at_; }

  private:
    std::string_view text_;
    TimestampTz presented_at_;
    std::optional<core::Fingerprint> fingerprint_;
};

/**
 * Reads with `snapshot`; writes no table; raises for no token. A token that the proof cache knows
 * is proven by the key's row alone, if that still holds the hash that the token matched; any other is
 * parsed, and its signature and hash checked, and remembered.
 */
Proof prove(const PresentedToken& token, store::LatestSnapshot& snapshot);

/**
 * Reads the key of a proven token again, after a lock was waited for with `snapshot`: it may have been
 * revoked or refreshed meanwhile. A key that is gone makes the proof NOT_FOUND.
 */
void read_again(Proof& proof, store::LatestSnapshot& snapshot);

/** Where the proven token is in `key`, which is read later than the proof. */
core::Position position_in(const Proof& proof, const store::KeyHead& key);

}  // namespace apikey::flow
