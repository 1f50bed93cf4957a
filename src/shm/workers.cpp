#include <csignal>

#include "shm/workers.h"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace apikey::shm {
namespace {

using State = WorkerSlot::State;

DatabaseSlot* working_in = nullptr;
WorkerKind working_as = WorkerKind::maintenance;
/** By this session. */
std::vector<DatabaseSlot*> held;
bool lets_go_at_end = false;

/** In shared memory, and of use inside pg::call() only; trivial to destroy, since an error of LWLockAcquire
 * jumps over it and abort releases the lock. */
struct Locked {
    Locked() { LWLockAcquire(area()->workers_lock, LW_EXCLUSIVE); }
    void release() const { LWLockRelease(area()->workers_lock); }
};

/** With the lock held: a worker takes it to leave, so that the process number is still its own. */
void tell_to_end(const WorkerSlot& worker) {
    if (worker.state == State::running) {
        kill(worker.pid, SIGTERM);
    }
}

/** With the lock held. */
bool has_workers(const DatabaseSlot& slot) {
    return std::any_of(slot.workers.begin(), slot.workers.end(), [](const WorkerSlot& worker) {
        return worker.state == State::running || worker.state == State::starting;
    });
}

void raw_wake_launcher() {
    if (Latch* latch = area()->header->launcher_latch) {
        SetLatch(latch);
    }
}

extern "C" void launcher_leaves(int /*code*/, Datum /*argument*/) {
    const Locked locked;
    area()->header->launcher_pid = 0;
    area()->header->launcher_latch = nullptr;
    locked.release();
}

extern "C" void worker_leaves(int code, Datum /*argument*/) {
    const Locked locked;
    WorkerSlot& worker = working_in->worker(working_as);
    worker.state = code == 0 ? State::absent : State::failed;
    worker.failures += code == 0 ? 0 : 1;
    worker.pid = 0;
    std::atomic_ref(worker.latch).store(nullptr, std::memory_order_relaxed);
    // The postmaster tells only the launcher that asked for this worker, and there may be another one now.
    raw_wake_launcher();
    locked.release();
    ConditionVariableBroadcast(&area()->header->worker_left);
}

/** Raises nothing. */
void let_workers_go() {
    if (held.empty()) {
        return;
    }
    const Locked locked;
    for (DatabaseSlot* slot : held) {
        slot->holders--;
    }
    held.clear();
    raw_wake_launcher();
    locked.release();
}

extern "C" void session_ends(int /*code*/, Datum /*argument*/) {
    let_workers_go();
}

extern "C" void transaction_ends(XactEvent event, void* /*argument*/) {
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        let_workers_go();
    }
}

}  // namespace

void become_launcher() {
    pg::call([] {
        const Locked locked;
        area()->header->launcher_pid = MyProcPid;
        area()->header->launcher_latch = MyLatch;
        locked.release();
        before_shmem_exit(launcher_leaves, 0);
    });
}

bool become_worker(WorkerKind kind) {
    DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return false;
    }
    return pg::call([&] {
        const Locked locked;
        WorkerSlot& worker = slot->worker(kind);
        const bool wanted = worker.state != State::running && slot->holders == 0;
        if (wanted) {
            worker.state = State::running;
            worker.health = WorkerSlot::Health::good;
            worker.pid = MyProcPid;
            worker.started_at = GetCurrentTimestamp();
            worker.starts++;
            std::atomic_ref(worker.latch).store(MyLatch, std::memory_order_relaxed);
            working_in = slot;
            working_as = kind;
        } else if (worker.state == State::starting) {
            worker.state = State::absent;
        }
        locked.release();
        if (wanted) {
            before_shmem_exit(worker_leaves, 0);
        } else {
            ConditionVariableBroadcast(&area()->header->worker_left);
        }
        return wanted;
    });
}

