#pragma once

#include <optional>
#include <span>

#include "core/network.h"
#include "core/window.h"
#include "shm/events.h"

/**
 * What each key, and each anonymous client address, has used: the sliding window of its rate limit, and for
 * keys how often they were used since the maintenance worker last wrote that down. One table of fixed size
 * (apikey.rate_entries) for all databases, in sets of 8 cells; a request is one short critical section under
 * the spinlock of its set. Nothing inside one calls anything that could raise or wait.
 *
 * When a set is full, the cell goes whose window remembers the least, so that a flood of new addresses evicts
 * itself and not the one that is at its limit. Its use counts, if any, go to the event ring.
 */
namespace apikey::shm {

struct Subject {
    enum class Kind : std::uint32_t { none, key, address };
    Kind kind = Kind::none;
    std::array<std::uint64_t, 2> id{};

    bool operator==(const Subject&) const = default;
};

Subject key_subject(const core::Uuid& key_id);
/** A keyed hash of the address: IPv6 counts by /64; without an address all share one. Needs shared memory. */
Subject address_subject(const std::optional<core::Network>& client);

/** One use, at `now` by the clock. Counts as VALID or RATE_LIMITED. Without a limit it is only counted.
 * nullopt without shared memory. */
std::optional<core::RateDecision> use(const Subject& subject, const std::optional<core::RateLimit>& limit,
                                      TimestampTz now, std::int64_t cost,
                                      const std::optional<core::Network>& client);

/** Counts a denial of another kind for a key. */
void count_denial(const core::Uuid& key_id, core::Code code, TimestampTz now);

/** Starts to load what use() will look at first. */
void prefetch(const Subject& subject);

/**
 * For the maintenance worker: takes the use counts of this database's keys out of the table, from `position`
 * (0 at first) on, which it advances. Fills `out`, which must have room for 8 at least, and returns how many
 * it took. The end of the table is reached when that is none. What is not written in the end must be given
 * back.
 */
std::size_t take_uses(std::size_t& position, std::span<UseCounts> out);

/** Adds counts to the key's cell again. */
void give_back(const UseCounts& uses);

}  // namespace apikey::shm
