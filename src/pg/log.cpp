#include "pg/log.h"

namespace apikey::pg {

void log(int level, const std::string& message, const LogExtras& extras) {
    const char* text = message.c_str();
    call([&] {
        ereport(level, (extras.sqlstate == 0 ? 0 : errcode(extras.sqlstate), errmsg_internal("%s", text),
                        extras.detail == nullptr ? 0 : errdetail_internal("%s", extras.detail),
                        extras.hint == nullptr ? 0 : errhint("%s", extras.hint), errhidestmt(true),
                        errhidecontext(true)));
    });
}

}  // namespace apikey::pg
