#include "pg/guard.h"

namespace apikey::pg {

void throw_current_error(MemoryContext context) {
    // Copying needs memory, and running out of it here would be an error raised while C++ frames are open: so
    // it has a wall of its own.
    ErrorData* volatile data = nullptr;
    {
        const ErrorStackScope scope;
        sigjmp_buf buffer;
        if (sigsetjmp(buffer, 0) == 0) {
            PG_exception_stack = &buffer;
            MemoryContextSwitchTo(context);
            data = CopyErrorData();
        }
        scope.restore();
        MemoryContextSwitchTo(context);
        FlushErrorState();
    }
    if (data == nullptr) {
        throw std::bad_alloc();
    }
    throw Error(data);
}

}  // namespace apikey::pg
