#include "pg/datum.h"
#include "pg/spi.h"
#include "store/usage.h"

namespace apikey::store {
namespace {

using Column = std::vector<std::optional<Datum>>;

}  // namespace

void add_usage(std::span<const CodeCount> counts) {
    const pg::SpiSession spi;
    Column key_id, code, count;
    for (const CodeCount& row : counts) {
        key_id.push_back(pg::uuid_datum(row.key_id));
        code.push_back(pg::text_datum(core::info(row.code).name));
        count.push_back(Int64GetDatum(row.count));
    }
    // In order, so that no two writers wait for each other's rows.
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.usage AS u (key_id, hour, code, count)
            SELECT n.key_id, pg_catalog.date_trunc('hour', pg_catalog.now(), 'UTC'), n.code,
                   pg_catalog.sum(n.count)::pg_catalog.int8
              FROM unnest($1, $2, $3) AS n(key_id, code, count)
             GROUP BY n.key_id, n.code
             ORDER BY n.key_id, n.code
            ON CONFLICT (key_id, hour, code) DO UPDATE
               SET count = u.count + EXCLUDED.count
        )sql",
        UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID);
    const std::array<pg::Parameter, 3> parameters = {
        pg::array_datum(UUIDOID, key_id), pg::array_datum(TEXTOID, code), pg::array_datum(INT8OID, count)};
    statement.run(parameters);
}

void set_last_uses(std::span<const LastUse> uses) {
    const pg::SpiSession spi;
    Column key_id, at, client;
    for (const LastUse& use : uses) {
        key_id.push_back(pg::uuid_datum(use.key_id));
        at.push_back(TimestampTzGetDatum(use.at));
        client.push_back(use.client ? std::optional(pg::inet_datum(*use.client)) : std::nullopt);
    }
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.key_usage AS u (key_id, last_used_at, last_client)
            SELECT DISTINCT ON (n.key_id) n.key_id, n.at, n.client
              FROM unnest($1, $2, $3) AS n(key_id, at, client)
             ORDER BY n.key_id, n.at DESC
            ON CONFLICT (key_id) DO UPDATE
               SET last_used_at = EXCLUDED.last_used_at, last_client = EXCLUDED.last_client
             WHERE EXCLUDED.last_used_at > u.last_used_at
        )sql",
        UUIDARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID);
    const std::array<pg::Parameter, 3> parameters = {pg::array_datum(UUIDOID, key_id),
                                                     pg::array_datum(TIMESTAMPTZOID, at),
                                                     pg::array_datum(INETOID, client)};
    statement.run(parameters);
}

}  // namespace apikey::store
