#pragma once

#include "pg/guard.h"

namespace apikey::store {

/**
 * The latest committed state, plus what this transaction itself has done, whatever the isolation level: an
 * older REPEATABLE READ or SERIALIZABLE snapshot must not keep a revoked key alive (invariant I1). Registered
 * for the length of the scope.
 */
class LatestSnapshot {
  public:
    LatestSnapshot() {
        snapshot_ = pg::call([] { return RegisterSnapshot(GetLatestSnapshot()); });
    }
    LatestSnapshot(const LatestSnapshot&) = delete;
    LatestSnapshot& operator=(const LatestSnapshot&) = delete;
    ~LatestSnapshot() { UnregisterSnapshot(snapshot_); }

    operator Snapshot() const noexcept { return snapshot_; }

  private:
    Snapshot snapshot_;
};

}  // namespace apikey::store
