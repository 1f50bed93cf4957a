#pragma once

#include <string>

#include "core/jws.h"

namespace apikey::flow {

/** Puts a signing key of this algorithm into use (a pending one, else a fresh one); the one before verifies
 * on. Returns the kid. */
std::string rotate_signing_key(core::Algorithm algorithm);

/**
 * Accepts the present master key file in place of the one that this database's keys were made under: puts a
 * fresh signing key, sealed under it, into use. The keys made before stay UNAVAILABLE as long as the file is
 * another. Returns the kid.
 */
std::string adopt_master_key();

/** Makes a pending signing key, which jwks() publishes. Returns the kid. */
std::string stage_signing_key(core::Algorithm algorithm);

}  // namespace apikey::flow
