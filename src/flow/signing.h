#pragma once

#include <string>

#include "core/jws.h"

namespace apikey::flow {

/** Puts a signing key of this algorithm into use (a pending one, else a fresh one); the one before verifies
 * on. Returns the kid. */
std::string rotate_signing_key(core::Algorithm algorithm);

/** Makes a pending signing key, which jwks() publishes. Returns the kid. */
std::string stage_signing_key(core::Algorithm algorithm);

}  // namespace apikey::flow
