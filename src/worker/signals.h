#pragma once

#include "pg/guard.h"

/** How background workers are told things, and how they wait. */
namespace apikey::worker {

/** SIGTERM: end after this turn. SIGHUP: read the configuration again. First thing in a worker's main
 * function. */
void catch_signals();

bool must_end();

void reload_if_asked();

/** Until somebody sets the latch, a signal comes, or so long. Serves interrupts: throws Error for those that
 * are errors. */
void wait(long milliseconds);

/** In this scope SIGTERM ends the process at once, as it does a session: for what may take long, and can be
 * left undone. */
class Interruptible {
  public:
    Interruptible();
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;
    ~Interruptible();
};

}  // namespace apikey::worker
