#pragma once

#include <optional>
#include <span>

#include "core/network.h"
#include "core/siphash.h"
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
/** A keyed hash of what counted_network() makes of it; without an address all share one. With `shared_key` it
 * is the same on all servers that have that key, else here only, until it ends. Needs shared memory. */
Subject address_subject(const std::optional<core::Network>& client, const core::SipHashKey* shared_key);

/**
 * One use, at `now` by the clock. Counts as VALID or RATE_LIMITED. Without a limit it is only counted. Where
 * counts are exchanged with other nodes and that has not happened for three seconds, apikey.rate_on_stale
 * decides what a limit is worth. nullopt without shared memory.
 */
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

/** What a subject of this database has used of its limit, for the exchange with other nodes. */
struct RateCell {
    Subject subject;
    core::Window window;
};
/** So many cells are read together, or none of them. */
inline constexpr std::size_t meter_ways = 8;
/** Cells that somebody has asked about since they were last read, or `all` that still matter; from `position`
 * (0 at first) on, which it advances. Fills `out`, which must have room for meter_ways at least. The end is
 * reached when there still is room for so many. */
std::size_t read_rate_cells(std::size_t& position, bool all, std::span<RateCell> out);
/** What the others have used in the window of that cell, and in the one before. Only ever raises. */
void merge_others(const RateCell& cell, std::int64_t others, std::int64_t previous_others);

/** Redis' clock less ours: windows are reckoned by Redis' clock, so that all nodes agree on them. */
void set_clock_offset(std::int64_t microseconds);
/** All counts have been exchanged, with so many nodes. */
void note_rates_synced(TimestampTz at, std::int64_t nodes);

/** As other nodes know it: the key's id, or ip- and the hash of an address. */
std::string rate_subject_text(const Subject& subject);

/** Adds counts to the key's cell again. */
void give_back(const UseCounts& uses);

}  // namespace apikey::shm
