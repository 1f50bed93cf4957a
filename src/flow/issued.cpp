#include "flow/issued.h"
#include "flow/mint.h"

namespace apikey::flow {

Issued make_issued(const TokenFacts& facts, TimestampTz refresh_after,
                   std::optional<core::SecretBytes> token) {
    return {facts.key_id,
            std::move(token),
            facts.generation,
            std::string(facts.owner),
            std::string(facts.role),
            facts.issued_at,
            refresh_after,
            facts.expires_at};
}

}  // namespace apikey::flow
