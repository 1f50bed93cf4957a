#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "core/latency.h"
#include "core/verdict.h"

/**
 * Counters since the server started, kept apart for each database. Every backend has a block of its own in
 * shared memory, which only it writes, so that counting costs an addition and no contention; whoever reads
 * adds the blocks up. When a backend ends, its block is added to its database's. (The reader's sum is
 * therefore not of one instant, but never goes back.)
 */
namespace apikey::shm {

/** Words of 64 bits only. */
struct Counters {
    using ByCode = std::array<std::uint64_t, core::code_count>;

    ByCode key_validations;        ///< of validate, check_token and require, by the code answered
    ByCode anonymous_validations;  ///< those without a key: no token, or the free tier's
    std::uint64_t cache_hits;
    std::uint64_t cache_misses;
    std::uint64_t cache_evictions;
    std::uint64_t jwt_decode_failures;
    std::uint64_t rate_evictions;      ///< a rate window that still mattered made room
    std::uint64_t events_dropped;      ///< because the event ring was full
    std::uint64_t uses_dropped;        ///< the same for counts of uses
    std::uint64_t denials_summarized;  ///< beyond the rows of a second, in a row of their code and operation
    std::uint64_t issued;              ///< committed, as in at_commit.h
    std::uint64_t refreshed;           ///< the same; without those that got the same successor again
    ByCode refreshes_refused;          ///< by the code raised, whatever becomes of the transaction
    std::array<std::uint64_t, core::latency_buckets> latency;  ///< how many validations fell into each bucket
    std::uint64_t latency_sum_ns;
};
static_assert(std::is_trivially_copyable_v<Counters> && sizeof(Counters) % sizeof(std::uint64_t) == 0);

/** This process's block; a private one that nobody reads where there is no shared memory, or no room for one
 * more database. */
Counters& my_counters();

/** For a word of my_counters(): only this process writes it, others read it. */
inline void count(std::uint64_t& word, std::uint64_t more = 1) {
    const std::atomic_ref<std::uint64_t> shared(word);
    shared.store(shared.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

/** The sums for the session's database. Takes the lock of the databases, shared. */
Counters counted_in_this_database();

}  // namespace apikey::shm
