#include "pg/datum.h"
#include "pg/spi.h"
#include "store/denials.h"

namespace apikey::store {

void insert_denials(std::span<const Denial> denials) {
    const pg::SpiSession spi;
    using Column = std::vector<std::optional<Datum>>;
    Column at, until, count, code, operation, key_id, generation, session_user, outer_user, client, summary;
    for (const Denial& denial : denials) {
        at.push_back(TimestampTzGetDatum(denial.first_at));
        until.push_back(TimestampTzGetDatum(denial.last_at));
        count.push_back(Int64GetDatum(denial.count));
        code.push_back(pg::text_datum(core::info(denial.code).name));
        operation.push_back(pg::text_datum(denial.operation));
        key_id.push_back(denial.key_id ? std::optional(pg::uuid_datum(*denial.key_id)) : std::nullopt);
        generation.push_back(denial.generation ? std::optional(Int32GetDatum(*denial.generation))
                                               : std::nullopt);
        session_user.push_back(ObjectIdGetDatum(denial.session_user));
        outer_user.push_back(ObjectIdGetDatum(denial.outer_user));
        client.push_back(denial.client ? std::optional(pg::inet_datum(*denial.client)) : std::nullopt);
        summary.push_back(BoolGetDatum(denial.summary));
    }
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.audit_event
                   (at, event, key_id, generation, owner, code, actor, actor_role, client, detail)
            SELECT d.at, 'denied', d.key_id, d.generation, k.owner, d.code,
                   pg_catalog.pg_get_userbyid(d.session_user_id), pg_catalog.pg_get_userbyid(d.outer_user_id),
                   d.client,
                   pg_catalog.jsonb_build_object('operation', d.operation)
                   || CASE WHEN d.count > 1
                           THEN pg_catalog.jsonb_build_object('count', d.count, 'until', d.until)
                           ELSE '{}' END
                   || CASE WHEN d.summary
                           THEN pg_catalog.jsonb_build_object('summary', true)
                           ELSE '{}' END
              FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                   AS d(at, until, count, code, operation, key_id, generation, session_user_id, outer_user_id,
                        client, summary)
              LEFT JOIN apikey.key k ON k.key_id = d.key_id
             ORDER BY d.at
        )sql",
        TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, UUIDARRAYOID,
        INT4ARRAYOID, OIDARRAYOID, OIDARRAYOID, INETARRAYOID, BOOLARRAYOID);
    const std::array<pg::Parameter, 11> parameters = {
        pg::array_datum(TIMESTAMPTZOID, at),  pg::array_datum(TIMESTAMPTZOID, until),
        pg::array_datum(INT8OID, count),      pg::array_datum(TEXTOID, code),
        pg::array_datum(TEXTOID, operation),  pg::array_datum(UUIDOID, key_id),
        pg::array_datum(INT4OID, generation), pg::array_datum(OIDOID, session_user),
        pg::array_datum(OIDOID, outer_user),  pg::array_datum(INETOID, client),
        pg::array_datum(BOOLOID, summary)};
    statement.run(parameters);
}

}  // namespace apikey::store
