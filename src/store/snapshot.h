#pragma once

#include "pg/guard.h"

namespace apikey::store {

/**
 * A snapshot that rows are read with, one read after another. It is taken again (renew()) whenever a relation
 * had to be opened for it: what is in a relation's file is only seen rightly with a snapshot that is younger
 * than the lock. pg_repack, VACUUM FULL and CLUSTER put a copy of the table in the place of its file, with
 * versions of rows that an older snapshot would still show; an ALTER TABLE that rewrites leaves an older
 * snapshot nothing to see. Good for the length of the scope.
 */
class RowSnapshot {
  public:
    RowSnapshot(const RowSnapshot&) = delete;
    RowSnapshot& operator=(const RowSnapshot&) = delete;

    operator Snapshot() const noexcept { return snapshot_; }

    /** Takes it again. For use inside pg::call(). `waited`: the lock was not to be had at once. */
    void renew(bool waited) {
        release();
        take();
        waits_ += waited ? 1 : 0;
    }

    /** How often a lock had to be waited for. What was read when this was less may have changed since. */
    unsigned waits() const noexcept { return waits_; }

    /** Was it taken after that moment (see next_moment())? */
    bool is_younger_than(std::uint64_t moment) const noexcept { return taken_at_ > moment; }

    /** Numbers what this process does one after the other, to compare with when a snapshot was taken. */
    static std::uint64_t next_moment() noexcept {
        static std::uint64_t moment = 0;
        return ++moment;
    }

  protected:
    enum class Kind { latest, brief, transaction };

    explicit RowSnapshot(Kind kind) : kind_(kind) {}
    ~RowSnapshot() { release(); }

    void take() {
        switch (kind_) {
            case Kind::latest:
            case Kind::brief:
                snapshot_ = GetLatestSnapshot();
                break;
            case Kind::transaction:
                CommandCounterIncrement();
                snapshot_ = GetTransactionSnapshot();
                break;
        }
        taken_at_ = next_moment();
        const bool comparable =
            !TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsolationIsSerializable();
        // A registered copy does not have the number any more.
        committed_state_ = comparable ? snapshot_->snapXactCompletionCount : 0;
        if (kind_ != Kind::brief || !ActiveSnapshotSet()) {
            snapshot_ = RegisterSnapshot(snapshot_);
            registered_ = true;
        }
    }

    std::uint64_t committed_state_ = 0;

  private:
    void release() noexcept {
        if (registered_) {
            UnregisterSnapshot(snapshot_);
            registered_ = false;
        }
    }

    Kind kind_;
    Snapshot snapshot_ = nullptr;
    bool registered_ = false;
    unsigned waits_ = 0;
    std::uint64_t taken_at_ = 0;
};

/**
 * The latest committed state, plus what this transaction itself has done, whatever the isolation level: an
 * older REPEATABLE READ or SERIALIZABLE snapshot must not keep a revoked key alive (invariant I1).
 */
class LatestSnapshot : public RowSnapshot {
  public:
    /** `brief`: nobody asks for another latest snapshot in this scope. Then it need not be copied and
     * registered where the statement's own snapshot, which is active and no younger, already keeps from
     * VACUUM what this one can see. */
    enum class Use { any, brief };

    explicit LatestSnapshot(Use use = Use::any) : RowSnapshot(use == Use::any ? Kind::latest : Kind::brief) {
        pg::call([&] { take(); });
    }

    /**
     * A number that two snapshots of one process share only if they show the very same rows: how many
     * transactions that could have written had ended when the snapshot was taken, which is what
     * GetSnapshotData() itself goes by when it reuses a snapshot. 0, which counts as shared by none, while
     * this transaction may have changes of its own, and in a SERIALIZABLE one, where each row has to be read
     * for the predicate locks that reading leaves.
     */
    std::uint64_t committed_state() const noexcept { return committed_state_; }
};

/** What a statement of this transaction would see now: the latest rows too in READ COMMITTED, else those of
 * the transaction's snapshot. What this command has done so far is included. */
class TransactionSnapshot : public RowSnapshot {
  public:
    TransactionSnapshot() : RowSnapshot(Kind::transaction) {
        pg::call([&] { take(); });
    }
};

}  // namespace apikey::store
