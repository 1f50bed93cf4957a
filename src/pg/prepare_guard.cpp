#include "pg/guard.h"
#include "pg/prepare_guard.h"

namespace apikey::pg {
namespace {

/** The subtransaction that must not be prepared; invalid: none. */
SubTransactionId guarded = InvalidSubTransactionId;
const char* guarded_function = nullptr;

// PostgreSQL calls these: no C++ objects, so an error may jump out of them.
extern "C" void guard_transaction(XactEvent event, void* /*argument*/) {
    switch (event) {
        case XACT_EVENT_PRE_PREPARE:
            if (guarded != InvalidSubTransactionId) {
                ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                                errmsg("cannot PREPARE a transaction that has executed %s", guarded_function),
                                errdetail("A prepared transaction could hold off the revocation of the key."),
                                errhint("End the transaction with COMMIT.")));
            }
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE:
            guarded = InvalidSubTransactionId;
            break;
        default:
            break;
    }
}

extern "C" void guard_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
                                     void* /*argument*/) {
    if (mine != guarded) {
        return;
    }
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        guarded = InvalidSubTransactionId;
    } else if (event == SUBXACT_EVENT_COMMIT_SUB) {
        guarded = parent;
    }
}

}  // namespace

void forbid_prepare(const char* function) {
    static bool registered = false;
    if (!registered) {
        call([] {
            RegisterXactCallback(guard_transaction, nullptr);
            RegisterSubXactCallback(guard_subtransaction, nullptr);
        });
        registered = true;
    }
    // An outer level lives longer.
    if (guarded == InvalidSubTransactionId) {
        guarded = GetCurrentSubTransactionId();
        guarded_function = function;
    }
}

}  // namespace apikey::pg
