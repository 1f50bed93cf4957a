#include "flow/signing.h"
#include "pg/owner_scope.h"
#include "store/keys.h"
#include "store/database_master_key.h"
#include "store/master_key.h"
#include "store/revocation_lock.h"
#include "store/signing_keys.h"

namespace apikey::flow {

std::string rotate_signing_key(core::Algorithm algorithm) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::lock_signing_keys();
    const core::MasterKeys& keys = store::require_or_create_master_key();
    store::require_database_master_key(keys);
    auto kid = store::activate_signing_key(algorithm, keys);
    pg::call([] { CommandCounterIncrement(); });
    return kid;
}

std::string stage_signing_key(core::Algorithm algorithm) {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::lock_signing_keys();
    const core::MasterKeys& keys = store::require_or_create_master_key();
    store::require_database_master_key(keys);
    auto kid = store::add_pending_signing_key(algorithm, keys);
    pg::call([] { CommandCounterIncrement(); });
    return kid;
}

bool lock_signing_key(std::string_view kid) {
    const pg::OwnerScope as_owner(store::tables_owner());
    return store::lock_signing_key_for_retirement(kid);
}

std::string adopt_master_key() {
    const pg::OwnerScope as_owner(store::tables_owner());
    store::lock_signing_keys();
    auto kid = store::activate_fresh_signing_key(core::Algorithm::EdDSA, store::require_master_key());
    pg::call([] { CommandCounterIncrement(); });
    return kid;
}

}  // namespace apikey::flow
