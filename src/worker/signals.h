#pragma once

#include "pg/guard.h"

/** How background workers are told things, and how they wait. */
namespace apikey::worker {

/** First thing in a worker's main function. SIGHUP: read the configuration again. SIGTERM: end at once, for
 * now: who connects to a database may have to wait for a lock as long as somebody pleases. */
void catch_signals();

/** From now on SIGTERM means: end after this turn. */
void end_in_good_order();

bool must_end();

void reload_if_asked();

/** Until somebody sets the latch, a signal comes, or so long. Serves interrupts: throws Error for those that
 * are errors. */
void wait(long milliseconds);

/** In this scope SIGTERM also cancels what is being done, which is an error like another: for what may take
 * long, and can be left undone. The rest of the turn still happens. */
class Interruptible {
  public:
    Interruptible();
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;
    ~Interruptible();
};

}  // namespace apikey::worker
