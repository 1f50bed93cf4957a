#include "pg/library_version.h"

namespace apikey::pg {

std::string_view library_version() {
    return APIKEY_VERSION;
}

}  // namespace apikey::pg