void note_turn(WorkerSlot::Health health) {
    pg::call([&] {
        const Locked locked;
        WorkerSlot& worker = working_in->worker(working_as);
        worker.last_turn_at = GetCurrentTimestamp();
        worker.health = health;
        locked.release();
    });
}

void note_failed_step(const char* purpose, const char* message) {
    if (working_in == nullptr) {
        return;
    }
    std::array<char, sizeof(WorkerSlot::step_problem)> problem;
    const int length = snprintf(problem.data(), problem.size(), "could not %s: %s", purpose, message);
    if (length >= static_cast<int>(problem.size())) {
        const int most = static_cast<int>(problem.size()) - 1;
        problem[static_cast<std::size_t>(pg_mbcliplen(problem.data(), most, most - MAX_MULTIBYTE_CHAR_LEN))] =
            '\0';
    }
    const Locked locked;
    WorkerSlot& worker = working_in->worker(working_as);
    worker.failed_steps++;
    worker.step_failed_at = GetCurrentTimestamp();
    worker.step_problem = problem;
    locked.release();
}

bool begin_start(DatabaseSlot& slot, WorkerKind kind) {
    return pg::call([&] {
        const Locked locked;
        WorkerSlot& worker = slot.worker(kind);
        const bool may =
            slot.holders == 0 && worker.state != State::running && worker.state != State::starting;
        if (may) {
            worker.state = State::starting;
            worker.started_at = GetCurrentTimestamp();
        }
        locked.release();
        return may;
    });
}

void fail_start(DatabaseSlot& slot, WorkerKind kind) {
    pg::call([&] {
        const Locked locked;
        WorkerSlot& worker = slot.worker(kind);
        if (worker.state == State::starting) {
            worker.state = State::failed;
            worker.failures++;
        }
        locked.release();
    });
}

void stop_worker(DatabaseSlot& slot, WorkerKind kind) {
    pg::call([&] {
        const Locked locked;
        tell_to_end(slot.worker(kind));
        locked.release();
    });
}

void release_database(DatabaseSlot& slot) {
    pg::call([&] {
        const Locked locked;
        if (slot.holders == 0 && !has_workers(slot)) {
            LWLockAcquire(area()->databases_lock, LW_EXCLUSIVE);
            slot.database = InvalidOid;
            LWLockRelease(area()->databases_lock);
        }
        locked.release();
    });
}

WorkerSlot worker_state(DatabaseSlot& slot, WorkerKind kind) {
    return pg::call([&] {
        const Locked locked;
        const WorkerSlot worker = slot.worker(kind);
        locked.release();
        return worker;
    });
}

pid_t launcher_pid() {
    return pg::call([] {
        const Locked locked;
        const pid_t pid = area()->header->launcher_pid;
        locked.release();
        return pid;
    });
}

namespace {

/** For use inside pg::call(). */
void wait_for_workers_to_leave(const DatabaseSlot& slot) {
    const TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 10000);
    ConditionVariablePrepareToSleep(&area()->header->worker_left);
    for (;;) {
        const Locked locked;
        const bool there = has_workers(slot);
        locked.release();
        const long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
        if (!there || left <= 0) {
            break;
        }
        ConditionVariableTimedSleep(&area()->header->worker_left, left, PG_WAIT_EXTENSION);
    }
    ConditionVariableCancelSleep();
}

}  // namespace

void keep_workers_away(DatabaseSlot& slot) {
    if (std::find(held.begin(), held.end(), &slot) == held.end()) {
        held.reserve(held.size() + 1);
        pg::call([&] {
            if (!lets_go_at_end) {
                before_shmem_exit(session_ends, 0);
                RegisterXactCallback(transaction_ends, nullptr);
                lets_go_at_end = true;
            }
            const Locked locked;
            slot.holders++;
            held.push_back(&slot);
            for (const WorkerSlot& worker : slot.workers) {
                tell_to_end(worker);
            }
            locked.release();
        });
    }
    pg::call([&] { wait_for_workers_to_leave(slot); });
}

}  // namespace apikey::shm
