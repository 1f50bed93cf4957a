#pragma once

#include "core/signing_key.h"
#include "core/token_hash.h"
#include "pg/guard.h"
#include "store/row_reader.h"

namespace apikey::store {

enum class SigningKeyState : std::uint8_t { pending, active, verify_only, retired };

/** A row of apikey.signing_key; views live in the memory context in which it was read. */
struct SigningKeyRow {
    std::string_view kid;
    core::Algorithm algorithm;
    SigningKeyState state;
    core::ByteView public_key;   ///< empty for HS256
    core::ByteView private_key;  ///< sealed
    core::ByteView master_key_fingerprint;
};

std::optional<SigningKeyRow> find_signing_key(RowSnapshot& snapshot, std::string_view kid);

/** Locks the signing key FOR KEY SHARE until the end of the transaction, which sees it with its own snapshot:
 * nobody retires or deletes it. False when there is none of this name. */
bool lock_signing_key(std::string_view kid);

/** Was the key in use made under `keys`? nullopt when none is in use. Call as the owner of the tables. */
std::optional<bool> active_key_is_under(const core::MasterKeys& keys);

/**
 * The key that verifies what `row` signed. Kept for the session: making one costs more than looking it up.
 * nullptr when it takes the master key (HS256) and `keys` is null or not the one it was sealed under, or when
 * the row is damaged: then there is no verdict, not a false one.
 */
const core::SigningKey* verification_key(const SigningKeyRow& row, const core::MasterKeys* keys);

/** The private key, unsealed, kept for the session. Failure PT503 when it was sealed under another master
 * key. */
const core::SigningKey& unseal(const SigningKeyRow& row, const core::MasterKeys& keys);

/**
 * The key in use, locked FOR KEY SHARE until the end of the transaction, so that it cannot be retired before
 * what it signs is committed. Makes the first one when there is none (EdDSA). Call as the owner of the
 * tables.
 */
SigningKeyRow lock_active_signing_key(const core::MasterKeys& keys);

/** Waits for, and takes, the row lock that keeps out who signs with the key. False: there is no such key. As
 * the owner of the tables. */
bool lock_signing_key_for_update(std::string_view kid);
/** The same without waiting; false also where the row is locked. */
bool try_lock_signing_key_for_update(std::string_view kid);

/** Who is in the way of that. */
RowLockers find_signing_key_lockers(std::string_view kid);

/**
 * Until the end of the transaction nobody else adds a signing key or puts one into use; readers, and locks
 * FOR KEY SHARE, pass. To be taken before the master key is looked at, so that no decision is made on what
 * another session is about to change. As the owner of the tables.
 */
void lock_signing_keys();

/** Puts a key of `algorithm` into use: a pending one if there is one, else a fresh one. Returns its kid. Call
 * as the owner of the tables. */
std::string activate_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys);

/** Puts a fresh key into use even if one is pending. Returns its kid. Call as the owner of the tables. */
std::string activate_fresh_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys);

/** Adds a pending key. Call as the owner of the tables. */
std::string add_pending_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys);

}  // namespace apikey::store
