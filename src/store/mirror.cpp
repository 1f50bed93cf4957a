#include "store/mirror.h"

#include "pg/datum.h"
#include "pg/spi.h"

namespace apikey::store {
namespace {

using Column = std::vector<std::optional<Datum>>;

/** No key has the nil UUID: all ours are of version 7. */
constexpr core::Uuid before_all_keys{};

std::optional<std::int32_t> optional_integer(std::uint64_t row, int column) {
    const auto value = pg::result_value(row, column);
    return value ? std::optional(DatumGetInt32(*value)) : std::nullopt;
}

std::string text(std::uint64_t row, int column) {
    const auto value = pg::result_value(row, column);
    return value ? std::string(pg::text_view(*value)) : std::string();
}

/** From five columns of the result, from `first` on. */
Withdrawal withdrawal(std::uint64_t row, int first) {
    Withdrawal found{};
    found.key_id = pg::uuid_from_datum(pg::result_value(row, first).value());
    found.generation = optional_integer(row, first + 1);
    found.changed = DatumGetBool(pg::result_value(row, first + 2).value());
    found.effective_at = DatumGetTimestampTz(pg::result_value(row, first + 3).value());
    found.until = DatumGetTimestampTz(pg::result_value(row, first + 4).value());
    return found;
}

std::vector<Withdrawal> withdrawals(std::uint64_t rows) {
    std::vector<Withdrawal> found;
    found.reserve(rows);
    for (std::uint64_t row = 0; row < rows; row++) {
        found.push_back(withdrawal(row, 1));
    }
    return found;
}

}  // namespace

OutboxBatch read_outbox(int limit) {
    const pg::SpiSession spi;
    // In the order of the keys, so that a key that changed several times is sent once. Sorted before
    // revocation is looked into: that keeps the order, and neighbours are found faster.
    static pg::Statement statement(
        R"sql(
            WITH batch AS MATERIALIZED (
                SELECT f.*
                  FROM (SELECT o.id, o.topic, o.key_id, o.xid, o.restored, o.reason
                          FROM apikey.outbox o
                         ORDER BY o.id
                         LIMIT $1) f
                 ORDER BY f.key_id, f.id
            )
            SELECT b.id, b.topic, b.xid::pg_catalog.text, b.reason,
                   b.key_id, r.generation, r.kind = 'changed', r.effective_at, r.until,
                   b.restored
              FROM batch b
              LEFT JOIN apikey.revocation r ON r.key_id = b.key_id
             ORDER BY b.key_id, b.id
        )sql",
        INT4OID);
    const std::array<pg::Parameter, 1> parameters = {Int32GetDatum(limit)};
    const std::uint64_t rows = statement.run(parameters);
    OutboxBatch batch;
    std::int64_t first_id_of_key = 0;
    for (std::uint64_t row = 0; row < rows; row++) {
        const std::int64_t id = DatumGetInt64(pg::result_value(row, 1).value());
        if (batch.ids.empty() || batch.ids.back() != id) {
            batch.ids.push_back(id);
        }
        const auto key_id = pg::result_value(row, 5);
        if (!key_id) {
            (text(row, 2) == "roles" ? batch.roles : batch.jwks) = true;
            continue;
        }
        const core::Uuid uuid = pg::uuid_from_datum(*key_id);
        if (batch.keys.empty() || batch.keys.back().key_id != uuid) {
            batch.keys.push_back({uuid, false, {}, {}, {}});
            first_id_of_key = id;
        }
        ChangedKey& key = batch.keys.back();
        key.xid = text(row, 3);
        key.reason = text(row, 4);
        key.restored |= DatumGetBool(pg::result_value(row, 10).value());
        if (id == first_id_of_key && pg::result_value(row, 9)) {
            key.withdrawals.push_back(withdrawal(row, 5));
        }
    }
    return batch;
}

std::int64_t highest_in_outbox() {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT pg_catalog.max(o.id) FROM apikey.outbox o");
    statement.run({});
    return DatumGetInt64(pg::result_value(0, 1).value_or(Datum(0)));
}

void delete_from_outbox(std::span<const std::int64_t> ids) {
    const pg::SpiSession spi;
    // By runs of numbers without a gap, of which a backlog has few: each costs one search in the index.
    static pg::Statement statement(
        R"sql(
            DELETE FROM apikey.outbox o
             USING unnest($1, $2) AS run(first, last)
             WHERE o.id >= run.first AND o.id <= run.last
        )sql",
        INT8ARRAYOID, INT8ARRAYOID);
    std::vector<std::int64_t> sorted(ids.begin(), ids.end());
    std::sort(sorted.begin(), sorted.end());
    Column first, last;
    for (std::size_t i = 0; i < sorted.size(); i++) {
        if (i == 0 || sorted[i] != sorted[i - 1] + 1) {
            first.emplace_back(Int64GetDatum(sorted[i]));
            last.emplace_back();
        }
        last.back() = Int64GetDatum(sorted[i]);
    }
    const std::array<pg::Parameter, 2> parameters = {pg::array_datum(INT8OID, first),
                                                     pg::array_datum(INT8OID, last)};
    statement.run(parameters);
}

