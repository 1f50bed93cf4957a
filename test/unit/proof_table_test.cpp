#include "core/proof_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

namespace apikey::core {
namespace {

using std::chrono::steady_clock;

static_assert(std::is_trivially_copyable_v<ProofSlot> && alignof(ProofSlot) == 64);
static_assert(ProofTable::slots_for(0) == 0 && ProofTable::slots_for(1) == 16 &&
              ProofTable::slots_for(16) == 16 && ProofTable::slots_for(17) == 32);

constexpr std::size_t ways = ProofTable::ways;

std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

Fingerprint fingerprint(std::uint64_t number) {
    return {mix(2 * number), mix(2 * number + 1)};
}

/** What a token has proven follows from its fingerprint here, so that a mix-up shows. */
ProvenToken proven_by(const Fingerprint& token) {
    ProvenToken proven;
    const std::uint64_t id[2] = {mix(token.low ^ token.high), mix(token.low + token.high)};
    std::memcpy(proven.key_id.bytes.data(), id, sizeof(id));
    proven.generation = static_cast<std::int32_t>(mix(token.high));
    proven.hash_tag = mix(token.low);
    proven.row_hint = mix(token.low - token.high);
    return proven;
}

bool same(const ProvenToken& a, const ProvenToken& b, bool with_hint = true) {
    return a.key_id == b.key_id && a.generation == b.generation && a.hash_tag == b.hash_tag &&
           (!with_hint || a.row_hint == b.row_hint);
}

struct Owned {
    explicit Owned(std::size_t entries)
        : slots(ProofTable::slots_for(entries), ProofSlot{}), table(std::span(slots)) {}

    Inserted insert(const Fingerprint& token, std::uint32_t tick) {
        return table.insert(token, proven_by(token), tick);
    }
    bool holds(const Fingerprint& token, std::uint32_t tick) const {
        const auto found = table.find(token, tick);
        EXPECT_TRUE(!found || same(*found, proven_by(token)));
        return found.has_value();
    }
    std::size_t used() {
        return static_cast<std::size_t>(std::count_if(slots.begin(), slots.end(), [](ProofSlot& slot) {
            return std::atomic_ref(slot.version).load(std::memory_order_relaxed) != 0;
        }));
    }
    /** Without being noted as a use. */
    std::size_t count(const std::vector<Fingerprint>& tokens) const {
        std::size_t held = 0;
        for (const Fingerprint& token : tokens) {
            for (const ProofSlot& slot : slots) {
                held += slot.fingerprint[0] == token.low && slot.fingerprint[1] == token.high ? 1 : 0;
            }
        }
        return held;
    }

    std::vector<ProofSlot> slots;
    ProofTable table;
};

TEST(ProofTable, NoMemoryHoldsNothing) {
    const ProofTable table;
    const Fingerprint token = fingerprint(1);
    table.prefetch(token);
    EXPECT_EQ(table.insert(token, proven_by(token), 1), Inserted::given_up);
    EXPECT_EQ(table.find(token, 1), std::nullopt);
    table.update_row_hint(token, 5);
    EXPECT_EQ(table.size(), 0u);
}

TEST(ProofTable, FindsWhatWasInsertedAndNothingElse) {
    Owned owned(64);
    EXPECT_EQ(owned.table.size(), 64u);
    const Fingerprint token = fingerprint(1);
    EXPECT_FALSE(owned.holds(token, 1));
    EXPECT_EQ(owned.insert(token, 1), Inserted::fresh);
    owned.table.prefetch(token);
    EXPECT_TRUE(owned.holds(token, 1));
    EXPECT_EQ(owned.used(), 1u);
    for (int bit = 0; bit < 64; ++bit) {
        EXPECT_FALSE(owned.holds({token.low ^ (1ULL << bit), token.high}, 1)) << bit;
        EXPECT_FALSE(owned.holds({token.low, token.high ^ (1ULL << bit)}, 1)) << bit;
    }
}

// Zeroed memory looks like the fingerprint 0, 0: it has proven nothing until that very token is written.
TEST(ProofTable, AnEmptySlotProvesNothing) {
    Owned owned(16);
    const Fingerprint zero;
    EXPECT_EQ(owned.table.find(zero, 1), std::nullopt);
    EXPECT_EQ(owned.insert(zero, 1), Inserted::fresh);
    EXPECT_TRUE(owned.holds(zero, 1));
}

TEST(ProofTable, EveryFieldComesBack) {
    Owned owned(16);
    ProvenToken proven;
    for (std::size_t i = 0; i < proven.key_id.bytes.size(); ++i) {
        proven.key_id.bytes[i] = static_cast<std::uint8_t>(0xf0 + i);
    }
    for (const std::int32_t generation : {1, 2147483647, -1}) {
        proven.generation = generation;
        proven.hash_tag = 0x8000000000000001U + static_cast<std::uint32_t>(generation);
        proven.row_hint = 0xffffffffffff0000U + static_cast<std::uint32_t>(generation);
        EXPECT_EQ(owned.table.insert(fingerprint(3), proven, 1),
                  generation == 1 ? Inserted::fresh : Inserted::renewed);
        const auto found = owned.table.find(fingerprint(3), 1);
        ASSERT_TRUE(found);
        EXPECT_TRUE(same(*found, proven));
    }
}

TEST(ProofTable, TheSameTokenIsRewrittenInPlace) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), 1), Inserted::fresh);
        ASSERT_EQ(owned.used(), i + 1);
    }
    for (std::uint64_t i = 0; i < ways; ++i) {
        ProvenToken changed = proven_by(fingerprint(i));
        changed.generation = 77;
        EXPECT_EQ(owned.table.insert(fingerprint(i), changed, 2), Inserted::renewed);
        EXPECT_TRUE(same(*owned.table.find(fingerprint(i), 2), changed));
        EXPECT_EQ(owned.insert(fingerprint(i), 2), Inserted::renewed);
    }
    for (std::uint64_t i = 0; i < ways; ++i) {
        EXPECT_TRUE(owned.holds(fingerprint(i), 2)) << i;
        EXPECT_EQ(owned.count({fingerprint(i)}), 1u);
    }
}

