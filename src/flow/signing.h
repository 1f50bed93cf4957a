#pragma once

#include <string>
#include <string_view>

#include "core/signing_key.h"

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

/** For the retirement of a signing key: locks it and the keys that it has signed (store/revocation_lock.h).
 * False: there is no such key. */
bool lock_signing_key(std::string_view kid);

/** Makes a pending signing key, which jwks() publishes. Returns the kid. */
std::string stage_signing_key(core::Algorithm algorithm);

}  // namespace apikey::flow
