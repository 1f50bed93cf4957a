#include <csignal>

#include "worker/signals.h"

namespace apikey::worker {
namespace {

volatile std::sig_atomic_t asked_to_end = 0;
volatile std::sig_atomic_t interruptible = 0;

extern "C" void terminated(int signal) {
    const int saved = errno;
    asked_to_end = 1;
    if (interruptible != 0) {
        die(signal);
    }
    SetLatch(MyLatch);
    errno = saved;
}

}  // namespace

void catch_signals() {
    pqsignal(SIGTERM, terminated);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
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
        CHECK_FOR_INTERRUPTS();
    });
}

Interruptible::Interruptible() {
    interruptible = 1;
    if (asked_to_end != 0) {
        pg::call([] {
            die(SIGTERM);
            CHECK_FOR_INTERRUPTS();
        });
    }
}

Interruptible::~Interruptible() {
    interruptible = 0;
}

}  // namespace apikey::worker
