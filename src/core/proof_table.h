#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/siphash.h"
#include "core/uuid.h"

/**
 * A fixed-size, set-associative table of what tokens have proven, made to lie in memory that many processes
 * share. One slot of 64 bytes, one cache line, for each entry; 16 slots to a set; within its set an entry is
 * looked for from a place that its fingerprint gives, so that the first or second line is mostly the one.
 * Where its own set is full, an entry goes to another that its fingerprint gives too: sets never fill evenly,
 * and without that, those that are full would forget while a third of the table is still empty.
 *
 * Locking: none. A slot has a version, odd while somebody writes it. Readers copy the slot and look at the
 * version before and after (a sequence lock); a copy that was written meanwhile counts as a miss. A writer
 * claims the slot by making its version odd with one compare-and-swap, and gives up if somebody else was
 * faster: an entry is only a memo, and the next miss writes it. Between claim and release nothing can be
 * interrupted. All words are read and written through std::atomic_ref, since a plain copy beside a writer
 * would be a data race in C++.
 *
 * A slot never becomes empty again, so a search may stop at an empty one, and needs the second set only where
 * the first is full. Every search is bounded by the two.
 */
namespace apikey::core {

/** "This exact token is generation `generation` of key `key_id`, and its stored hash has the tag `hash_tag`":
 * true for ever. */
struct ProvenToken {
    Uuid key_id;
    std::int32_t generation = 0;
    std::uint64_t hash_tag = 0;
    std::uint64_t row_hint = 0;  ///< where the key's row was last seen; may be wrong at any time
};

struct alignas(64) ProofSlot {
    std::uint64_t version;  ///< 0: never written
    std::uint64_t fingerprint[2];
    std::uint64_t key_id[2];
    std::uint64_t hash_tag;
    std::uint64_t row_hint;
    std::uint32_t generation;
    std::uint32_t last_used;  ///< ticks; outside the version: a stale one only makes eviction a little worse
};
static_assert(sizeof(ProofSlot) == 64,
              "the description of apikey.cache_entries, docs/architecture.md and docs/deployment.md say 64");

enum class Inserted : std::uint8_t {
    fresh,    ///< into an empty slot: one more is in use, and stays so
    renewed,  ///< over an older entry of the same token
    evicted,  ///< the entry of the token's two sets that was used longest ago made room
    given_up  ///< somebody else is writing there
};

class ProofTable {
  public:
    static constexpr std::size_t ways = 16;

    /** How many slots a table for `entries` has: whole sets. */
    static constexpr std::size_t slots_for(std::size_t entries) { return (entries + ways - 1) / ways * ways; }

    ProofTable() = default;
    /** Over slots_for(n) zeroed slots, which the table does not own. */
    explicit ProofTable(std::span<ProofSlot> slots) : slots_(slots) {}

    /** Starts to load the line in which a search for `token` begins. */
    void prefetch(const Fingerprint& token) const;

    /** `tick`: a clock of about a second, kept as the time of last use. */
    std::optional<ProvenToken> find(const Fingerprint& token, std::uint32_t tick) const;

    Inserted insert(const Fingerprint& token, const ProvenToken& proven, std::uint32_t tick) const;

    /** Notes where the key's row is now. Does nothing when the entry is gone. */
    void update_row_hint(const Fingerprint& token, std::uint64_t row_hint) const;

    std::size_t size() const { return slots_.size(); }

  private:
    /** The token's own set, and the one it goes to where that is full. */
    using Sets = std::array<std::span<ProofSlot, ways>, 2>;
    Sets sets_of(const Fingerprint& token) const;

    ProofSlot* locate(const Fingerprint& token) const;

    struct Place {
        ProofSlot* slot;
        std::uint64_t version;  ///< of the slot, as it was when it was chosen
        Inserted result;        ///< if nobody else is faster
    };
    Place place_for(const Fingerprint& token, std::uint32_t tick) const;

    std::span<ProofSlot> slots_;
};

}  // namespace apikey::core
