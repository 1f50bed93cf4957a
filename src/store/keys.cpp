#include <cstring>

#include "pg/datum.h"
#include "pg/failure.h"
#include "store/key_columns.h"
#include "store/keys.h"
#include "store/row_reader.h"

namespace apikey::store {

using namespace key_column;

namespace {

bool is_key(const char* column, Datum key) {
    return memcmp(column, DatumGetUUIDP(key)->data, UUID_LEN) == 0;
}

Table table("key", key_columns, F_UUID_EQ, is_key);

/** An unknown state, written past the constraint, must not pass for active. */
core::KeyState state_from_text(std::string_view text) {
    if (text == "active") {
        return core::KeyState::active;
    }
    return text == "disabled" ? core::KeyState::disabled : core::KeyState::revoked;
}

/** The values of a row, as far as they were read. Everything was detoasted then: these views cannot raise. */
template <std::size_t count>
struct Values {
    std::array<Datum, count> values;
    std::array<bool, count> nulls;

    Table::Found find(RowSnapshot& snapshot, const core::Uuid& key_id, RowHint& hint,
                      std::span<char> room = {}) {
        pg_uuid_t key;
        memcpy(key.data, key_id.bytes.data(), sizeof(key.data));
        return table.find(snapshot, UUIDPGetDatum(&key), hint, values, nulls, room);
    }
    std::string_view text(std::size_t c) const {
        return nulls[c] ? std::string_view() : pg::raw_text(values[c]);
    }
    core::ByteView bytes(std::size_t c) const { return core::bytes_of(text(c)); }
    std::int32_t number(std::size_t c) const { return nulls[c] ? 0 : DatumGetInt32(values[c]); }
    TimestampTz time(std::size_t c) const { return DatumGetTimestampTz(values[c]); }
    std::optional<Datum> datum(std::size_t c) const {
        return nulls[c] ? std::optional<Datum>() : std::optional<Datum>(values[c]);
    }
    std::optional<TimestampTz> optional_time(std::size_t c) const {
        return nulls[c] ? std::optional<TimestampTz>() : std::optional<TimestampTz>(time(c));
    }
    const Interval* interval(std::size_t c) const {
        return nulls[c] ? nullptr : DatumGetIntervalP(values[c]);
    }
};

template <std::size_t count>
void fill_head(KeyHead& head, const Values<count>& row, const core::Uuid& key_id) {
    head.key_id = key_id;
    head.generation = row.number(c_generation);
    head.owner = row.text(c_owner);
    head.role = row.text(c_role);
    head.state = state_from_text(row.text(c_state));
    head.issued_at = row.time(c_issued_at);
    head.expires_at = row.time(c_expires_at);
    head.environment = row.text(c_environment);
    head.token_hash = row.bytes(c_token_hash);
    if (!row.nulls[c_previous_hash]) {
        head.previous = {row.bytes(c_previous_hash), row.time(c_previous_expires_at),
                         row.time(c_previous_valid_until)};
    }
    head.permissions = row.datum(c_permissions);
    head.allowed_cidrs = row.datum(c_allowed_cidrs);
    if (!row.nulls[c_rate_limit]) {
        head.rate_limit = DatumGetInt64(row.values[c_rate_limit]);
    }
    head.rate_window = row.interval(c_rate_window);
    head.revoked_at = row.optional_time(c_revoked_at);
    head.revocation_reason = row.text(c_revocation_reason);
    head.disabled_at = row.optional_time(c_disabled_at);
    head.metadata = row.values[c_metadata];
}

/**
 * A row that this session has read, as of a state of the database: while that has not changed
 * (LatestSnapshot::committed_state), neither has the row, and reading it again would give the same.
 */
struct RecentKey {
    std::uint64_t state = 0;
    KeyHead head{};
    alignas(MAXIMUM_ALIGNOF) std::array<char, 1024> room;  // what `head` points to; larger rows are not kept
};

std::array<RecentKey, 64> recent_keys;

}  // namespace

const KeyHead* find_key_head(LatestSnapshot& snapshot, const core::Uuid& key_id, RowHint& hint) {
    // The last digits of a key id are random.
    RecentKey& recent = recent_keys[key_id.bytes.back() % recent_keys.size()];
    const std::uint64_t state = snapshot.committed_state();
    if (state != 0 && state == recent.state && recent.head.key_id == key_id) {
        return &recent.head;
    }
    recent.state = 0;
    Values<head_count> row;
    const Table::Found found = row.find(snapshot, key_id, hint, recent.room);
    if (found == Table::Found::nothing) {
        return nullptr;
    }
    recent.head = {};
    fill_head(recent.head, row, key_id);
    // The row was read with another snapshot where the table had to be opened.
    recent.state = found == Table::Found::in_room ? snapshot.committed_state() : 0;
    return &recent.head;
}

std::optional<KeyRow> find_key(RowSnapshot& snapshot, const core::Uuid& key_id) {
    Values<column_count> row;
    RowHint hint = 0;
    if (row.find(snapshot, key_id, hint) == Table::Found::nothing) {
        return std::nullopt;
    }
    KeyRow key{};
    fill_head(key, row, key_id);
    key.format = row.text(c_format);
    key.ttl = row.interval(c_ttl);
    key.kid = row.text(c_kid);
    key.hashed = {row.bytes(c_token_salt), row.number(c_token_iterations), row.bytes(c_token_tag)};
    key.previous_kid = row.text(c_previous_kid);
    key.previous_hashed = {row.bytes(c_previous_salt), row.number(c_previous_iterations),
                           row.bytes(c_previous_tag)};
    key.master_key_fingerprint = row.bytes(c_master_key_fingerprint);
    key.idempotency_digest = row.bytes(c_idempotency_digest);
    return key;
}

RowLockers find_key_lockers(const core::Uuid& key_id) {
    LatestSnapshot snapshot;
    pg_uuid_t key;
    memcpy(key.data, key_id.bytes.data(), sizeof(key.data));
    return table.find_lockers(snapshot, UUIDPGetDatum(&key));
}

std::optional<core::ByteView> newest_fingerprint(RowSnapshot& snapshot) {
    Values<column_count> row;
    if (!table.find_last(snapshot, row.values, row.nulls)) {
        return std::nullopt;
    }
    return row.bytes(c_master_key_fingerprint);
}

void require_key_table(Relation relation) {
    pg::call([&] {
        static Oid known = InvalidOid;
        static std::uint64_t known_at = 0;
        if (RelationGetRelid(relation) == known && known_at == relation_changes()) {
            return;
        }
        if (RelationGetRelid(relation) != table_oid("key")) {
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("this trigger function is for apikey.key only")));
        }
        verify_columns(relation, "key", key_columns);
        known = RelationGetRelid(relation);
        known_at = relation_changes();
    });
}

Oid tables_owner() {
    return pg::call([] { return relation_owner(table_oid("key")); });
}

}  // namespace apikey::store
