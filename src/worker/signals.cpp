#include <csignal>

#include "pg/interrupts.h"
#include "worker/signals.h"

namespace apikey::worker {
namespace {

volatile std::sig_atomic_t asked_to_end = 0;
volatile std::sig_atomic_t interruptible = 0;

extern "C" void terminated(int signal) {
    const int saved = errno;
    asked_to_end = 1;
    if (interruptible != 0) {
        StatementCancelHandler(signal);
    }
    SetLatch(MyLatch);
    errno = saved;
}

}  // namespace

void catch_signals() {
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
}

void end_in_good_order() {
    pqsignal(SIGTERM, terminated);
}

bool must_end() {
    return asked_to_end != 0;
}

void reload_if_asked() {
    if (ConfigReloadPending != 0) {
        ConfigReloadPending = 0;
        pg::call([] { ProcessConfigFile(PGC_SIGHUP); });
    }
}

void wait(long milliseconds) {
    pg::call([&] {
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        pg::raw_serve_interrupts();
    });
}

Interruptible::Interruptible() {
    interruptible = 1;
    if (asked_to_end != 0) {
        StatementCancelHandler(SIGTERM);
    }
}

Interruptible::~Interruptible() {
    interruptible = 0;
    // It came too late, and must not hit what follows.
    QueryCancelPending = 0;
}

}  // namespace apikey::worker
