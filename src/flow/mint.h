#pragma once

#include "core/token_hash.h"
#include "store/keys.h"

/** Making tokens, and making the same one again. */
namespace apikey::flow {

/** What a token of a key says. Views belong to the caller. */
struct TokenFacts {
    core::Uuid key_id;
    std::int32_t generation;
    std::string_view owner;
    std::string_view role;
    std::string_view format;
    std::string_view environment;
    std::optional<Datum> permissions;
    TimestampTz issued_at;
    TimestampTz expires_at;
};

/** Of the generation that is in force. */
TokenFacts facts_of(const store::KeyRow& key);

struct Minted {
    core::SecretBytes token;
    std::string kid;  ///< empty for opaque
    core::TokenHash hash;
    std::array<std::uint8_t, 8> tag;
};

using Salt = decltype(core::TokenHash::salt);

/** A new token and what is stored of it. `salt` is strong random bytes of its own. For a JWT the signing key
 * in use stays locked until the end of the transaction. As the owner of the tables. */
Minted mint(const TokenFacts& facts, const core::MasterKeys& keys, const Salt& salt);

/**
 * The current token of a key once more, signed again from the row; the stored hash proves that it is the
 * same. nullopt where that cannot be: opaque tokens and ES256, or the row, issuer or audience have changed
 * since.
 */
std::optional<core::SecretBytes> mint_again(const store::KeyRow& key, store::RowSnapshot& snapshot,
                                            const core::MasterKeys& keys);

}  // namespace apikey::flow
