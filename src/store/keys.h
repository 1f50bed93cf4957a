#pragma once

#include "core/policy.h"
#include "core/uuid.h"
#include "core/token_hash.h"
#include "pg/guard.h"
#include "store/row_reader.h"
#include "store/snapshot.h"

namespace apikey::store {

/** The previous generation, once there is one. */
struct PreviousGeneration {
    core::ByteView token_hash;
    TimestampTz expires_at;
    TimestampTz valid_until;  ///< end of its grace
};

/**
 * What validation reads of a row of apikey.key when the token has proven itself before. Views and arrays live
 * in the memory context in which it was read.
 */
struct KeyHead {
    core::Uuid key_id;
    std::int32_t generation;
    std::string_view owner;
    std::string_view role;
    core::KeyState state;
    TimestampTz issued_at;
    TimestampTz expires_at;
    std::string_view environment;
    core::ByteView token_hash;
    std::optional<PreviousGeneration> previous;
    std::optional<Datum> permissions;    ///< text[]
    std::optional<Datum> allowed_cidrs;  ///< cidr[]
    std::optional<std::int64_t> rate_limit;
    const Interval* rate_window;  ///< null: the role's
    std::optional<TimestampTz> revoked_at;
    std::string_view revocation_reason;
    std::optional<TimestampTz> disabled_at;
    Datum metadata;  ///< jsonb
};

/** How a stored hash was made. */
struct HashParameters {
    core::ByteView salt;
    std::int32_t iterations;
    core::ByteView tag;
};

/** The whole row. */
struct KeyRow : KeyHead {
    std::string_view format;
    const Interval* ttl;   ///< null: the role's
    std::string_view kid;  ///< empty for opaque tokens
    HashParameters hashed;
    std::string_view previous_kid;   ///< empty for opaque tokens, and where there is no previous generation
    HashParameters previous_hashed;  ///< means something only with `previous`
    core::ByteView master_key_fingerprint;
    core::ByteView idempotency_digest;  ///< empty when issued without an idempotency key
};

std::optional<KeyRow> find_key(RowSnapshot& snapshot, const core::Uuid& key_id);

/** Under which master key the newest key was made, by key_id; nullopt when there is no key. */
std::optional<core::ByteView> newest_fingerprint(RowSnapshot& snapshot);

/**
 * As find_key, faster; `hint` (row_reader.h) is where the row was last seen, and becomes where it is. nullptr
 * when there is no such key; else good until this is called again.
 */
const KeyHead* find_key_head(LatestSnapshot& snapshot, const core::Uuid& key_id, RowHint& hint);

/** Waits for, and takes, the row lock of an update; held until the end of the transaction. False: there is no
 * such key. Call as the owner of the tables. */
bool lock_key(const core::Uuid& key_id);
/** The same without waiting; false also where the row is locked. */
bool try_lock_key(const core::Uuid& key_id);

/** Who is in the way of a change of the key. */
RowLockers find_key_lockers(const core::Uuid& key_id);

/** What issue() has decided on. Arrays and jsonb are the caller's own arguments. */
struct NewKey {
    core::Uuid key_id;
    std::string_view owner;
    std::string_view role;
    TimestampTz issued_at;
    TimestampTz expires_at;
    std::optional<std::string_view> name;
    std::string_view format;
    std::string_view environment;
    std::optional<Datum> permissions;
    std::optional<Datum> allowed_cidrs;
    Datum metadata;
    std::optional<Datum> ttl;
    std::string_view kid;
    core::TokenHash hash;
    std::array<std::uint8_t, 8> tag;
    std::array<std::uint8_t, 8> master_key_fingerprint;
    std::optional<std::string_view> idempotency_key;
    std::array<std::uint8_t, 32> idempotency_digest;
};

/** False when the owner's idempotency key is taken: nothing was written then. Call as the owner of the
 * tables. */
bool insert_key(const NewKey& key);

/** The key that an idempotency key stands for. Call as the owner of the tables. */
std::optional<core::Uuid> find_idempotent_key(std::string_view owner, std::string_view idempotency_key);

struct NextGeneration {
    TimestampTz issued_at;
    TimestampTz expires_at;
    TimestampTz previous_valid_until;
    std::string_view kid;
    core::TokenHash hash;
    std::array<std::uint8_t, 8> tag;
};

/** Moves the current generation to the previous one. The row must be locked and at `generation`. Call as the
 * owner of the tables. */
void advance_generation(const core::Uuid& key_id, std::int32_t generation, const NextGeneration& next);

/** When the key was revoked by this call, the time of it; nullopt when it was revoked before or does not
 * exist. As the owner of the tables. */
std::optional<TimestampTz> revoke_key(const core::Uuid& key_id, std::string_view reason);

/** The keys of an owner that are not revoked, in the order of their ids. As the owner of the tables. */
std::vector<core::Uuid> unrevoked_keys_of_owner(std::string_view owner);

/** Those that the signing key has signed: the current or the previous generation. */
std::vector<core::Uuid> unrevoked_keys_signed_by(std::string_view kid);

/** How many of these keys, where they belong to the owner, this call revoked. As the owner of the tables. */
std::uint64_t revoke_keys_of_owner(std::string_view owner, std::span<const core::Uuid> key_ids,
                                   std::string_view reason);

/** active → disabled; false when it was not active. As the owner of the tables. */
bool disable_key(const core::Uuid& key_id, std::optional<std::string_view> reason);
/** disabled → active; false when it was not disabled. As the owner of the tables. */
bool enable_key(const core::Uuid& key_id);

/** Error (55000) when this is another table than apikey.key, or one of another shape. */
void require_key_table(Relation relation);

/** Whom the tables of the extension belong to. Takes no lock, so that nobody who holds one can keep a
 * revocation waiting here. */
Oid tables_owner();

}  // namespace apikey::store
