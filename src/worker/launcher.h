#pragma once

/**
 * The launcher: the one background worker that the postmaster itself starts, on a primary. It starts a
 * maintenance worker in every database of apikey.databases, and again when one has ended.
 */
namespace apikey::worker {

/** Registers it. From _PG_init, while preloading. */
void register_launcher();

}  // namespace apikey::worker