TEST(ProofTable, AFullSetIsSearchedToItsEndAndNoFurther) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), 1), Inserted::fresh);
    }
    EXPECT_EQ(owned.used(), ways);
    for (std::uint64_t i = 0; i < ways; ++i) {
        EXPECT_TRUE(owned.holds(fingerprint(i), 1)) << i;
    }
    for (std::uint64_t i = ways; i < 1000; ++i) {
        ASSERT_FALSE(owned.holds(fingerprint(i), 1)) << i;
        owned.table.update_row_hint(fingerprint(i), 1);
    }
    for (std::uint64_t i = 0; i < ways; ++i) {
        EXPECT_TRUE(owned.holds(fingerprint(i), 1)) << i;
    }
}

TEST(ProofTable, TheEntryThatWasUsedLongestAgoGoes) {
    for (std::uint64_t oldest = 0; oldest < ways; ++oldest) {
        for (const std::uint64_t newcomer : {100u, 101u, 102u}) {
            Owned owned(16);
            for (std::uint64_t i = 0; i < ways; ++i) {
                ASSERT_EQ(owned.insert(fingerprint(i), i == oldest ? 10 : 11), Inserted::fresh);
            }
            EXPECT_EQ(owned.insert(fingerprint(newcomer), 12), Inserted::evicted);
            for (std::uint64_t i = 0; i < ways; ++i) {
                EXPECT_EQ(owned.holds(fingerprint(i), 12), i != oldest) << i;
            }
            EXPECT_TRUE(owned.holds(fingerprint(newcomer), 12));
            EXPECT_EQ(owned.used(), ways);
        }
    }
}

TEST(ProofTable, UseKeepsAnEntry) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), static_cast<std::uint32_t>(100 + i)), Inserted::fresh);
    }
    // The half that came first is used again, so the other half goes, in its order.
    for (std::uint64_t i = 0; i < ways / 2; ++i) {
        ASSERT_TRUE(owned.holds(fingerprint(i), 200));
    }
    for (std::uint64_t i = ways / 2; i < ways; ++i) {
        EXPECT_EQ(owned.insert(fingerprint(1000 + i), 201), Inserted::evicted);
        EXPECT_EQ(owned.count({fingerprint(i)}), 0u) << i;
    }
    for (std::uint64_t i = 0; i < ways / 2; ++i) {
        EXPECT_TRUE(owned.holds(fingerprint(i), 201)) << i;
    }
}

// All of one age, which is what a burst within a second looks like: newcomers do not push each other out.
TEST(ProofTable, AmongEquallyOldTheTokensOwnPlaceIsTaken) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), 5), Inserted::fresh);
    }
    for (std::uint64_t place = 0; place < ways; ++place) {
        const Fingerprint token{mix(place), 0x1230 + place};
        ASSERT_EQ(owned.insert(token, 5), Inserted::evicted);
        EXPECT_EQ(owned.slots[place].fingerprint[1], token.high);
    }
}

