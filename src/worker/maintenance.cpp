#include "pg/boundary.h"
#include "pg/settings.h"
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

/** Something to be done every so often. A failure is tried again after 1, 2, 4 … 60 seconds. */
class Task {
  public:
    /** `step`: false when it failed, for which it has said why. */
    template <typename Step>
    void run_if_due(std::int64_t period_us, Step&& step) {
        const TimestampTz now = GetCurrentTimestamp();
        // Also when somebody has set the clock back.
        if (now < due_at_ && due_at_ - now <= std::max(period_us, longest_delay_us)) {
            return;
        }
        more_ = false;
        if (step()) {
            delay_us_ = second;
            due_at_ = more_ ? 0 : now + period_us;
        } else {
            due_at_ = now + delay_us_;
            delay_us_ = std::min(2 * delay_us_, longest_delay_us);
        }
    }
    /** From within the step: there is more to do, at the next turn. */
    void again() { more_ = true; }

  private:
    static constexpr std::int64_t longest_delay_us = 60 * second;
    TimestampTz due_at_ = 0;
    std::int64_t delay_us_ = second;
    bool more_ = false;
};

/** Is there anything to work on? Warns once of a version that does not fit. */
bool is_installed() {
    static bool warned = false;
    store::Installation found = store::Installation::absent;
    if (!run_transaction("look for the extension", [&] { found = store::installation(); })) {
        return false;
    }
    if (found == store::Installation::other_version && !warned) {
        pg::call([] {
            ereport(WARNING,
                    (errmsg("apikey leaves this database alone: its extension is of another version than "
                            "the library"),
                     errhint("ALTER EXTENSION apikey UPDATE;")));
        });
    }
    warned = found == store::Installation::other_version;
    return found == store::Installation::complete;
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

bool withdraw_months() {
    return run_step("withdraw a month", [] { store::withdraw_audit_months(); });
}

bool make_months() {
    const Interruptible interruptible;
    for (;;) {
        std::optional<DateADT> month;
        if (!run_step("look for missing months", [&] { month = store::missing_audit_month(); })) {
            return false;
        }
        if (!month) {
            return true;
        }
        if (!run_step("announce a month", [&] { store::announce_audit_month(*month); }) ||
            !run_step("validate a month", [&] { store::validate_audit_month(*month); }) ||
            !run_step("attach a month", [&] { store::attach_audit_month(*month); })) {
            return false;
        }
    }
}

/** Months to come, so that no row that is there has to move. A month is never left half-way: when it begins,
 * the default partition must take its events, or another. Before, since a crash may have left one; after,
 * since we may fail. */
bool partition() {
    return withdraw_months() && (make_months() || (withdraw_months(), false)) &&
           run_step("drop an old month", [] { store::drop_audit_month(pg::settings::audit_retention); });
}

void run(Oid database) {
    catch_signals();
    pg::call([&] { BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0); });
    end_in_good_order();
    if (!shm::become_worker(shm::WorkerKind::maintenance)) {
        return;
    }
    pin_worker_settings();
    Task events, uses, expiry, pruning, outbox, partitions;
    bool last = false;
    while (!last) {
        // What happened before the request to end is still written.
        last = must_end();
        reload_if_asked();
        if (is_installed()) {
            if (last) {
                // Whether they are due or not: there is nobody to do it later.
                write_events();
                write_uses();
                withdraw_months();
            } else {
                events.run_if_due(0, [] { return write_events(); });
                uses.run_if_due(pg::settings::usage_interval * second, [] { return write_uses(); });
                expiry.run_if_due(5 * second, [&] { return expire(expiry); });
                pruning.run_if_due(60 * second, [&] { return prune(pruning); });
                outbox.run_if_due(5 * second, [&] { return empty_outbox(outbox); });
                partitions.run_if_due(3600 * second, [] { return partition(); });
            }
        }
        shm::note_turn();
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
