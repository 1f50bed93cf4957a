#pragma once

/** From the event ring of the database to the audit trail. */
namespace apikey::worker {

/** Writes down what waits in the ring: the denials, those of the same kind folded into one event with a
 * count, and the counts of uses that had to make room. In batches, each a transaction. False when one failed;
 * what is not written stays in the ring. */
bool write_events();

}  // namespace apikey::worker