// The search begins at the token's own place, so that the line that prefetch() loads is the one.
TEST(ProofTable, AnEntryGoesToItsOwnPlaceFirst) {
    for (std::uint64_t place = 0; place < ways; ++place) {
        Owned owned(48);
        const Fingerprint first{std::uint64_t(-1), 0x450 + place};
        const Fingerprint second{std::uint64_t(-1), 0x780 + place};
        ASSERT_EQ(owned.insert(first, 5), Inserted::fresh);
        ASSERT_EQ(owned.insert(second, 5), Inserted::fresh);
        EXPECT_EQ(owned.slots[32 + place].fingerprint[1], first.high);
        EXPECT_EQ(owned.slots[32 + (place + 1) % ways].fingerprint[1], second.high);
        EXPECT_TRUE(owned.holds(first, 5));
        EXPECT_TRUE(owned.holds(second, 5));
    }
}

// 3 is no power of two: also then each set gets its third, and the words at both ends are in range.
TEST(ProofTable, SetsShareTheTokensEvenly) {
    Owned owned(48);
    EXPECT_EQ(owned.insert({0, 0}, 1), Inserted::fresh);
    EXPECT_EQ(owned.slots[0].version, 2u);
    EXPECT_EQ(owned.insert({std::uint64_t(-1), 15}, 1), Inserted::fresh);
    EXPECT_EQ(owned.slots[47].version, 2u);
    for (std::uint64_t i = 0; i < 3000; ++i) {
        owned.insert(fingerprint(i), 1);
    }
    for (std::size_t set = 0; set < 3; ++set) {
        std::uint64_t writes = 0;
        for (std::size_t way = 0; way < ways; ++way) {
            writes += owned.slots[set * ways + way].version / 2;
        }
        EXPECT_NEAR(static_cast<double>(writes), 1000, 120) << set;
    }
}

TEST(ProofTable, TheTickMayWrapRound) {
    for (std::uint64_t oldest = 0; oldest < ways; ++oldest) {
        Owned owned(16);
        for (std::uint64_t i = 0; i < ways; ++i) {
            ASSERT_EQ(owned.insert(fingerprint(i), i == oldest ? 0xfffffff0U : 3), Inserted::fresh);
        }
        EXPECT_EQ(owned.insert(fingerprint(100), 4), Inserted::evicted);
        EXPECT_EQ(owned.count({fingerprint(oldest)}), 0u);
    }
}

// Somebody whose clock is a tick ahead has just used it: that is the newest entry, not one of 136 years ago.
TEST(ProofTable, ATickAheadOfOursIsNoGreatAge) {
    for (std::uint64_t ahead = 0; ahead < ways; ++ahead) {
        Owned owned(16);
        for (std::uint64_t i = 0; i < ways; ++i) {
            ASSERT_EQ(owned.insert(fingerprint(i), i == ahead ? 11 : 9), Inserted::fresh);
        }
        EXPECT_EQ(owned.insert(fingerprint(100), 10), Inserted::evicted);
        EXPECT_EQ(owned.count({fingerprint(ahead)}), 1u);
    }
}

TEST(ProofTable, RowHint) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), 1), Inserted::fresh);
    }
    for (std::uint64_t i = 0; i < ways; ++i) {
        owned.table.update_row_hint(fingerprint(i), 5000 + i);
    }
    for (std::uint64_t i = 0; i < ways; ++i) {
        const auto found = owned.table.find(fingerprint(i), 1);
        ASSERT_TRUE(found);
        EXPECT_EQ(found->row_hint, 5000 + i);
        EXPECT_TRUE(same(*found, proven_by(fingerprint(i)), false));
    }
}

TEST(ProofTable, TheHintOfATokenThatIsGoneChangesNothing) {
    Owned owned(32);
    for (std::uint64_t i = 0; i < 100; ++i) {
        owned.insert(fingerprint(i), 1);
    }
    const std::vector<ProofSlot> before = owned.slots;
    for (std::uint64_t i = 200; i < 1000; ++i) {
        owned.table.update_row_hint(fingerprint(i), 12345);
    }
    EXPECT_EQ(std::memcmp(before.data(), owned.slots.data(), before.size() * sizeof(ProofSlot)), 0);
}

