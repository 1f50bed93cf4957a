#pragma once

#include "core/uuid.h"

/**
 * Row locks of changes that take a key out of use. A session that holds the row (a refresh() with a stolen
 * token in a transaction that is left open, say) must not keep the key in use: the wait is bounded by
 * apikey.revoke_wait, and then the sessions in the way are ended. Only for what takes a privilege: with a
 * token alone, whoever stole it could end the session that revokes the key.
 */
namespace apikey::store {

/**
 * Locks the row of the key until the end of the transaction. False: there is no such key. Error 55006 where a
 * prepared transaction holds it. As the owner of the tables.
 */
bool lock_key_for_revocation(const core::Uuid& key_id);

/** The same for a signing key that is to be retired, and for the keys that it has signed. */
bool lock_signing_key_for_retirement(std::string_view kid);

}  // namespace apikey::store
