#pragma once

#include "shm/area.h"

/**
 * Which background workers there are: the launcher, and for each database one of each WorkerKind. Launcher,
 * workers and sessions that want workers out of the way talk through WorkerSlot, under the lock of the
 * workers.
 *
 *     absent, failed --launcher--> starting --worker--> running --worker, when it ends--> absent, failed
 *
 * While a slot is held, the launcher leaves it alone.
 */
namespace apikey::shm {

/** This process becomes the launcher until it ends. Once. */
void become_launcher();

/** This process becomes such a worker of its database until it ends. False when there is one already, or it
 * is not wanted after all. Once. */
bool become_worker(WorkerKind kind);

/** The worker has finished a turn. */
void note_turn(WorkerSlot::Health health = WorkerSlot::Health::good);

/** A step of the worker's work has failed; nothing is done where this process is no worker. Raises nothing.
 */
void note_failed_step(const char* purpose, const char* message);

/** May the launcher start a worker now? Then the slot says `starting`. */
bool begin_start(DatabaseSlot& slot, WorkerKind kind);

/** The postmaster has refused, or the worker never came. */
void fail_start(DatabaseSlot& slot, WorkerKind kind);

/** Asks the worker to end; it finishes its turn first. */
void stop_worker(DatabaseSlot& slot, WorkerKind kind);

/** Gives the slot of a database that does not exist any more to others; not yet where it is held, as by the
 * command that has just dropped it: the holder will still write to it. */
void release_database(DatabaseSlot& slot);

/** A copy, as it is now. */
WorkerSlot worker_state(DatabaseSlot& slot, WorkerKind kind);
pid_t launcher_pid();

/** Keeps workers away from a database until the transaction ends, so that it is the outcome that the launcher
 * goes by, and waits until there are none: 10 seconds at most. */
void keep_workers_away(DatabaseSlot& slot);

}  // namespace apikey::shm
