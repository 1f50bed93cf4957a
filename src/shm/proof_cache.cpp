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

core::Fingerprint fingerprint(std::string_view token) {
    static const core::SipHashKey key = core::derive_siphash_key(area()->header->token_key, MyDatabaseId);
    return core::siphash_128(key, core::bytes_of(token));
}

}  // namespace apikey::shm
