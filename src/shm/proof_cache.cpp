#include "core/universal_hash.h"
#include "shm/area.h"
#include "shm/proof_cache.h"

namespace apikey::shm {

const core::ProofTable* proof_cache() {
    static core::ProofTable table;
    if (area() == nullptr) {
        return nullptr;
    }
    if (table.size() == 0) {
        table = core::ProofTable(area()->proofs);
    }
    return &table;
}

void remember(const core::Fingerprint& token, const core::ProvenToken& proven, std::uint32_t tick) {
    switch (proof_cache()->insert(token, proven, tick)) {
        case core::Inserted::fresh:
            std::atomic_ref(area()->header->proofs_kept).fetch_add(1, std::memory_order_relaxed);
            break;
        case core::Inserted::evicted:
            count(my_counters().cache_evictions);
            break;
        default:
            break;
    }
}

std::uint64_t proofs_kept() {
    return std::atomic_ref(area()->header->proofs_kept).load(std::memory_order_relaxed);
}

core::Fingerprint fingerprint(std::string_view token, std::uint64_t master_key) {
    static const core::SipHashKey database_key =
        core::derive_siphash_key(area()->header->token_key, MyDatabaseId);
    static std::uint64_t key_of = 0;
    static core::SipHashKey key = core::derive_siphash_key(database_key, key_of);
    if (master_key != key_of) {
        key = core::derive_siphash_key(database_key, master_key);
        key_of = master_key;
    }
    return core::siphash_128(key, core::bytes_of(token));
}

std::uint64_t hash_tag(core::ByteView stored_hash) {
    static const core::UniversalHashKey key = [] {
        // Any constant will do that is no database's OID.
        constexpr std::uint64_t domain = 0x73746f7265646861;
        const core::SipHashKey words = core::derive_siphash_key(area()->header->token_key, domain);
        core::UniversalHashKey made;
        for (std::uint64_t i = 0; i < made.size(); i++) {
            const core::SipHashKey word = core::derive_siphash_key(words, i);
            made[i] = core::Wide(word[0]) << 64 | word[1];
        }
        return made;
    }();
    return core::universal_hash(key, stored_hash);
}

}  // namespace apikey::shm
