#include "pg/boundary.h"
#include "pg/library_version.h"
#include "pg/log.h"
#include "pg/settings.h"
#include "shm/audit_months.h"
#include "shm/workers.h"
#include "store/mirror.h"
#include "store/upkeep.h"
#include "worker/event_writer.h"
#include "worker/pinned_settings.h"
#include "worker/signals.h"
#include "worker/transaction.h"
#include "worker/use_writer.h"

extern "C" {
PGDLLEXPORT void apikey_maintenance_main(Datum argument);
}

/**
 * The maintenance worker of a database: writes what validation leaves in shared memory to the tables, and
 * does in small steps what the tables need from time to time. Each step is a transaction of its own that can
 * fail without harm to the others, and is tried again.
 */
namespace apikey::worker {
namespace {

constexpr std::int64_t second = USECS_PER_SEC;
constexpr std::int64_t turn_us = second;
constexpr int batch = 1000;

/** Something to be done every so often. A failure is tried again after 1, 2, 4 … seconds, at last each minute
 * or so long as said. */
class Task {
  public:
    Task() = default;
    explicit Task(std::int64_t longest_delay_us) : longest_delay_us_(longest_delay_us) {}

    /** `step`: false when it failed, for which it has said why. */
    template <typename Step>
    void run_if_due(std::int64_t period_us, Step&& step) {
        const TimestampTz now = GetCurrentTimestamp();
        // Also when somebody has set the clock back.
        if (now < due_at_ && due_at_ - now <= std::max(period_us, longest_delay_us_)) {
            return;
        }
        more_ = false;
        if (step()) {
            failures_ = 0;
            delay_us_ = second;
            due_at_ = more_ ? 0 : now + period_us;
        } else {
            failures_++;
            due_at_ = now + delay_us_;
            delay_us_ = std::min(2 * delay_us_, longest_delay_us_);
        }
    }
    /** From within the step: there is more to do, at the next turn. */
    void again() { more_ = true; }
    /** Once is nothing: somebody held a lock for half a second. */
    bool is_failing() const { return failures_ >= 3; }

