#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/jws.h"

/** Keys as test vectors write them (RFC 7517), and a JWS verified under one: what the library itself takes
 * from its tables. */
namespace apikey::core {

struct NamedKey {
    std::string kid;  ///< empty when the JWK has none
    SigningKey key;
};

/** A JWK of a known type (OKP with Ed25519, EC with P-256, oct) that is for signatures and whose members fit
 * together; its private members are used when there. */
std::optional<NamedKey> parse_jwk(std::string_view json);

/** A JWK set, without the keys of other types. Nothing when a key is refused, two share a kid, or symmetric
 * and public keys are mixed. */
std::optional<std::vector<NamedKey>> parse_jwk_set(std::string_view json);

/** The header's algorithm is the key's, the kid its own where both have one, and the signature is right. */
bool verify_parsed_jws(const CompactJws& jws, const SigningKey& key, std::string_view kid = {});

/** The same of a text: its payload. */
std::optional<Bytes> verify_compact_jws(std::string_view text, const SigningKey& key,
                                        std::string_view kid = {});

}  // namespace apikey::core