// What a process sees while another one is between claim and release.
TEST(ProofTable, ASlotThatIsBeingWrittenIsLeftAlone) {
    Owned owned(16);
    for (std::uint64_t i = 0; i < ways; ++i) {
        ASSERT_EQ(owned.insert(fingerprint(i), 1), Inserted::fresh);
    }
    for (ProofSlot& slot : owned.slots) {
        ASSERT_EQ(slot.version, 2u);
        slot.version = 3;
    }
    const std::vector<ProofSlot> before = owned.slots;
    for (std::uint64_t i = 0; i < ways; ++i) {
        EXPECT_EQ(owned.table.find(fingerprint(i), 9), std::nullopt);
        EXPECT_EQ(owned.insert(fingerprint(i), 9), Inserted::given_up);
        EXPECT_EQ(owned.insert(fingerprint(100 + i), 9), Inserted::given_up);
    }
    EXPECT_EQ(std::memcmp(before.data(), owned.slots.data(), before.size() * sizeof(ProofSlot)), 0);
    EXPECT_EQ(owned.used(), ways);
}

// A first entry that is just being written is no end of the search.
TEST(ProofTable, TheSearchGoesOnBehindASlotThatIsBeingWritten) {
    Owned owned(16);
    const Fingerprint first{1, 0x10};
    const Fingerprint second{1, 0x20};
    ASSERT_EQ(owned.insert(first, 1), Inserted::fresh);
    ASSERT_EQ(owned.insert(second, 1), Inserted::fresh);
    owned.slots[0].version = 1;
    EXPECT_TRUE(owned.holds(second, 1));
}

// The promise behind apikey.cache_entries: a working set of 60 % of it stays in, at 110 bytes for each token.
TEST(ProofTable, AWorkingSetOf60PercentIsHit) {
    constexpr std::size_t entries = 10'000;
    for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u}) {
        std::mt19937_64 random(seed);
        Owned owned(entries);
        std::vector<Fingerprint> tokens(entries * 6 / 10);
        for (Fingerprint& token : tokens) {
            token = {random(), random()};
        }
        std::uint32_t tick = static_cast<std::uint32_t>(random());
        const auto use = [&](const Fingerprint& token) {
            if (owned.table.find(token, tick)) {
                return true;
            }
            EXPECT_NE(owned.insert(token, tick), Inserted::given_up);
            return false;
        };
        for (const Fingerprint& token : tokens) {
            use(token);
        }
        std::size_t hits = 0;
        const std::size_t uses = 10 * tokens.size();
        for (std::size_t i = 0; i < uses; ++i) {
            tick += i % 2000 == 0 ? 1 : 0;
            hits += use(tokens[random() % tokens.size()]) ? 1 : 0;
        }
        EXPECT_GE(static_cast<double>(hits) / static_cast<double>(uses), 0.99) << "seed " << seed;

        std::size_t held = 0;
        for (const Fingerprint& token : tokens) {
            held += owned.holds(token, tick) ? 1 : 0;
        }
        const std::size_t bytes = owned.slots.size() * sizeof(ProofSlot);
        EXPECT_LE(static_cast<double>(bytes) / static_cast<double>(held), 110) << "seed " << seed;
        EXPECT_EQ(owned.used(), held) << "seed " << seed;
    }
}

// In turn is what the least recently used of a full set takes worst: each token comes back just after it had
// to go.
TEST(ProofTable, AFullSetForgetsNothingWhereTheOtherHasRoom) {
    constexpr std::size_t entries = 16'384;
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
        std::mt19937_64 random(seed);
        Owned owned(entries);
        std::vector<Fingerprint> tokens(entries * 8 / 10);
        for (Fingerprint& token : tokens) {
            token = {random(), random()};
        }
        std::uint32_t tick = 0;
        for (const Fingerprint& token : tokens) {
            owned.insert(token, ++tick);
        }
        std::size_t hits = 0;
        for (const Fingerprint& token : tokens) {
            ++tick;
            const bool hit = owned.holds(token, tick);
            hits += hit ? 1 : 0;
            if (!hit) {
                owned.insert(token, tick);
            }
        }
        EXPECT_GE(static_cast<double>(hits) / static_cast<double>(tokens.size()), 0.98) << "seed " << seed;
    }
}

