#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/** What a line in the server log may have beside its message. nullptr and 0: nothing of the kind. */
struct LogExtras {
    const char* detail = nullptr;
    const char* hint = nullptr;
    int sqlstate = 0;
};

/**
 * A line in the server log, at LOG, LOG_SERVER_ONLY or WARNING. The only way in which the library logs:
 * PostgreSQL would put the session's statement, which may hold a token, and the context of the call beside
 * the message, and here both are left out. `message` names no token either.
 */
void log(int level, const std::string& message, const LogExtras& extras = {});

}  // namespace apikey::pg
