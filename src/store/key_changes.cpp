#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/spi.h"
#include "store/key_columns.h"
#include "store/keys.h"
#include "store/row_writer.h"
#include "store/withheld.h"

/**
 * Changes of apikey.key. What must follow from them (withdrawals, audit events) is done by the table's
 * triggers, the same for these statements and for an admin's plain SQL. Statements that withdraw see the
 * latest committed rows in every isolation level: a key that was issued after a REPEATABLE READ snapshot was
 * taken is revoked as well.
 */
namespace apikey::store {
namespace {

/**
 * Writes a whole row, and puts its errors into words. A reference that fails (trigger key_check_references)
 * means that a role or signing key is newer than a REPEATABLE READ snapshot, since we have read it: that is a
 * serialization failure.
 */
template <typename Write>
auto write_row(Write&& write) -> decltype(write()) {
    try {
        return without_quoting_the_row(write);
    } catch (const pg::Error& error) {
        if (error.sqlstate() == ERRCODE_FOREIGN_KEY_VIOLATION) {
            throw pg::Failure(ERRCODE_T_R_SERIALIZATION_FAILURE,
                              "could not serialize access: the role or signing key is newer than this "
                              "transaction's snapshot",
                              {}, "Try the transaction again.");
        }
        throw;
    }
}

/** The first column of the last result. */
std::vector<core::Uuid> key_ids(std::uint64_t rows) {
    std::vector<core::Uuid> ids;
    ids.reserve(rows);
    for (std::uint64_t row = 0; row < rows; row++) {
        ids.push_back(pg::uuid_from_datum(pg::result_value(row, 1).value()));
    }
    return ids;
}

std::string_view bytes_of(const core::Uuid& key_id) {
    return core::text_of(key_id.bytes);
}

RowWriter writer("key", key_columns);

/** The row that the statement of insert_key() makes, with what it withholds and leaves to defaults. False: it
 * takes the statement. */
bool insert_row(std::span<const pg::Parameter, 14> parameters, std::span<const WithheldValue, 6> withheld,
                bool* inserted) {
    using namespace key_column;
    // In the order of the statement's columns.
    static constexpr std::array<std::size_t, 14> places = {
        c_key_id,      c_owner,       c_role,          c_issued_at, c_expires_at, c_name, c_format,
        c_environment, c_permissions, c_allowed_cidrs, c_metadata,  c_ttl,        c_kid,  c_idempotency_key};
    static constexpr std::array<std::size_t, 6> withheld_places = {
        c_token_hash,        c_token_salt, c_token_iterations, c_token_tag, c_master_key_fingerprint,
        c_idempotency_digest};
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls;
    nulls.fill(true);
    const auto set = [&](std::size_t column, const pg::Parameter& parameter) {
        values[column] = parameter.value;
        nulls[column] = parameter.null;
    };
    for (std::size_t i = 0; i < places.size(); i++) {
        set(places[i], parameters[i]);
    }
    for (std::size_t i = 0; i < withheld_places.size(); i++) {
        set(withheld_places[i], withheld[i].value);
    }
    set(c_generation, Int32GetDatum(1));
    set(c_state, pg::text_datum("active"));
    set(c_created_at, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
    set(c_created_by, pg::user_name(GetSessionUserId()));
    return writer.insert(values, nulls, inserted);
}

}  // namespace

bool lock_key(const core::Uuid& key_id) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT FROM apikey.key k WHERE k.key_id = $1 FOR NO KEY UPDATE", UUIDOID);
    const std::array<pg::Parameter, 1> parameters = {pg::uuid_datum(key_id)};
    return statement.run(parameters, pg::Visibility::latest) == 1;
}

bool try_lock_key(const core::Uuid& key_id) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        "SELECT FROM apikey.key k WHERE k.key_id = $1 FOR NO KEY UPDATE SKIP LOCKED", UUIDOID);
    const std::array<pg::Parameter, 1> parameters = {pg::uuid_datum(key_id)};
    return statement.run(parameters, pg::Visibility::latest) == 1;
}