std::vector<Withdrawal> read_due(TimestampTz from, TimestampTz to, int limit) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT r.key_id, r.generation, false, r.effective_at, r.until
              FROM apikey.revocation r
             WHERE r.generation IS NOT NULL AND r.kind = 'withdrawn'
               AND r.effective_at > $1 AND r.effective_at <= $2
             ORDER BY r.effective_at
             FETCH FIRST $3 ROWS WITH TIES
        )sql",
        TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID);
    const std::array<pg::Parameter, 3> parameters = {TimestampTzGetDatum(from), TimestampTzGetDatum(to),
                                                     Int32GetDatum(limit)};
    return withdrawals(statement.run(parameters));
}

std::vector<Withdrawal> read_withdrawals(const core::Uuid* after, int limit) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT r.key_id, r.generation, r.kind = 'changed', r.effective_at, r.until
              FROM apikey.revocation r
             WHERE r.key_id > $1
             ORDER BY r.key_id
             FETCH FIRST $2 ROWS WITH TIES
        )sql",
        UUIDOID, INT4OID);
    const std::array<pg::Parameter, 2> parameters = {
        pg::uuid_datum(after == nullptr ? before_all_keys : *after), Int32GetDatum(limit)};
    return withdrawals(statement.run(parameters));
}

CountedWithdrawals count_withdrawals(const core::Uuid* after, int limit, TimestampTz effective,
                                     TimestampTz until) {
    const pg::SpiSession spi;
    // What this snapshot shows in the outbox may not be there yet, however long ago it was written: it may
    // have been committed just now.
    static pg::Statement statement(
        R"sql(
            WITH page AS MATERIALIZED (
                SELECT r.key_id, r.effective_at, r.until
                  FROM apikey.revocation r
                 WHERE r.key_id > $1
                 ORDER BY r.key_id
                 FETCH FIRST $2 ROWS WITH TIES
            )
            SELECT apikey.redis_bucket(p.key_id), pg_catalog.count(*), NULL::pg_catalog.uuid
              FROM page p
             WHERE p.effective_at <= $3 AND p.until > $4
               AND p.key_id NOT IN (SELECT o.key_id FROM apikey.outbox o WHERE o.key_id IS NOT NULL)
             GROUP BY 1
            UNION ALL
            (SELECT NULL, NULL, p.key_id FROM page p ORDER BY p.key_id DESC LIMIT 1)
        )sql",
        UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID);
    const std::array<pg::Parameter, 4> parameters = {
        pg::uuid_datum(after == nullptr ? before_all_keys : *after), Int32GetDatum(limit),
        TimestampTzGetDatum(effective), TimestampTzGetDatum(until)};
    const std::uint64_t rows = statement.run(parameters);
    CountedWithdrawals counted;
    for (std::uint64_t row = 0; row < rows; row++) {
        if (const auto last = pg::result_value(row, 3)) {
            counted.last = pg::uuid_from_datum(*last);
        } else {
            const int bucket = DatumGetInt32(pg::result_value(row, 1).value());
            counted.by_bucket.at(static_cast<std::size_t>(bucket)) =
                DatumGetInt64(pg::result_value(row, 2).value());
        }
    }
    return counted;
}

std::vector<Standing> standing_of(std::span<const std::string> members) {
    const pg::SpiSession spi;
    // A member that names no key at all is unknown, whatever it is.
    static pg::Statement statement(
        R"sql(
            SELECT CASE WHEN EXISTS (
                             SELECT FROM apikey.revocation r
                              WHERE r.key_id = p.key_id
                                AND r.generation IS NOT DISTINCT FROM p.generation
                                AND r.kind = p.kind
                                AND (r.generation IS NULL OR r.kind = 'changed'
                                     OR r.effective_at <= pg_catalog.clock_timestamp())) THEN 1
                        WHEN k.key_id IS NULL THEN 0
                        WHEN p.kind = 'changed' THEN 2
                        WHEN p.generation IS NULL AND k.state = 'active' THEN 2
                        WHEN p.generation = k.generation THEN 2
                        WHEN p.generation = k.generation - 1
                             AND k.previous_valid_until > pg_catalog.clock_timestamp() THEN 2
                        ELSE 1 END
              FROM (SELECT m.ordinality,
                           ((pg_catalog.regexp_match(
                               m.member,
                               '^(?:changed:)?'
                               '([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})'
                               '(?:[.][0-9]{1,9})?$'))[1])::uuid,
                           ((pg_catalog.regexp_match(m.member, '[.]([0-9]{1,9})$'))[1])::pg_catalog.int4,
                           CASE WHEN pg_catalog.starts_with(m.member, 'changed:') THEN 'changed'
                                ELSE 'withdrawn' END
                      FROM pg_catalog.unnest($1) WITH ORDINALITY AS m(member, ordinality))
                   AS p(ordinality, key_id, generation, kind)
              LEFT JOIN apikey.key k ON k.key_id = p.key_id
             ORDER BY p.ordinality
        )sql",
        TEXTARRAYOID);
    const std::array<pg::Parameter, 1> parameters = {pg::text_array_datum(members)};
    const std::uint64_t rows = statement.run(parameters);
    std::vector<Standing> found;
    found.reserve(rows);
    for (std::uint64_t row = 0; row < rows; row++) {
        found.push_back(static_cast<Standing>(DatumGetInt32(pg::result_value(row, 1).value())));
    }
    return found;
}

