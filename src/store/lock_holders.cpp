#include "store/lock_holders.h"

#include <csignal>

#include "core/json_writer.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/log.h"
#include "pg/spi.h"
#include "store/audit.h"

extern "C" {
#include "catalog/pg_class.h"
}

namespace apikey::store {
namespace {

/** Nothing in PostgreSQL locks a table as a part of an object. */
constexpr std::uint16_t mark_number = 60;

struct Holder {
    std::int32_t pid = 0;
    std::string user;
    std::string application;
    std::string prepared;  ///< the gid of a prepared transaction, which has no pid
};

std::string text_result(std::uint64_t row, int column) {
    const auto value = pg::result_value(row, column);
    return value ? std::string(pg::text_view(*value)) : std::string();
}

std::vector<Holder> find_holders(const RowLockers& lockers) {
    const pg::SpiSession spi;
    // In line for a row means to hold, or to wait for, the lock on the tuple.
    static pg::Statement statement(
        R"sql(
            WITH w AS (
                SELECT l.pid, l.virtualtransaction, l.transactionid
                  FROM pg_catalog.pg_locks l
                 WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
                   AND l.transactionid::pg_catalog.text = ANY ($1)
                UNION ALL
                SELECT l.pid, l.virtualtransaction, NULL
                  FROM pg_catalog.pg_locks l
                 WHERE l.locktype = 'tuple' AND l.database = $2 AND l.relation = $3
                   AND l.page = $4 AND l.tuple = $5
                   AND NOT EXISTS (
                           SELECT FROM pg_catalog.pg_locks m
                            WHERE m.locktype = 'object' AND m.database = $2
                              AND m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                              AND m.objid = $3 AND m.objsubid = $6
                              AND m.pid = l.pid)
                UNION ALL
                SELECT l.pid, l.virtualtransaction, NULL
                  FROM pg_catalog.pg_locks l
                  LEFT JOIN pg_catalog.pg_stat_activity s USING (pid)
                  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.usesysid
                 WHERE l.locktype = 'relation' AND l.granted AND l.database = $2 AND l.relation = $3
                   AND r.rolsuper IS NOT TRUE
                   AND (l.mode = ANY ($7)
                        OR EXISTS (
                               SELECT FROM pg_catalog.pg_locks q
                                WHERE q.locktype = 'relation' AND NOT q.granted
                                  AND q.database = $2 AND q.relation = $3 AND q.mode = ANY ($7)))
            )
            SELECT DISTINCT coalesce(w.pid, 0), coalesce(a.usename, '')::pg_catalog.text,
                   coalesce(a.application_name, ''), coalesce(p.gid, '')
              FROM w
              LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
              LEFT JOIN pg_catalog.pg_locks t
                     ON w.pid IS NULL AND t.pid IS NULL
                    AND t.virtualtransaction = w.virtualtransaction AND t.locktype = 'transactionid'
              LEFT JOIN pg_catalog.pg_prepared_xacts p
                     ON p.transaction = coalesce(w.transactionid, t.transactionid) AND w.pid IS NULL
             WHERE w.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
             ORDER BY 1
        )sql",
        TEXTARRAYOID, OIDOID, OIDOID, INT4OID, INT2OID, INT2OID, TEXTARRAYOID);
    std::vector<std::string> transactions;
    for (const TransactionId transaction : lockers.transactions) {
        transactions.push_back(std::to_string(transaction));
    }
    // Those that conflict with the lock of an UPDATE.
    static const std::array<std::string, 4> modes = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock",
                                                     "AccessExclusiveLock"};
    const std::array<pg::Parameter, 7> parameters = {
        pg::text_array_datum(transactions),
        ObjectIdGetDatum(MyDatabaseId),
        ObjectIdGetDatum(lockers.table),
        Int32GetDatum(static_cast<std::int32_t>(ItemPointerGetBlockNumberNoCheck(&lockers.place))),
        Int16GetDatum(static_cast<std::int16_t>(ItemPointerGetOffsetNumberNoCheck(&lockers.place))),
        Int16GetDatum(mark_number),
        pg::text_array_datum(modes)};
    const std::uint64_t rows = statement.run(parameters);
    std::vector<Holder> holders;
    for (std::uint64_t row = 0; row < rows; row++) {
        holders.push_back({DatumGetInt32(pg::result_value(row, 1).value()), text_result(row, 2),
                           text_result(row, 3), text_result(row, 4)});
    }
    return holders;
}

[[noreturn]] void refuse_prepared(const Holder& holder, const HeldUp& held_up) {
    throw pg::Failure(ERRCODE_OBJECT_IN_USE, held_up.what + " is locked by a prepared transaction",
                      holder.prepared.empty()
                          ? std::string()
                          : "The transaction \"" + holder.prepared + "\" has changed or locked it.",
                      "End it with COMMIT PREPARED or ROLLBACK PREPARED, and try again.");
}

void record(const Holder& holder, const HeldUp& held_up) {
    KeyEvent event{};
    event.event = "session_terminated";
    event.key_id = held_up.key_id ? std::optional(pg::uuid_datum(*held_up.key_id)) : std::nullopt;
    event.detail = pg::jsonb_datum(core::JsonWriter()
                                       .add("pid", holder.pid)
                                       .add("user", holder.user)
                                       .add("application", holder.application)
                                       .text());
    write_audit_event(event);
}

void terminate(const Holder& holder, const HeldUp& held_up) {
    const bool ended =
        pg::call([&] { return BackendPidGetProc(holder.pid) != nullptr && kill(holder.pid, SIGTERM) == 0; });
    if (ended) {
        const std::string detail = "It holds up the revocation of " + held_up.what + '.';
        pg::log(LOG,
                "apikey terminates the session with PID " + std::to_string(holder.pid) + " of user \"" +
                    holder.user + '"',
                {.detail = detail.c_str()});
        record(holder, held_up);
    }
}

}  // namespace

RevokerMark::RevokerMark(Oid table) {
    SET_LOCKTAG_OBJECT(tag_, MyDatabaseId, RelationRelationId, table, mark_number);
    pg::call([&] { (void)LockAcquire(&tag_, RowShareLock, false, false); });
}

RevokerMark::~RevokerMark() {
    LockRelease(&tag_, RowShareLock, false);
}

void end_lock_holders(const RowLockers& lockers, const HeldUp& held_up) {
    const std::vector<Holder> holders = find_holders(lockers);
    for (const Holder& holder : holders) {
        if (holder.pid == 0) {
            refuse_prepared(holder, held_up);
        }
    }
    for (const Holder& holder : holders) {
        terminate(holder, held_up);
    }
}

}  // namespace apikey::store
