#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/** A subtransaction of this library. Ends by release() or, when an error passes, by rollback(). */
class Subtransaction {
  public:
    Subtransaction();
    Subtransaction(const Subtransaction&) = delete;
    Subtransaction& operator=(const Subtransaction&) = delete;
    ~Subtransaction() = default;

    void release();
    void rollback();

    /** The error in memory that outlives rollback(). */
    Error saved(const Error& error) const;

  private:
    MemoryContext memory_;
    ResourceOwner resources_;
};

/**
 * Runs `body` in a subtransaction. False when it failed with this SQLSTATE: then the subtransaction is rolled
 * back, with its locks, and the transaction goes on. Every other error goes on after the rollback: left open,
 * the subtransaction would keep its locks as long as the transaction lives.
 */
template <typename Body>
bool succeeds_without(int sqlstate, Body&& body) {
    Subtransaction subtransaction;
    try {
        body();
    } catch (const Error& error) {
        const Error kept = subtransaction.saved(error);
        subtransaction.rollback();
        if (kept.sqlstate() == sqlstate) {
            return false;
        }
        throw Error(kept);
    } catch (...) {
        subtransaction.rollback();
        throw;
    }
    subtransaction.release();
    return true;
}

}  // namespace apikey::pg
