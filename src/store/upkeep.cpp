#include "pg/datum.h"
#include "pg/spi.h"
#include "store/upkeep.h"

namespace apikey::store {
namespace {

std::optional<Datum> run(pg::Statement& statement, std::span<const pg::Parameter> parameters) {
    return statement.run(parameters) == 0 ? std::nullopt : pg::result_value(0, 1);
}

std::int64_t number(pg::Statement& statement, std::span<const pg::Parameter> parameters) {
    const pg::SpiSession spi;
    const auto value = run(statement, parameters);
    return value ? DatumGetInt64(*value) : 0;
}

/** NULL, which keeps for ever, where the setting is 0. */
pg::Parameter retention(int minutes) {
    return pg::Parameter::of(minutes > 0,
                             minutes > 0 ? pg::interval_datum(minutes * USECS_PER_MINUTE) : Datum(0));
}

}  // namespace

bool lock_against_drop() {
    return pg::call([] {
        const Oid extension = get_extension_oid("apikey", true);
        if (!OidIsValid(extension)) {
            return false;
        }
        LOCKTAG tag;
        SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
        if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) {
            return false;
        }
        // It may have gone just before.
        AcceptInvalidationMessages();
        return get_extension_oid("apikey", true) == extension;
    });
}

Oid extension_id() {
    return pg::call([] { return get_extension_oid("apikey", true); });
}

std::int64_t record_expired(int batch) {
    static pg::Statement statement("SELECT apikey.record_expired($1)", INT4OID);
    const std::array<pg::Parameter, 1> parameters = {Int32GetDatum(batch)};
    return number(statement, parameters);
}

std::int64_t prune_revocations(int batch) {
    static pg::Statement statement("SELECT apikey.prune_revocations($1)", INT4OID);
    const std::array<pg::Parameter, 1> parameters = {Int32GetDatum(batch)};
    return number(statement, parameters);
}

std::int64_t prune_usage(int retention_minutes, int batch) {
    static pg::Statement statement("SELECT apikey.prune_usage($1, $2)", INTERVALOID, INT4OID);
    const std::array<pg::Parameter, 2> parameters = {retention(retention_minutes), Int32GetDatum(batch)};
    return number(statement, parameters);
}

std::int64_t prune_key_usage(int batch) {
    static std::optional<core::Uuid> last;
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT p.removed, p.last FROM apikey.prune_key_usage($1, $2) p", UUIDOID,
                                   INT4OID);
    const std::array<pg::Parameter, 2> parameters = {
        pg::Parameter::of(last.has_value(), last ? pg::uuid_datum(*last) : Datum(0)), Int32GetDatum(batch)};
    statement.run(parameters);
    const auto looked_at = pg::result_value(0, 2);
    last = looked_at ? std::optional(pg::uuid_from_datum(*looked_at)) : std::nullopt;
    return DatumGetInt64(pg::result_value(0, 1).value_or(Datum(0)));
}

std::vector<DateADT> missing_audit_months() {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT m FROM apikey.missing_audit_months() m");
    std::vector<DateADT> months(statement.run({}));
    for (std::size_t i = 0; i < months.size(); i++) {
        months[i] = DatumGetDateADT(*pg::result_value(i, 1));
    }
    return months;
}

void make_audit_month(DateADT month) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT apikey.make_audit_month($1)", DATEOID);
    const std::array<pg::Parameter, 1> parameters = {DateADTGetDatum(month)};
    statement.run(parameters);
}

std::int64_t drop_audit_month(int retention_minutes) {
    static pg::Statement statement("SELECT apikey.drop_audit_month($1)", INTERVALOID);
    const std::array<pg::Parameter, 1> parameters = {retention(retention_minutes)};
    return number(statement, parameters);
}

void analyze_audit_trail(bool changed) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT apikey.analyze_audit_trail($1)", BOOLOID);
    const std::array<pg::Parameter, 1> parameters = {BoolGetDatum(changed)};
    statement.run(parameters);
}

}  // namespace apikey::store
