#pragma once

#include "pg/guard.h"

namespace apikey::store {

/**
 * The latest committed state, plus what this transaction itself has done, whatever the isolation level: an
 * older REPEATABLE READ or SERIALIZABLE snapshot must not keep a revoked key alive (invariant I1). Good for
 * the length of the scope.
 */
class LatestSnapshot {
  public:
    /** `brief`: nobody asks for another latest snapshot in this scope. Then it need not be copied and
     * registered where the statement's own snapshot, which is active and no younger, already keeps from
     * VACUUM what this one can see. */
    enum class Use { any, brief };

    explicit LatestSnapshot(Use use = Use::any) {
        pg::call([&] {
            snapshot_ = GetLatestSnapshot();
            const bool comparable =
                !TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsolationIsSerializable();
            committed_state_ = comparable ? snapshot_->snapXactCompletionCount : 0;
            registered_ = use == Use::any || !ActiveSnapshotSet();
            if (registered_) {
                snapshot_ = RegisterSnapshot(snapshot_);
            }
        });
    }
    LatestSnapshot(const LatestSnapshot&) = delete;
    LatestSnapshot& operator=(const LatestSnapshot&) = delete;
    ~LatestSnapshot() {
        if (registered_) {
            UnregisterSnapshot(snapshot_);
        }
    }

    operator Snapshot() const noexcept { return snapshot_; }

    /**
     * A number that two snapshots of one process share only if they show the very same rows: how many
     * transactions that could have written had ended when the snapshot was taken, which is what
     * GetSnapshotData() itself goes by when it reuses a snapshot. 0, which counts as shared by none, while
     * this transaction may have changes of its own, and in a SERIALIZABLE one, where each row has to be read
     * for the predicate locks that reading leaves.
     */
    std::uint64_t committed_state() const noexcept { return committed_state_; }

  private:
    Snapshot snapshot_ = nullptr;
    std::uint64_t committed_state_ = 0;
    bool registered_ = false;
};

/** What a statement of this transaction would see now: the latest rows too in READ COMMITTED, else those of
 * the transaction's snapshot. What this command has done so far is included. Good for the length of the
 * scope. */
class TransactionSnapshot {
  public:
    TransactionSnapshot() {
        snapshot_ = pg::call([] {
            CommandCounterIncrement();
            return RegisterSnapshot(GetTransactionSnapshot());
        });
    }
    TransactionSnapshot(const TransactionSnapshot&) = delete;
    TransactionSnapshot& operator=(const TransactionSnapshot&) = delete;
    ~TransactionSnapshot() { UnregisterSnapshot(snapshot_); }

    operator Snapshot() const noexcept { return snapshot_; }

  private:
    Snapshot snapshot_ = nullptr;
};

}  // namespace apikey::store
