#include "pg/datum.h"
#include "pg/failure.h"
#include "store/keys.h"
#include "store/row_reader.h"

namespace apikey::store {
namespace {

enum : std::size_t {
    c_key_id,
    c_generation,
    c_owner,
    c_role,
    c_state,
    c_issued_at,
    c_expires_at,
    c_name,
    c_format,
    c_environment,
    c_permissions,
    c_allowed_cidrs,
    c_metadata,
    c_ttl,
    c_kid,
    c_hash,
    c_salt,
    c_iterations,
    c_tag,
    c_previous_kid,
    c_previous_hash,
    c_previous_salt,
    c_previous_iterations,
    c_previous_tag,
    c_previous_expires_at,
    c_previous_valid_until,
    c_fingerprint,
    c_idempotency_key,
    c_idempotency_digest,
    c_revoked_at,
    c_revocation_reason,
    c_disabled_at,
    column_count
};

constexpr std::array<Column, column_count> columns = {{
    {"key_id", UUIDOID},
    {"generation", INT4OID},
    {"owner", TEXTOID},
    {"role", TEXTOID},
    {"state", TEXTOID},
    {"issued_at", TIMESTAMPTZOID},
    {"expires_at", TIMESTAMPTZOID},
    {"name", TEXTOID},
    {"format", TEXTOID},
    {"environment", TEXTOID},
    {"permissions", TEXTARRAYOID},
    {"allowed_cidrs", CIDRARRAYOID},
    {"metadata", JSONBOID},
    {"ttl", INTERVALOID},
    {"kid", TEXTOID},
    {"token_hash", BYTEAOID},
    {"token_salt", BYTEAOID},
    {"token_iterations", INT4OID},
    {"token_tag", BYTEAOID},
    {"previous_kid", TEXTOID},
    {"previous_hash", BYTEAOID},
    {"previous_salt", BYTEAOID},
    {"previous_iterations", INT4OID},
    {"previous_tag", BYTEAOID},
    {"previous_expires_at", TIMESTAMPTZOID},
    {"previous_valid_until", TIMESTAMPTZOID},
    {"master_key_fingerprint", BYTEAOID},
    {"idempotency_key", TEXTOID},
    {"idempotency_digest", BYTEAOID},
    {"revoked_at", TIMESTAMPTZOID},
    {"revocation_reason", TEXTOID},
    {"disabled_at", TIMESTAMPTZOID},
}};

Table table("key", columns);

/** An unknown state, written past the constraint, must not pass for active. */
core::KeyState state_from_text(std::string_view text) {
    if (text == "active") {
        return core::KeyState::active;
    }
    return text == "disabled" ? core::KeyState::disabled : core::KeyState::revoked;
}

}  // namespace

std::optional<KeyRow> find_key(Snapshot snapshot, const core::Uuid& key_id) {
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls{};
    pg_uuid_t search;
    std::copy(key_id.bytes.begin(), key_id.bytes.end(), search.data);
    if (!table.find(snapshot, UUIDPGetDatum(&search), F_UUID_EQ, values, nulls)) {
        return std::nullopt;
    }
    // Everything was detoasted when it was read: these views cannot raise.
    const auto text = [&](std::size_t c) { return nulls[c] ? std::string_view() : pg::raw_text(values[c]); };
    const auto bytes = [&](std::size_t c) { return core::bytes_of(text(c)); };
    const auto datum = [&](std::size_t c) {
        return nulls[c] ? std::optional<Datum>() : std::optional<Datum>(values[c]);
    };
    const auto time = [&](std::size_t c) {
        return nulls[c] ? std::optional<TimestampTz>()
                        : std::optional<TimestampTz>(DatumGetTimestampTz(values[c]));
    };
    KeyRow row{};
    row.key_id = key_id;
    row.generation = DatumGetInt32(values[c_generation]);
    row.owner = text(c_owner);
    row.role = text(c_role);
    row.state = state_from_text(text(c_state));
    row.issued_at = DatumGetTimestampTz(values[c_issued_at]);
    row.expires_at = DatumGetTimestampTz(values[c_expires_at]);
    row.format = text(c_format);
    row.environment = text(c_environment);
    row.permissions = datum(c_permissions);
    row.allowed_cidrs = datum(c_allowed_cidrs);
    row.metadata = values[c_metadata];
    row.ttl = nulls[c_ttl] ? nullptr : DatumGetIntervalP(values[c_ttl]);
    row.kid = text(c_kid);
    row.stored = {bytes(c_hash), bytes(c_salt), DatumGetInt32(values[c_iterations]), bytes(c_tag)};
    if (!nulls[c_previous_hash]) {
        row.previous = {{bytes(c_previous_hash), bytes(c_previous_salt),
                         DatumGetInt32(values[c_previous_iterations]), bytes(c_previous_tag)},
                        text(c_previous_kid),
                        DatumGetTimestampTz(values[c_previous_expires_at]),
                        DatumGetTimestampTz(values[c_previous_valid_until])};
    }
    row.master_key_fingerprint = bytes(c_fingerprint);
    row.idempotency_digest = bytes(c_idempotency_digest);
    row.revoked_at = time(c_revoked_at);
    row.revocation_reason = text(c_revocation_reason);
    row.disabled_at = time(c_disabled_at);
    return row;
}

Oid tables_owner() {
    return table.owner();
}

}  // namespace apikey::store
