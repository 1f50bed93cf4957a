#pragma once

#include <stdexcept>

#include "pg/boundary.h"
#include "store/upkeep.h"

/**
 * A worker's transactions. A worker goes on after an error: it logs it, and aborts. This is the one place
 * where an exception does not go on to the boundary.
 */
namespace apikey::worker {

/** What the last transaction failed of. */
struct Failed {
    int sqlstate = 0;  ///< 0: it did not
    std::array<char, 256> message{};
};
const Failed& last_failure();

void begin_transaction(const char* purpose);
void commit_transaction();
/** Logs the exception in flight as what went wrong with `purpose`, and aborts. To be called in a catch block.
 */
void abort_transaction(const char* purpose);

/** Runs `body` in a transaction of its own, with a snapshot. `purpose`, for the log and pg_stat_activity, is
 * what the body does: "prune". False when it failed, which has been logged. */
template <typename Body>
bool run_transaction(const char* purpose, Body&& body) {
    try {
        begin_transaction(purpose);
        body();
        commit_transaction();
        return true;
    } catch (...) {
        abort_transaction(purpose);
        return false;
    }
}

/** The same for a step that needs the extension's tables: DROP EXTENSION waits for it. False also while the
 * extension is being dropped, when nothing is done, and that is not worth a word in the log. */
template <typename Body>
bool run_step(const char* purpose, Body&& body) {
    bool locked = false;
    const bool done = run_transaction(purpose, [&] {
        locked = store::lock_against_drop();
        if (locked) {
            body();
        }
    });
    return done && locked;
}

/** A transaction of a step failed; why is in the log. */
class StepFailed : public std::runtime_error {
  public:
    StepFailed() : std::runtime_error("a transaction failed, which the server's log says more of") {}
};

/** The same where nothing can go on without the step: throws StepFailed. */
template <typename Body>
void require_step(const char* purpose, Body&& body) {
    if (!run_step(purpose, body)) {
        throw StepFailed();
    }
}

}  // namespace apikey::worker
