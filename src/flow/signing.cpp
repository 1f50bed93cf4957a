#include "flow/signing.h"
#include "pg/owner_scope.h"
#include "store/keys.h"
#include "store/master_key.h"
#include "store/signing_keys.h"

namespace apikey::flow {

std::string rotate_signing_key(core::Algorithm algorithm) {
    const pg::OwnerScope as_owner(store::tables_owner());
    const core::MasterKeys& keys = store::require_or_create_master_key();
    auto kid = store::activate_signing_key(algorithm, keys);
    pg::call([] { CommandCounterIncrement(); });
    return kid;
}

std::string stage_signing_key(core::Algorithm algorithm) {
    const pg::OwnerScope as_owner(store::tables_owner());
    const core::MasterKeys& keys = store::require_or_create_master_key();
    auto kid = store::add_pending_signing_key(algorithm, keys);
    pg::call([] { CommandCounterIncrement(); });
    return kid;
}

}  // namespace apikey::flow
