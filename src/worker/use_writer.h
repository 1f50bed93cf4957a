#pragma once

#include "shm/meter.h"

/** From the use counts of the meter to the usage tables. */
namespace apikey::worker {

/** Takes all use counts of the database out of the meter and writes them down, in batches, each a
 * transaction. False when one failed; what is not written goes back into the meter, also when the process
 * ends. */
bool write_uses();

/** In a transaction. */
void write_down(std::span<const shm::UseCounts> uses);

}  // namespace apikey::worker
