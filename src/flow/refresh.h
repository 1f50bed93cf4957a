#pragma once

#include "flow/issued.h"

namespace apikey::flow {

/**
 * The next generation of the token's key, or, for the previous token within its grace, the successor that it
 * already has. Raises PT401 and so on for a token that is not good, PT409 REFRESH_TOO_EARLY and
 * ALREADY_REFRESHED (each such denial is counted and recorded), 25006 in a read-only transaction or on a
 * standby, PT503 without a master key. However many sessions refresh one token at once, one generation is
 * added.
 */
Issued refresh(std::optional<std::string_view> token);

}  // namespace apikey::flow
