#pragma once

namespace apikey::pg {

/**
 * From here on PREPARE TRANSACTION of this transaction is an error (0A000), unless what was done since the
 * last savepoint is rolled back. For what a token alone may do: a prepared transaction holds its row locks
 * until somebody ends it, and no session can be terminated for it.
 */
void forbid_prepare(const char* function);

}  // namespace apikey::pg
