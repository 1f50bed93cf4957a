#include "core/proof_table.h"

#include <atomic>
#include <cstring>

namespace apikey::core {
namespace {

template <typename Word>
Word load(Word& word, std::memory_order order = std::memory_order_relaxed) {
    return std::atomic_ref<Word>(word).load(order);
}

template <typename Word>
void store(Word& word, Word value, std::memory_order order = std::memory_order_relaxed) {
    std::atomic_ref<Word>(word).store(value, order);
}

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free &&
                  std::atomic_ref<std::uint32_t>::is_always_lock_free,
              "a lock inside an atomic would not work across processes");

std::size_t first_way(const Fingerprint& token) {
    return token.high % ProofTable::ways;
}

bool holds(ProofSlot& slot, const Fingerprint& token) {
    return load(slot.fingerprint[0]) == token.low && load(slot.fingerprint[1]) == token.high;
}

/** How long ago, in ticks; the clock of whoever wrote last may be ahead of ours. */
std::uint32_t age(std::uint32_t last_used, std::uint32_t tick) {
    const std::uint32_t difference = tick - last_used;
    return difference > 0x80000000U ? 0 : difference;
}

void write(ProofSlot& slot, const Fingerprint& token, const ProvenToken& proven, std::uint32_t tick) {
    std::uint64_t id[2];
    std::memcpy(id, proven.key_id.bytes.data(), sizeof(id));
    store(slot.fingerprint[0], token.low);
    store(slot.fingerprint[1], token.high);
    store(slot.key_id[0], id[0]);
    store(slot.key_id[1], id[1]);
    store(slot.hash_tag, proven.hash_tag);
    store(slot.row_hint, proven.row_hint);
    store(slot.generation, static_cast<std::uint32_t>(proven.generation));
    store(slot.last_used, tick);
}

}  // namespace

ProofTable::Sets ProofTable::sets_of(const Fingerprint& token) const {
    __extension__ using Wide = unsigned __int128;
    const std::size_t count = slots_.size() / ways;
    const auto set = [&](std::uint64_t number) {
        return slots_.subspan(static_cast<std::size_t>((Wide(number) * count) >> 64) * ways).first<ways>();
    };
    return {set(token.low), set(token.high)};
}

void ProofTable::prefetch(const Fingerprint& token) const {
    if (!slots_.empty()) {
        __builtin_prefetch(&sets_of(token)[0][first_way(token)]);
    }
}

ProofSlot* ProofTable::locate(const Fingerprint& token) const {
    if (slots_.empty()) {
        return nullptr;
    }
    for (const auto& set : sets_of(token)) {
        for (std::size_t i = 0; i < ways; i++) {
            ProofSlot& slot = set[(first_way(token) + i) % ways];
            if (holds(slot, token)) {
                return &slot;
            }
            // Slots fill in this order and never become empty again: then it is not in the other set either.
            if (load(slot.version) == 0) {
                return nullptr;
            }
        }
    }
    return nullptr;
}

std::optional<ProvenToken> ProofTable::find(const Fingerprint& token, std::uint32_t tick) const {
    ProofSlot* slot = locate(token);
    if (slot == nullptr) {
        return std::nullopt;
    }
    const std::uint64_t before = load(slot->version, std::memory_order_acquire);
    const bool same = holds(*slot, token);
    const std::uint64_t id[2] = {load(slot->key_id[0]), load(slot->key_id[1])};
    ProvenToken proven;
    proven.generation = static_cast<std::int32_t>(load(slot->generation));
    proven.hash_tag = load(slot->hash_tag);
    proven.row_hint = load(slot->row_hint);
    const std::uint32_t last_used = load(slot->last_used);
    // The loads above must not sink below the second look at the version.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!same || before == 0 || before % 2 != 0 || load(slot->version) != before) {
        return std::nullopt;
    }
    if (last_used != tick) {
        store(slot->last_used, tick);
    }
    std::memcpy(proven.key_id.bytes.data(), id, sizeof(id));
    return proven;
}

ProofTable::Place ProofTable::place_for(const Fingerprint& token, std::uint32_t tick) const {
    Place oldest{nullptr, 0, Inserted::evicted};
    std::uint32_t longest = 0;
    for (const auto& set : sets_of(token)) {
        for (std::size_t i = 0; i < ways; i++) {
            ProofSlot& slot = set[(first_way(token) + i) % ways];
            const std::uint64_t version = load(slot.version, std::memory_order_acquire);
            if (version == 0) {
                return {&slot, version, Inserted::fresh};
            }
            if (holds(slot, token)) {
                return {&slot, version, Inserted::renewed};
            }
            // Among equals the first from the token's own place: different tokens take different ones.
            const std::uint32_t unused = age(load(slot.last_used), tick);
            if (oldest.slot == nullptr || unused > longest) {
                oldest.slot = &slot;
                oldest.version = version;
                longest = unused;
            }
        }
    }
    return oldest;
}

Inserted ProofTable::insert(const Fingerprint& token, const ProvenToken& proven, std::uint32_t tick) const {
    if (slots_.empty()) {
        return Inserted::given_up;
    }
    auto [victim, version, result] = place_for(token, tick);
    if (version % 2 != 0 || !std::atomic_ref<std::uint64_t>(victim->version)
                                 .compare_exchange_strong(version, version + 1, std::memory_order_acquire,
                                                          std::memory_order_relaxed)) {
        return Inserted::given_up;
    }
    // The odd version must be seen before any of the new words.
    std::atomic_thread_fence(std::memory_order_release);
    write(*victim, token, proven, tick);
    store(victim->version, version + 2, std::memory_order_release);
    return result;
}

void ProofTable::update_row_hint(const Fingerprint& token, std::uint64_t row_hint) const {
    // Without claiming the slot: should another entry take it just now, that one has a wrong hint, which it
    // may have at any time.
    if (ProofSlot* slot = locate(token)) {
        store(slot->row_hint, row_hint);
    }
}

}  // namespace apikey::core