bool insert_key(const NewKey& key) {
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.key
                   (key_id, generation, owner, role, issued_at, expires_at, name, format,
                    environment, permissions, allowed_cidrs, metadata, ttl, kid, idempotency_key)
            VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        )sql",
        UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID,
        CIDRARRAYOID, JSONBOID, INTERVALOID, TEXTOID, TEXTOID);
    const auto optional_text = [](std::optional<std::string_view> text) {
        return text ? pg::Parameter(pg::text_datum(*text)) : pg::Parameter();
    };
    const auto optional_datum = [](std::optional<Datum> datum) {
        return datum ? pg::Parameter(*datum) : pg::Parameter();
    };
    const std::array<pg::Parameter, 14> parameters = {
        pg::uuid_datum(key.key_id),
        pg::text_datum(key.owner),
        pg::text_datum(key.role),
        TimestampTzGetDatum(key.issued_at),
        TimestampTzGetDatum(key.expires_at),
        optional_text(key.name),
        pg::text_datum(key.format),
        pg::text_datum(key.environment),
        optional_datum(key.permissions),
        optional_datum(key.allowed_cidrs),
        key.metadata,
        optional_datum(key.ttl),
        pg::Parameter::of(!key.kid.empty(), pg::text_datum(key.kid)),
        optional_text(key.idempotency_key),
    };
    const std::array<WithheldValue, 6> withheld = {{
        {"token_hash", pg::bytes_datum(key.hash.hash)},
        {"token_salt", pg::bytes_datum(key.hash.salt)},
        {"token_iterations", Int32GetDatum(static_cast<std::int32_t>(key.hash.iterations))},
        {"token_tag", pg::bytes_datum(key.tag)},
        {"master_key_fingerprint", pg::bytes_datum(key.master_key_fingerprint)},
        {"idempotency_digest",
         pg::Parameter::of(key.idempotency_key.has_value(), pg::bytes_datum(key.idempotency_digest))},
    }};
    return write_row([&] {
        // Only a statement can wait for another session that uses the same idempotency key.
        bool inserted = false;
        if (!key.idempotency_key && insert_row(parameters, withheld, &inserted)) {
            return inserted;
        }
        const Withheld filling("key", bytes_of(key.key_id), withheld);
        const pg::SpiSession spi;
        return statement.run(parameters) == 1;
    });
}

std::optional<core::Uuid> find_idempotent_key(std::string_view owner, std::string_view idempotency_key) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT k.key_id
              FROM apikey.key k
             WHERE k.owner = $1 AND k.idempotency_key = $2
        )sql",
        TEXTOID, TEXTOID);
    const std::array<pg::Parameter, 2> parameters = {pg::text_datum(owner), pg::text_datum(idempotency_key)};
    if (statement.run(parameters, pg::Visibility::latest) == 0) {
        return std::nullopt;
    }
    return pg::uuid_from_datum(pg::result_value(0, 1).value());
}

void advance_generation(const core::Uuid& key_id, std::int32_t generation, const NextGeneration& next) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            UPDATE apikey.key k
               SET generation = k.generation + 1,
                   previous_kid = k.kid,
                   previous_hash = k.token_hash,
                   previous_salt = k.token_salt,
                   previous_iterations = k.token_iterations,
                   previous_tag = k.token_tag,
                   previous_expires_at = k.expires_at,
                   previous_valid_until = $3,
                   issued_at = $4,
                   expires_at = $5,
                   kid = $6
             WHERE k.key_id = $1 AND k.generation = $2
        )sql",
        UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
    const std::array<pg::Parameter, 6> parameters = {
        pg::uuid_datum(key_id),
        Int32GetDatum(generation),
        TimestampTzGetDatum(next.previous_valid_until),
        TimestampTzGetDatum(next.issued_at),
        TimestampTzGetDatum(next.expires_at),
        pg::Parameter::of(!next.kid.empty(), pg::text_datum(next.kid)),
    };
    const std::array<WithheldValue, 4> withheld = {{
        {"token_hash", pg::bytes_datum(next.hash.hash)},
        {"token_salt", pg::bytes_datum(next.hash.salt)},
        {"token_iterations", Int32GetDatum(static_cast<std::int32_t>(next.hash.iterations))},
        {"token_tag", pg::bytes_datum(next.tag)},
    }};
    const Withheld filling("key", bytes_of(key_id), withheld);
    if (write_row([&] { return statement.run(parameters, pg::Visibility::latest); }) != 1) {
        throw pg::Failure(ERRCODE_T_R_SERIALIZATION_FAILURE,
                          "could not refresh the key due to a concurrent change", {},
                          "Try the transaction again.");
    }
    filling.require_filled();
}

