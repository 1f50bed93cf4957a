#pragma once

#include <string>
#include <string_view>

#include "core/signing_key.h"

/** JSON Web Keys (RFC 7517, RFC 8037). */
namespace apikey::core {

/** A JWK's public members with kid, alg, use=sig, as JSON text. Throws InvalidArgument for HS256: it has no
 * public half. */
std::string public_jwk(const SigningKey& key, std::string_view kid);

}  // namespace apikey::core
