#include "pg/subtransaction.h"

extern "C" {
#include "utils/resowner.h"
}

namespace apikey::pg {

Subtransaction::Subtransaction() : memory_(CurrentMemoryContext), resources_(CurrentResourceOwner) {
    call([&] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(memory_);
    });
}

void Subtransaction::release() {
    call([&] {
        ReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(memory_);
        CurrentResourceOwner = resources_;
    });
}

void Subtransaction::rollback() {
    call([&] {
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(memory_);
        CurrentResourceOwner = resources_;
    });
}

Error Subtransaction::saved(const Error& error) const {
    return Error(call([&] {
        const MemoryContext before = MemoryContextSwitchTo(memory_);
        auto* copy = static_cast<ErrorData*>(palloc(sizeof(ErrorData)));
        *copy = *error.data();
        for (char* ErrorData::*text :
             {&ErrorData::message, &ErrorData::detail, &ErrorData::detail_log, &ErrorData::hint,
              &ErrorData::context, &ErrorData::backtrace, &ErrorData::schema_name, &ErrorData::table_name,
              &ErrorData::column_name, &ErrorData::datatype_name, &ErrorData::constraint_name,
              &ErrorData::internalquery}) {
            if (copy->*text != nullptr) {
                copy->*text = pstrdup(copy->*text);
            }
        }
        copy->assoc_context = memory_;
        MemoryContextSwitchTo(before);
        return copy;
    }));
}

}  // namespace apikey::pg