void forget_unknown_members() {
    const pg::SpiSession spi;
    static pg::Statement statement("DELETE FROM apikey.mirror_unknown");
    statement.run({});
}

void note_unknown_members(std::span<const UnknownMember> members) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.mirror_unknown (member, until)
            SELECT n.member, n.until
              FROM unnest($1, $2) AS n(member, until)
            ON CONFLICT (member) DO NOTHING
        )sql",
        TEXTARRAYOID, TIMESTAMPTZARRAYOID);
    Column member, until;
    for (const UnknownMember& unknown : members) {
        member.emplace_back(pg::text_datum(unknown.member));
        until.emplace_back(TimestampTzGetDatum(unknown.until));
    }
    const std::array<pg::Parameter, 2> parameters = {pg::array_datum(TEXTOID, member),
                                                     pg::array_datum(TIMESTAMPTZOID, until)};
    statement.run(parameters);
}

Epoch make_epoch(std::uint32_t timeline, std::uint64_t above, std::string_view cause) {
    const pg::SpiSession spi;
    // Two thousand are more than enough to recognise what a crash has left, or a replica that lags.
    static pg::Statement prune(
        R"sql(
            DELETE FROM apikey.mirror_epoch e
             WHERE e.counter < (SELECT pg_catalog.max(n.counter) - 2000 FROM apikey.mirror_epoch n)
        )sql");
    prune.run({});
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.mirror_epoch (counter, timeline, cause)
            SELECT GREATEST((SELECT pg_catalog.max(e.counter) FROM apikey.mirror_epoch e), $2, 0) + 1,
                   $1, $3
            RETURNING epoch::pg_catalog.text, counter
        )sql",
        INT4OID, INT8OID, TEXTOID);
    const std::array<pg::Parameter, 3> parameters = {Int32GetDatum(static_cast<std::int32_t>(timeline)),
                                                     Int64GetDatum(static_cast<std::int64_t>(above)),
                                                     pg::text_datum(cause)};
    statement.run(parameters);
    pg::call([] { ForceSyncCommit(); });
    return {text(0, 1), static_cast<std::uint64_t>(DatumGetInt64(pg::result_value(0, 2).value()))};
}

std::uint32_t latest_epoch_timeline() {
    const pg::SpiSession spi;
    static pg::Statement statement(
        "SELECT coalesce(pg_catalog.max(e.timeline), 0) FROM apikey.mirror_epoch e");
    statement.run({});
    return static_cast<std::uint32_t>(DatumGetInt32(pg::result_value(0, 1).value()));
}

bool is_own_epoch(std::string_view epoch) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT FROM apikey.mirror_epoch e WHERE e.epoch::pg_catalog.text = $1",
                                   TEXTOID);
    const std::array<pg::Parameter, 1> parameters = {pg::text_datum(epoch)};
    return statement.run(parameters) > 0;
}

std::string jwks_text() {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT apikey.jwks()::pg_catalog.text");
    statement.run({});
    return text(0, 1);
}

std::vector<std::pair<std::string, std::string>> role_texts() {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT r.name,
                   pg_catalog.jsonb_build_object(
                       'permissions', r.permissions,
                       'rate', CASE WHEN r.rate_limit IS NOT NULL THEN pg_catalog.jsonb_build_object(
                           'limit', r.rate_limit,
                           'window_ms', (EXTRACT(epoch FROM r.rate_window) * 1000)::pg_catalog.int8) END,
                       'refresh_window_ms', (EXTRACT(epoch FROM r.refresh_window) * 1000)::pg_catalog.int8
                   )::pg_catalog.text
              FROM apikey.role r
             ORDER BY r.name
        )sql");
    const std::uint64_t rows = statement.run({});
    std::vector<std::pair<std::string, std::string>> roles;
    for (std::uint64_t row = 0; row < rows; row++) {
        roles.emplace_back(text(row, 1), text(row, 2));
    }
    return roles;
}

std::int64_t prune_outbox(int batch) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT apikey.prune_outbox($1)", INT4OID);
    const std::array<pg::Parameter, 1> parameters = {Int32GetDatum(batch)};
    statement.run(parameters);
    return DatumGetInt64(pg::result_value(0, 1).value());
}

}  // namespace apikey::store
