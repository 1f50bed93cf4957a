#pragma once

/** Settings that no ALTER DATABASE … SET of somebody else's may change for a worker. */
namespace apikey::worker {

/** For all that is done to tables. A worker that waits for a lock gives up before deadlock_timeout makes a
 * victim of the one that it is waiting for. */
void pin_worker_settings();

/** Plans that go by indexes only, whatever the statistics of a table say that is empty most of the time. */
void pin_index_plans();

}  // namespace apikey::worker