  private:
    std::int64_t longest_delay_us_ = 60 * second;
    TimestampTz due_at_ = 0;
    std::int64_t delay_us_ = second;
    bool more_ = false;
    int failures_ = 0;
};

bool is_other_version(pg::Installed installed) {
    return installed == pg::Installed::older || installed == pg::Installed::newer;
}

/** Is there anything to work on? nullopt: that could not be found out. Warns once of a version that does not
 * fit. */
std::optional<pg::Installed> look_for_extension() {
    static bool warned = false;
    auto found = pg::Installed::absent;
    if (!run_transaction("look for the extension",
                         [&] { found = pg::call([] { return pg::raw_installed(); }); })) {
        return std::nullopt;
    }
    if (is_other_version(found) && !warned) {
        pg::log(WARNING,
                "apikey leaves this database alone: its extension is of another version than the library",
                {.hint = pg::remedy(found)});
    }
    warned = is_other_version(found);
    return found;
}

bool expire(Task& task) {
    std::int64_t rows = 0;
    const bool done = run_step("record expired keys", [&] { rows = store::record_expired(batch); });
    if (rows >= batch) {
        task.again();
    }
    return done;
}

bool prune(Task& task) {
    std::int64_t most = 0;
    const auto note = [&](std::int64_t rows) { most = std::max(most, rows); };
    bool done = run_step("prune revocations", [&] { note(store::prune_revocations(batch)); });
    done &= run_step("prune usage", [&] { note(store::prune_usage(pg::settings::usage_retention, batch)); });
    done &= run_step("prune the usage of deleted keys", [&] { store::prune_key_usage(10 * batch); });
    if (most >= batch) {
        task.again();
    }
    return done;
}

/** Rows that the mirror worker is to read. There is one before we know that there is to be one: it may be
 * quicker to read the configuration. */
bool mirror_reads_outbox() {
    using State = shm::WorkerSlot::State;
    const State state = shm::worker_state(*shm::my_database(), shm::WorkerKind::mirror).state;
    return *pg::settings::redis_url != '\0' || state == State::starting || state == State::running;
}

/** Where there is no Redis, nobody else empties it; what is withdrawn is in revocation all the same. */
bool empty_outbox(Task& task) {
    if (mirror_reads_outbox()) {
        return true;
    }
    std::int64_t rows = 0;
    const bool done = run_step("empty the outbox", [&] {
        rows = store::prune_outbox(10 * batch);
        // One that begins after this begins by reading revocation, where all of them are.
        if (mirror_reads_outbox()) {
            throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "a mirror has just been started");
        }
    });
    if (rows > 0) {
        task.again();
    }
    return done;
}

/** Not where the extension was just being dropped, which is no failure. */
void note_month_failure(shm::MonthStep step, std::optional<DateADT> month) {
    if (last_failure().sqlstate != 0) {
        shm::note_month_failure(step, month, last_failure().sqlstate, last_failure().message.data());
    }
}

/** Each month in a transaction of its own, so that one that cannot be made keeps back no other; but where we
 * waited for a lock in vain, others would only be made to wait for us again. */
bool make_months(bool& changed) {
    std::vector<DateADT> months;
    if (!run_step("look for missing months", [&] { months = store::missing_audit_months(); })) {
        note_month_failure(shm::MonthStep::make, {});
        return false;
    }
    bool all = true;
    for (const DateADT month : months) {
        if (run_step("make a month", [&] { store::make_audit_month(month); })) {
            changed = true;
            continue;
        }
        all = false;
        note_month_failure(shm::MonthStep::make, month);
        if (must_end() || last_failure().sqlstate == ERRCODE_LOCK_NOT_AVAILABLE) {
            break;
        }
    }
    if (all) {
        shm::note_month_success(shm::MonthStep::make);
    }
    return all;
}

bool drop_month(bool& changed) {
    std::int64_t dropped = 0;
    if (!run_step("drop an old month",
                  [&] { dropped = store::drop_audit_month(pg::settings::audit_retention); })) {
        note_month_failure(shm::MonthStep::drop, {});
        return false;
    }
    changed |= dropped > 0;
    shm::note_month_success(shm::MonthStep::drop);
    return true;
}

bool partition() {
    const Interruptible interruptible;
    // Also after a failure of the statistics.
    static bool changed = false;
    bool done = make_months(changed);
    done &= drop_month(changed);
    if (must_end() || !run_step("analyze the audit trail", [&] { store::analyze_audit_trail(changed); })) {
        return false;
    }
    changed = false;
    return done;
}

void run(Oid database) {
    catch_signals();
    pg::call([&] { BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0); });
    end_in_good_order();
    if (!shm::become_worker(shm::WorkerKind::maintenance)) {
        return;
    }
    pin_worker_settings();
    Task events, uses, expiry, pruning, outbox;
    // An attempt makes writers wait for half a second, and there is more than a month's time.
    Task partitions(600 * second);
    // Months have a component of status() to themselves.
    const std::array<const Task*, 5> tasks = {&events, &uses, &expiry, &pruning, &outbox};
    bool last = false;
    while (!last) {
        // What happened before the request to end is still written.
        last = must_end();
        reload_if_asked();
        auto health = shm::WorkerSlot::Health::good;
        const std::optional<pg::Installed> installed = look_for_extension();
        if (installed == pg::Installed::same) {
            if (last) {
                // Whether they are due or not: there is nobody to do it later.
                write_events();
                write_uses();
            } else {
                events.run_if_due(0, [] { return write_events(); });
                uses.run_if_due(pg::settings::usage_interval * second, [] { return write_uses(); });
                expiry.run_if_due(5 * second, [&] { return expire(expiry); });
                pruning.run_if_due(60 * second, [&] { return prune(pruning); });
                outbox.run_if_due(5 * second, [&] { return empty_outbox(outbox); });
                partitions.run_if_due(3600 * second, [] { return partition(); });
            }
            if (std::any_of(tasks.begin(), tasks.end(),
                            [](const Task* task) { return task->is_failing(); })) {
                health = shm::WorkerSlot::Health::failing;
            }
        } else if (!installed) {
            health = shm::WorkerSlot::Health::failing;
        } else if (is_other_version(*installed)) {
            health = shm::WorkerSlot::Health::other_version;
        }
        shm::note_turn(health);
        if (!last && !must_end()) {
            wait(turn_us / 1000);
        }
    }
}

}  // namespace
}  // namespace apikey::worker

void apikey_maintenance_main(Datum argument) {
    apikey::pg::boundary([&] { apikey::worker::run(DatumGetObjectId(argument)); });
    proc_exit(0);
}
