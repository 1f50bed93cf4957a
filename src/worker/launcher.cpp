#include <map>
#include <set>

#include "pg/boundary.h"
#include "pg/log.h"
#include "pg/memory_scope.h"
#include "pg/settings.h"
#include "shm/workers.h"
#include "worker/launcher.h"
#include "worker/signals.h"
#include "worker/transaction.h"

extern "C" {
PGDLLEXPORT void apikey_launcher_main(Datum argument);
}

namespace apikey::worker {
namespace {

using State = shm::WorkerSlot::State;

constexpr std::int64_t first_delay_us = USECS_PER_SEC;
constexpr std::int64_t longest_delay_us = 60 * USECS_PER_SEC;
/** Who has run for so long has not failed at its start. */
constexpr std::int64_t settled_us = 60 * USECS_PER_SEC;
/** A worker that was asked for and has not come by then never will. */
constexpr std::int64_t start_timeout_us = 30 * USECS_PER_SEC;
/** How often the list of databases is looked at though nothing has happened: one may have been created. */
constexpr std::int64_t longest_wait_us = 10 * USECS_PER_SEC;

/** pg_database.datconnlimit of one that an interrupted DROP DATABASE has left behind
 * (DATCONNLIMIT_INVALID_DB, which the first minor releases do not know): nobody can connect to it. */
constexpr std::int32_t invalid_database = -2;

/** What the launcher remembers of a worker. */
struct Attempts {
    BackgroundWorkerHandle* handle = nullptr;  ///< null where an earlier launcher started it
    TimestampTz next_at = 0;
    std::int64_t delay_us = first_delay_us;
    bool warned = false;  ///< of a shortage of places, once until there is one again
    bool seen_alive = false;
};

using shm::WorkerKind;

struct WorkerProgram {
    WorkerKind kind;
    const char* name;
    const char* function;
};
constexpr std::array<WorkerProgram, shm::worker_kinds> programs = {{
    {WorkerKind::maintenance, "apikey maintenance", "apikey_maintenance_main"},
    {WorkerKind::mirror, "apikey mirror", "apikey_mirror_main"},
}};

/** The mirror worker is there only where there is a Redis to mirror to. */
bool is_wanted(WorkerKind kind) {
    return kind != WorkerKind::mirror || *pg::settings::redis_url != '\0';
}

std::map<std::pair<Oid, WorkerKind>, Attempts> attempts;

using Names = std::set<std::string, std::less<>>;

struct Databases {
    std::set<Oid> existing;
    std::set<Oid> wanted;  ///< those of apikey.databases
    Names absent;          ///< names there that are no database's that takes connections
    Names overlong;        ///< names there that are cut off
};

Names names_in(const List* list) {
    Names names;
    for (int i = 0; i < list_length(list); i++) {
        names.emplace(static_cast<const char*>(list_nth(list, i)));
    }
    return names;
}

/** The names of apikey.databases that are cut off, as they were given. */
Names overlong_names() {
    const List* given = pg::call([] {
        List* names = NIL;
        SplitGUCList(pstrdup(GetConfigOption("apikey.databases", false, false)), ',', &names);
        return names;
    });
    Names names = names_in(given);
    std::erase_if(names, [](const std::string& name) { return name.size() < NAMEDATALEN; });
    return names;
}

/** nullopt when that failed. By a scan of the whole of pg_database: a process without a database cannot open
 * its indexes, unless another has left the shared relation cache behind. */
std::optional<Databases> look_at_databases() {
    Databases databases;
    const bool done = run_transaction("look at the databases", [&] {
        const Names names = names_in(pg::call([] { return pg::settings::raw_database_names(); }));
        databases.overlong = overlong_names();
        databases.absent = names;
        Relation relation = pg::call([] { return table_open(DatabaseRelationId, AccessShareLock); });
        TableScanDesc scan = pg::call([&] { return table_beginscan_catalog(relation, 0, nullptr); });
        while (HeapTuple tuple = pg::call([&] { return heap_getnext(scan, ForwardScanDirection); })) {
            const auto* row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
            databases.existing.insert(row->oid);
            if (row->datallowconn && row->datconnlimit != invalid_database &&
                names.contains(std::string_view(NameStr(row->datname)))) {
                databases.wanted.insert(row->oid);
                databases.absent.erase(NameStr(row->datname));
            }
        }
        pg::call([&] {
            table_endscan(scan);
            table_close(relation, AccessShareLock);
        });
    });
    return done ? std::optional(databases) : std::nullopt;
}

void ask_postmaster(shm::DatabaseSlot& slot, const WorkerProgram& program, Attempts& attempt) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(slot.database);
    worker.bgw_notify_pid = MyProcPid;
    strlcpy(worker.bgw_library_name, "apikey", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, program.function, sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, program.name, sizeof(worker.bgw_name));
    strlcpy(worker.bgw_type, program.name, sizeof(worker.bgw_type));
    BackgroundWorkerHandle* handle = nullptr;
    const pg::MemoryScope for_life(TopMemoryContext);
    const bool registered = pg::call([&] { return RegisterDynamicBackgroundWorker(&worker, &handle); });
    if (attempt.handle != nullptr) {
        pfree(attempt.handle);
    }
    attempt.handle = registered ? handle : nullptr;
    if (registered) {
        attempt.warned = false;
        return;
    }
    shm::fail_start(slot, program.kind);
    if (!attempt.warned) {
        attempt.warned = true;
        pg::log(WARNING, std::string("apikey found no place for the worker \"") + program.name + '"',
                {.hint = "Increase max_worker_processes: apikey takes one for its launcher, one for each of "
                         "apikey.databases, and with apikey.redis_url a second one for each."});
    }
}

/** Did the worker that was asked for end before it could say anything? */
bool never_came(const shm::WorkerSlot& worker, const Attempts& attempt, TimestampTz now) {
    if (attempt.handle != nullptr) {
        pid_t pid = 0;
        return pg::call([&] { return GetBackgroundWorkerPid(attempt.handle, &pid); }) == BGWH_STOPPED;
    }
    return now - worker.started_at > start_timeout_us;
}

/** Starts the worker, if there is none and it is time. */
void look_after(shm::DatabaseSlot& slot, const WorkerProgram& program, Attempts& attempt, TimestampTz now) {
    shm::WorkerSlot worker = shm::worker_state(slot, program.kind);
    if (worker.state == State::starting && never_came(worker, attempt, now)) {
        // Read again: it may have come and gone in between.
        shm::fail_start(slot, program.kind);
        worker = shm::worker_state(slot, program.kind);
    }
    if (worker.state == State::running) {
        attempt.seen_alive = true;
        if (now - worker.started_at > settled_us) {
            attempt.delay_us = first_delay_us;
        }
        return;
    }
    if (worker.state == State::starting) {
        return;
    }
    if (attempt.next_at == 0) {
        // Just ended, or never started: the first start is at once, another one a while after the end.
        attempt.next_at = attempt.seen_alive || worker.failures > 0 ? now + attempt.delay_us : now;
    }
    // Where somebody has set the clock back, now.
    const bool in_time = now >= attempt.next_at || attempt.next_at - now > longest_delay_us;
    if (!in_time || !shm::begin_start(slot, program.kind)) {
        return;
    }
    attempt.next_at = 0;
    attempt.delay_us =
        worker.state == State::failed ? std::min(2 * attempt.delay_us, longest_delay_us) : first_delay_us;
    ask_postmaster(slot, program, attempt);
}

/** Workers that are not wanted any more are told to end; databases that are gone lose their place. */
void clear_away(const Databases& databases) {
    for (shm::DatabaseSlot& slot : shm::area()->databases) {
        const Oid database = slot.database;
        if (!OidIsValid(database)) {
            continue;
        }
        const bool listed = databases.wanted.contains(database);
        for (const WorkerProgram& program : programs) {
            if (listed && is_wanted(program.kind)) {
                continue;
            }
            const State state = shm::worker_state(slot, program.kind).state;
            if (state == State::running) {
                shm::stop_worker(slot, program.kind);
            } else if (state != State::starting) {
                attempts.erase({database, program.kind});
            }
        }
        if (!listed && !databases.existing.contains(database)) {
            shm::release_database(slot);
        }
    }
}

void warn_of_full_area() {
    static bool warned = false;
    if (!warned) {
        warned = true;
        pg::log(WARNING, "apikey has no place for one more database",
                {.hint = "Increase apikey.max_databases."});
    }
}

/** Of each name once, until there is nothing to warn of: then once more when there is. */
void warn_of_names(const Databases& databases) {
    static Names absent;
    static Names overlong;
    for (const std::string& name : databases.absent) {
        if (absent.insert(name).second) {
            pg::log(WARNING,
                    "database \"" + name + "\" of apikey.databases does not exist or takes no connections",
                    {.hint = "It gets its workers when it does. Names are as in SQL: without double quotes "
                             "they are folded to lower case."});
        }
    }
    for (const std::string& name : databases.overlong) {
        if (overlong.insert(name).second) {
            pg::log(WARNING,
                    "name \"" + name + "\" in apikey.databases is longer than " +
                        std::to_string(NAMEDATALEN - 1) + " bytes",
                    {.hint = "It is cut off there, as the name of a database is."});
        }
    }
    absent = databases.absent;
    overlong = databases.overlong;
}

void turn() {
    const auto databases = look_at_databases();
    if (!databases) {
        return;
    }
    warn_of_names(*databases);
    const TimestampTz now = GetCurrentTimestamp();
    for (const Oid database : databases->wanted) {
        shm::DatabaseSlot* slot = shm::database_slot(database);
        if (slot == nullptr) {
            warn_of_full_area();
            continue;
        }
        for (const WorkerProgram& program : programs) {
            if (is_wanted(program.kind)) {
                look_after(*slot, program, attempts[{database, program.kind}], now);
            }
        }
    }
    clear_away(*databases);
}

long wait_ms() {
    std::int64_t wait_us = longest_wait_us;
    const TimestampTz now = GetCurrentTimestamp();
    for (const auto& [worker, attempt] : attempts) {
        if (attempt.next_at != 0) {
            wait_us = std::clamp<std::int64_t>(attempt.next_at - now, 10'000, wait_us);
        }
    }
    return static_cast<long>(wait_us / 1000);
}

void run() {
    catch_signals();
    pg::call([] { BackgroundWorkerInitializeConnection(nullptr, nullptr, 0); });
    end_in_good_order();
    shm::become_launcher();
    while (!must_end()) {
        reload_if_asked();
        turn();
        wait(wait_ms());
    }
}

}  // namespace

void register_launcher() {
    BackgroundWorker launcher{};
    launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
    launcher.bgw_restart_time = 1;
    strlcpy(launcher.bgw_library_name, "apikey", sizeof(launcher.bgw_library_name));
    strlcpy(launcher.bgw_function_name, "apikey_launcher_main", sizeof(launcher.bgw_function_name));
    strlcpy(launcher.bgw_name, "apikey launcher", sizeof(launcher.bgw_name));
    strlcpy(launcher.bgw_type, "apikey launcher", sizeof(launcher.bgw_type));
    RegisterBackgroundWorker(&launcher);
}

}  // namespace apikey::worker

void apikey_launcher_main(Datum /*argument*/) {
    apikey::pg::boundary([] { apikey::worker::run(); });
    // Not 0, which would mean never again: whoever stops the launcher gets another one.
    proc_exit(1);
}
