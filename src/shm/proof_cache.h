#pragma once

#include "core/proof_table.h"
#include "pg/guard.h"

/**
 * What tokens have proven, for all databases of the server (core/proof_table.h). The fingerprint's key is
 * drawn at every start and mixed with the database's OID and the master key's fingerprint. Only what cannot
 * change is kept; the key's row is read at every validation, and an entry counts only if the row still holds
 * the hash that the token matched.
 */
namespace apikey::shm {

/** nullptr without shared memory. */
const core::ProofTable* proof_cache();

/** Into the proof cache, which must be there. Counts what is kept and what had to make room. */
void remember(const core::Fingerprint& token, const core::ProvenToken& proven, std::uint32_t tick);

/** How many entries it holds. Needs shared memory. */
std::uint64_t proofs_kept();

/** Of a token in the session's database, under a master key: its fingerprint as a number. Needs shared
 * memory. */
core::Fingerprint fingerprint(std::string_view token, std::uint64_t master_key);

/** 64 bits that depend on the whole of a stored hash, under a key of this server's: what an entry holds of
 * it. Needs shared memory. */
std::uint64_t hash_tag(core::ByteView stored_hash);

/** About a second: for ProofTable's time of last use. */
inline std::uint32_t cache_tick(TimestampTz now) {
    return static_cast<std::uint32_t>(now >> 20);
}

}  // namespace apikey::shm