// A working set that drifts: what is used now is in, whatever was there before.
TEST(ProofTable, TokensOfThePastMakeRoom) {
    constexpr std::size_t entries = 2'000;
    Owned owned(entries);
    std::mt19937_64 random(11);
    std::uint32_t tick = 0xffffff00U;
    for (int phase = 0; phase < 5; ++phase) {
        std::vector<Fingerprint> tokens(entries / 2);
        for (Fingerprint& token : tokens) {
            token = {random(), random()};
        }
        std::size_t hits = 0;
        for (int round = 0; round < 6; ++round) {
            tick += 20;
            hits = 0;
            for (const Fingerprint& token : tokens) {
                const bool hit = owned.holds(token, tick);
                hits += hit ? 1 : 0;
                if (!hit) {
                    owned.insert(token, tick);
                }
            }
        }
        EXPECT_GE(hits, tokens.size() * 98 / 100) << "phase " << phase;
    }
}

/** Readers, writers and, if asked, hint writers over one set, which is far too small for the tokens. Nobody
 * may ever see what belongs to another token. */
void run_threads(bool with_hints) {
    constexpr std::uint64_t token_count = 40;
    Owned owned(16);
    std::vector<Fingerprint> tokens;
    for (std::uint64_t i = 0; i < token_count; ++i) {
        tokens.push_back(fingerprint(i));
    }
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> hits = 0;
    std::atomic<std::uint64_t> misses = 0;
    std::atomic<std::uint64_t> evictions = 0;
    std::atomic<std::uint64_t> filled = 0;
    std::atomic<std::uint64_t> mixed_up = 0;
    std::atomic<std::uint32_t> tick = 0xfffffff0U;

    std::vector<std::thread> threads;
    for (std::uint64_t reader = 0; reader < 3; ++reader) {
        threads.emplace_back([&, reader] {
            std::uint64_t own_hits = 0;
            std::uint64_t own_misses = 0;
            for (std::uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
                const Fingerprint& token = tokens[mix(i + (reader << 40)) % token_count];
                if (const auto found = owned.table.find(token, tick.load(std::memory_order_relaxed))) {
                    ++own_hits;
                    if (!same(*found, proven_by(token), !with_hints)) {
                        mixed_up.fetch_add(1);
                    }
                } else {
                    ++own_misses;
                }
            }
            hits += own_hits;
            misses += own_misses;
        });
    }
    for (std::uint64_t writer = 0; writer < 3; ++writer) {
        threads.emplace_back([&, writer] {
            std::uint64_t own_evictions = 0;
            for (std::uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
                const std::uint64_t chosen = mix(i + (writer << 50)) % token_count;
                const std::uint32_t now = tick.load(std::memory_order_relaxed) + (i % 4 == 0 ? 1 : 0);
                const Inserted how = owned.table.insert(tokens[chosen], proven_by(tokens[chosen]), now);
                if (how == Inserted::evicted) {
                    ++own_evictions;
                } else if (how == Inserted::fresh) {
                    filled.fetch_add(1);
                }
                if (i % 64 == 0) {
                    tick.fetch_add(1, std::memory_order_relaxed);
                }
            }
            evictions += own_evictions;
        });
    }
    if (with_hints) {
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
                owned.table.update_row_hint(tokens[mix(i) % token_count], i);
            }
        });
    }
    const auto end = steady_clock::now() + std::chrono::milliseconds(700);
    std::size_t most_used = 0;
    while (steady_clock::now() < end && mixed_up.load() == 0) {
        most_used = std::max(most_used, owned.used());
        std::this_thread::yield();
    }
    stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }

    EXPECT_EQ(mixed_up.load(), 0u) << "of " << hits.load() << " hits";
    EXPECT_EQ(most_used, ways);
    EXPECT_EQ(filled.load(), ways);
    // Otherwise it has shown nothing.
    EXPECT_GT(hits.load(), 1000u);
    EXPECT_GT(misses.load(), 1000u);
    EXPECT_GT(evictions.load(), 1000u);
    // And nothing is left half-written or claimed.
    for (const ProofSlot& slot : owned.slots) {
        EXPECT_EQ(slot.version % 2, 0u);
        const Fingerprint token{slot.fingerprint[0], slot.fingerprint[1]};
        const auto found = owned.table.find(token, tick.load());
        ASSERT_TRUE(found);
        EXPECT_TRUE(same(*found, proven_by(token), !with_hints));
    }
}

TEST(ProofTableThreads, NobodySeesWhatBelongsToAnotherToken) {
    run_threads(false);
}

TEST(ProofTableThreads, HintsAreWrittenBesideReadersAndWriters) {
    run_threads(true);
}

}  // namespace
}  // namespace apikey::core
