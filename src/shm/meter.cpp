#include <bit>
#include <cstring>

#include "core/counted_network.h"
#include "core/rate_names.h"
#include "pg/clock.h"
#include "pg/datum.h"
#include "pg/settings.h"
#include "shm/area.h"
#include "shm/meter_cells.h"

namespace apikey::shm {
namespace {

using core::Code;

struct Set {
    std::size_t number;
    std::span<MeterCell, meter_ways> cells;
    slock_t* mutex;
    std::size_t first;  ///< where to begin, so that a full set does not crowd its beginning
};

/** Ids of keys are random already, and those of addresses hashed with a key: this only spreads them. */
std::uint64_t spread(const Subject& subject, Oid database) {
    std::uint64_t x = subject.id[0] ^ (subject.id[1] * 0x9e3779b97f4a7c15U) ^ database;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93U;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93U;
    return x ^ (x >> 32);
}

Set nth_set(std::size_t number) {
    return {number, area()->meter.subspan(number * meter_ways).first<meter_ways>(),
            &area()->meter_locks[number % meter_lock_count].mutex, 0};
}

Set set_of(const Subject& subject) {
    __extension__ using Wide = unsigned __int128;
    const std::uint64_t hash = spread(subject, MyDatabaseId);
    const auto number = static_cast<std::size_t>((Wide(hash) * (area()->meter.size() / meter_ways)) >> 64);
    Set set = nth_set(number);
    set.first = hash % meter_ways;
    return set;
}

bool is_cell_of(const MeterCell& cell, const Subject& subject) {
    return cell.subject == subject && cell.database == MyDatabaseId;
}

UseCounts uses_of(const MeterCell& cell) {
    UseCounts uses{};
    memcpy(uses.key_id.bytes.data(), cell.subject.id.data(), uses.key_id.bytes.size());
    uses.by_code = cell.by_code;
    uses.last_used_at = cell.last_used_at;
    uses.has_client = cell.has_client;
    uses.last_client = cell.last_client;
    return uses;
}

void forget_uses(MeterCell& cell) {
    cell.uses_pending = 0;
    cell.by_code = {};
    cell.last_used_at = 0;
    cell.has_client = false;
}

/** With the lock of the set held. */
void mark_unexchanged(const Set& set, bool unexchanged) {
    const std::atomic_ref word(area()->unexchanged_sets[set.number / meter_mark_bits]);
    const std::uint64_t bit = std::uint64_t{1} << set.number % meter_mark_bits;
    if (unexchanged) {
        word.fetch_or(bit, std::memory_order_relaxed);
    } else {
        word.fetch_and(~bit, std::memory_order_relaxed);
    }
}

/** The first set from that one on that has a mark; the number of sets if none has. */
std::size_t next_unexchanged(std::size_t number, std::size_t sets) {
    while (number < sets) {
        const std::uint64_t word = std::atomic_ref(area()->unexchanged_sets[number / meter_mark_bits])
                                       .load(std::memory_order_relaxed);
        const std::uint64_t rest = word >> number % meter_mark_bits;
        if (rest != 0) {
            return number + static_cast<std::size_t>(std::countr_zero(rest));
        }
        number = (number / meter_mark_bits + 1) * meter_mark_bits;
    }
    return sets;
}

/** What had to go to make room, for after the lock is released. */
struct Evicted {
    bool window = false;
    Oid uses_of_database = InvalidOid;
    UseCounts uses{};
};

/** The subject's cell, made if need be. With the lock held: calls nothing that could raise or wait. */
MeterCell& find_or_make(const Set& set, const Subject& subject, TimestampTz now, Evicted& evicted) {
    MeterCell* victim = nullptr;
    for (std::size_t i = 0; i < meter_ways; i++) {
        MeterCell& cell = set.cells[(set.first + i) % meter_ways];
        if (is_cell_of(cell, subject)) {
            return cell;
        }
        if (cell.subject.kind == Subject::Kind::none) {
            victim = &cell;  // no cell is ever emptied, so there is none behind it
            break;
        }
    }
    if (victim == nullptr) {
        std::int64_t least = 0;
        for (std::size_t i = 0; i < meter_ways; i++) {
            MeterCell& cell = set.cells[(set.first + i) % meter_ways];
            const std::int64_t useful = core::remembered(cell.window, pg::unix_us(now));
            if (victim == nullptr || useful < least ||
                (useful == least && cell.touched_at < victim->touched_at)) {
                victim = &cell;
                least = useful;
            }
        }
        evicted.window = least > 0;
        if (victim->uses_pending != 0) {
            evicted.uses_of_database = victim->database;
            evicted.uses = uses_of(*victim);
        }
    }
    *victim = MeterCell{};
    victim->subject = subject;
    victim->database = MyDatabaseId;
    return *victim;
}

/** After the lock. Counts of another database's key have no way to its tables from here: they are given up
 * for lost, and counted. */
void settle(const Evicted& evicted) {
    if (evicted.window) {
        count(my_counters().rate_evictions);
    }
    if (evicted.uses_of_database == MyDatabaseId) {
        Event event{};
        event.kind = EventKind::uses;
        event.uses = evicted.uses;
        record(event);
    } else if (OidIsValid(evicted.uses_of_database)) {
        count(my_counters().uses_dropped);
    }
}

/** The counts saturate: a worker that is away for long must not make them wrap. */
void add(std::uint32_t& count, std::uint32_t more) {
    count = more > UINT32_MAX - count ? UINT32_MAX : count + more;
}

void note(MeterCell& cell, Code code) {
    add(cell.by_code[static_cast<std::size_t>(code)], 1);
    cell.uses_pending = 1;
}

/** What the limiter knows of other nodes in this database; atomic reads of a line that is hardly ever
 * written. */
struct Exchange {
    std::int64_t clock_offset_us = 0;
    std::int64_t nodes = 1;
    bool stale = false;
};

Exchange exchange_state(TimestampTz now) {
    Exchange exchange;
    DatabaseSlot* slot = *pg::settings::redis_url == '\0' ? nullptr : my_database();
    if (slot == nullptr) {
        return exchange;
    }
    const std::int64_t stale_after_us =
        std::max<std::int64_t>(3 * USECS_PER_SEC, std::int64_t(pg::settings::rate_sync_interval) * 2000);
    const TimestampTz synced_at = std::atomic_ref(slot->rates.synced_at).load(std::memory_order_relaxed);
    if (synced_at != 0) {
        exchange.clock_offset_us =
            std::atomic_ref(slot->rates.clock_offset_us).load(std::memory_order_relaxed);
        exchange.nodes = std::atomic_ref(slot->rates.nodes).load(std::memory_order_relaxed);
    }
    const std::int64_t age_us = now - (synced_at != 0 ? synced_at : area()->header->started_at);
    // One in the future is of before somebody set the clock back: how old, nobody knows.
    exchange.stale = age_us > stale_after_us || age_us < -stale_after_us;
    return exchange;
}

/** By the limit, or by what is left of it when nobody knows what the other nodes do. */
core::RateDecision spend(core::Window& window, const core::RateLimit& limit, std::int64_t now_us,
                         std::int64_t cost, const Exchange& exchange) {
    if (!exchange.stale) {
        return core::spend(window, limit, now_us, cost);
    }
    switch (static_cast<pg::settings::RateOnStale>(pg::settings::rate_on_stale)) {
        case pg::settings::RateOnStale::deny:
            return core::deny(window, limit, now_us);
        case pg::settings::RateOnStale::local:
            return core::spend_alone(window, limit, now_us, cost, 1);
        case pg::settings::RateOnStale::share:
            break;
    }
    return core::spend_alone(window, limit, now_us, cost, exchange.nodes);
}

}  // namespace

Subject key_subject(const core::Uuid& key_id) {
    Subject subject;
    subject.kind = Subject::Kind::key;
    memcpy(subject.id.data(), key_id.bytes.data(), key_id.bytes.size());
    return subject;
}

Subject address_subject(const std::optional<core::Network>& client, const core::SipHashKey* shared_key) {
    std::array<std::uint8_t, 17> identity{};
    std::size_t size = 1;
    if (client) {
        const core::Network network = core::counted_network(*client);
        identity[0] = static_cast<std::uint8_t>(network.family);
        const std::size_t significant = network.prefix_length / 8U;
        std::copy_n(network.address.begin(), significant, identity.begin() + 1);
        size += significant;
    }
    const core::Fingerprint hash =
        core::siphash_128(shared_key == nullptr ? area()->header->address_key : *shared_key,
                          core::ByteView(identity).first(size));
    Subject subject;
    subject.kind = Subject::Kind::address;
    subject.id = {hash.low, hash.high};
    return subject;
}

std::optional<core::RateDecision> use(const Subject& subject, const std::optional<core::RateLimit>& limit,
                                      TimestampTz now, std::int64_t cost,
                                      const std::optional<core::Network>& client) {
    if (area() == nullptr) {
        return std::nullopt;
    }
    const Set set = set_of(subject);
    const Exchange exchange = limit ? exchange_state(now) : Exchange();
    Evicted evicted;
    core::RateDecision decision;
    SpinLockAcquire(set.mutex);
    MeterCell& cell = find_or_make(set, subject, now, evicted);
    cell.touched_at = now;
    if (limit) {
        decision = spend(cell.window, *limit, pg::unix_us(now) + exchange.clock_offset_us, cost, exchange);
        if (!cell.unexchanged) {
            cell.unexchanged = true;
            mark_unexchanged(set, true);
        }
    }
    if (subject.kind == Subject::Kind::key) {
        note(cell, decision.allowed ? Code::valid : Code::rate_limited);
        if (decision.allowed) {
            cell.last_used_at = now;
            cell.has_client = client.has_value();
            if (client) {
                cell.last_client = *client;
            }
        }
    }
    SpinLockRelease(set.mutex);
    settle(evicted);
    return decision;
}

void count_denial(const core::Uuid& key_id, Code code, TimestampTz now) {
    if (area() == nullptr) {
        return;
    }
    const Subject subject = key_subject(key_id);
    const Set set = set_of(subject);
    Evicted evicted;
    SpinLockAcquire(set.mutex);
    MeterCell& cell = find_or_make(set, subject, now, evicted);
    cell.touched_at = now;
    note(cell, code);
    SpinLockRelease(set.mutex);
    settle(evicted);
}

void prefetch(const Subject& subject) {
    if (area() != nullptr) {
        const Set set = set_of(subject);
        __builtin_prefetch(set.mutex, 1);
        __builtin_prefetch(&set.cells[set.first], 1);
        __builtin_prefetch(&set.cells[set.first].touched_at, 1);
    }
}

std::size_t take_uses(std::size_t& position, std::span<UseCounts> out) {
    if (area() == nullptr) {
        return 0;
    }
    const std::size_t sets = area()->meter.size() / meter_ways;
    std::size_t taken = 0;
    // At least one, where there is any left: an empty answer means the end.
    for (; position < sets && taken + meter_ways <= out.size(); position++) {
        const Set set = nth_set(position);
        SpinLockAcquire(set.mutex);
        for (MeterCell& cell : set.cells) {
            if (cell.uses_pending != 0 && cell.database == MyDatabaseId) {
                out[taken++] = uses_of(cell);
                forget_uses(cell);
            }
        }
        SpinLockRelease(set.mutex);
    }
    return taken;
}

std::size_t read_rate_cells(std::size_t& position, bool all, std::span<RateCell> out) {
    const std::size_t sets = area()->meter.size() / meter_ways;
    const TimestampTz now = GetCurrentTimestamp();
    const std::int64_t now_us = pg::unix_us(now) + exchange_state(now).clock_offset_us;
    std::size_t found = 0;
    for (; found + meter_ways <= out.size(); position++) {
        position = all ? position : next_unexchanged(position, sets);
        if (position >= sets) {
            break;
        }
        const Set set = nth_set(position);
        bool left = false;  // another database's, for its own worker
        SpinLockAcquire(set.mutex);
        for (MeterCell& cell : set.cells) {
            if (cell.database != MyDatabaseId) {
                left |= cell.unexchanged;
            } else if (cell.unexchanged || (all && core::remembered(cell.window, now_us) > 0)) {
                out[found++] = {cell.subject, cell.window};
                cell.unexchanged = false;
            }
        }
        if (!left) {
            mark_unexchanged(set, false);
        }
        SpinLockRelease(set.mutex);
    }
    return found;
}

void merge_others(const RateCell& from, std::int64_t others, std::int64_t previous_others) {
    const Set set = set_of(from.subject);
    SpinLockAcquire(set.mutex);
    for (MeterCell& cell : set.cells) {
        if (is_cell_of(cell, from.subject)) {
            core::merge_others(cell.window, from.window.width_us, from.window.sequence, others,
                               previous_others);
        }
    }
    SpinLockRelease(set.mutex);
}

void set_clock_offset(std::int64_t microseconds) {
    std::atomic_ref(my_database()->rates.clock_offset_us).store(microseconds, std::memory_order_relaxed);
}

void note_rates_synced(TimestampTz at, std::int64_t nodes) {
    RateExchange& rates = my_database()->rates;
    std::atomic_ref(rates.nodes).store(nodes, std::memory_order_relaxed);
    std::atomic_ref(rates.synced_at).store(at, std::memory_order_relaxed);
}

std::string rate_subject_text(const Subject& subject) {
    if (subject.kind == Subject::Kind::key) {
        core::Uuid key_id;
        memcpy(key_id.bytes.data(), subject.id.data(), key_id.bytes.size());
        return core::to_string(key_id);
    }
    return core::rate_address_subject(subject.id[0], subject.id[1]);
}

void give_back(const UseCounts& uses) {
    const TimestampTz now = GetCurrentTimestamp();
    const Subject subject = key_subject(uses.key_id);
    const Set set = set_of(subject);
    Evicted evicted;
    SpinLockAcquire(set.mutex);
    MeterCell& cell = find_or_make(set, subject, now, evicted);
    for (std::size_t i = 0; i < cell.by_code.size(); i++) {
        add(cell.by_code[i], uses.by_code[i]);
    }
    if (uses.last_used_at > cell.last_used_at) {
        cell.last_used_at = uses.last_used_at;
        cell.has_client = uses.has_client;
        cell.last_client = uses.last_client;
    }
    cell.uses_pending = 1;
    SpinLockRelease(set.mutex);
    settle(evicted);
}

}  // namespace apikey::shm
