#pragma once

#include "pg/prelude.h"

namespace apikey::pg {

/** What every wait does, for use inside pg::call(): other processes may wait for this one to take notice of
 * something (DROP DATABASE does). A request to cancel is void: there is nothing to cancel. */
inline void raw_serve_interrupts() {
    QueryCancelHoldoffCount = 1;
    CHECK_FOR_INTERRUPTS();
    QueryCancelHoldoffCount = 0;
    QueryCancelPending = 0;
}

}  // namespace apikey::pg