std::optional<TimestampTz> revoke_key(const core::Uuid& key_id, std::string_view reason) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            UPDATE apikey.key k
               SET state = 'revoked', revocation_reason = $2
             WHERE k.key_id = $1 AND k.state <> 'revoked'
            RETURNING k.revoked_at
        )sql",
        UUIDOID, TEXTOID);
    const std::array<pg::Parameter, 2> parameters = {pg::uuid_datum(key_id), pg::text_datum(reason)};
    if (statement.run(parameters, pg::Visibility::latest) == 0) {
        return std::nullopt;
    }
    return DatumGetTimestampTz(pg::result_value(0, 1).value());
}

std::vector<core::Uuid> unrevoked_keys_of_owner(std::string_view owner) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT k.key_id
              FROM apikey.key k
             WHERE k.owner = $1 AND k.state <> 'revoked'
             ORDER BY k.key_id
        )sql",
        TEXTOID);
    const std::array<pg::Parameter, 1> whose = {pg::text_datum(owner)};
    return key_ids(statement.run(whose, pg::Visibility::latest));
}

std::vector<core::Uuid> unrevoked_keys_signed_by(std::string_view kid) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT k.key_id
              FROM apikey.key k
             WHERE $1 IN (k.kid, k.previous_kid) AND k.state <> 'revoked'
             ORDER BY k.key_id
        )sql",
        TEXTOID);
    const std::array<pg::Parameter, 1> signer = {pg::text_datum(kid)};
    return key_ids(statement.run(signer, pg::Visibility::latest));
}

std::uint64_t revoke_keys_of_owner(std::string_view owner, std::span<const core::Uuid> key_ids,
                                   std::string_view reason) {
    std::vector<std::optional<Datum>> ids;
    ids.reserve(key_ids.size());
    for (const core::Uuid& id : key_ids) {
        ids.emplace_back(pg::uuid_datum(id));
    }
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            UPDATE apikey.key k
               SET state = 'revoked', revocation_reason = $3
             WHERE k.key_id = ANY ($2) AND k.owner = $1 AND k.state <> 'revoked'
        )sql",
        TEXTOID, UUIDARRAYOID, TEXTOID);
    const std::array<pg::Parameter, 3> parameters = {pg::text_datum(owner), pg::array_datum(UUIDOID, ids),
                                                     pg::text_datum(reason)};
    return statement.run(parameters, pg::Visibility::latest);
}

bool disable_key(const core::Uuid& key_id, std::optional<std::string_view> reason) {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            UPDATE apikey.key k
               SET state = 'disabled', disabled_reason = $2
             WHERE k.key_id = $1 AND k.state = 'active'
        )sql",
        UUIDOID, TEXTOID);
    const std::array<pg::Parameter, 2> parameters = {
        pg::uuid_datum(key_id), reason ? pg::Parameter(pg::text_datum(*reason)) : pg::Parameter()};
    return statement.run(parameters, pg::Visibility::latest) == 1;
}

bool enable_key(const core::Uuid& key_id) {
    const pg::SpiSession spi;
    // Not the latest rows: the trigger deletes the withdrawal, which an older snapshot must be able to see.
    // If it cannot, this is a serialization failure, as for any UPDATE.
    static pg::Statement statement(
        R"sql(
            UPDATE apikey.key k
               SET state = 'active'
             WHERE k.key_id = $1 AND k.state = 'disabled'
        )sql",
        UUIDOID);
    const std::array<pg::Parameter, 1> parameters = {pg::uuid_datum(key_id)};
    return statement.run(parameters) == 1;
}

}  // namespace apikey::store
