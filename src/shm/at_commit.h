#pragma once

#include <cstdint>

/**
 * Counting what only a COMMIT makes true. A count waits in this process until the transaction ends, and goes
 * with a savepoint that is rolled back. PREPARE TRANSACTION counts as the COMMIT: the session that prepared
 * does not learn what becomes of it.
 */
namespace apikey::shm {

enum class Committed : std::uint8_t { issue, refresh };

/** One more when the current transaction commits. Does nothing without shared memory. */
void count_at_commit(Committed what);

}  // namespace apikey::shm
