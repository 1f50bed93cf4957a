#pragma once

/**
 * The launcher: the one background worker that the postmaster itself starts, on a primary. In every database
 * of apikey.databases it starts a maintenance worker and, where apikey.redis_url is set, a mirror worker, and
 * starts each of them again when it has ended.
 */
namespace apikey::worker {

/** Registers it. From _PG_init, while preloading. */
void register_launcher();

}  // namespace apikey::worker
