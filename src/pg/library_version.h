#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/** Of this shared library; of apikey.control's default_version. */
std::string_view library_version();

/** The SQL objects of the session's database, compared with this library. */
enum class Installed : std::uint8_t {
    absent,
    older,  ///< a newer package was installed, and ALTER EXTENSION is still to come
    same,
    newer  ///< ALTER EXTENSION has been run, and the server still has the older library loaded
};
/** For use inside pg::call(), in a transaction. */
Installed raw_installed();

/** What to do where the SQL objects are not those that this library knows. */
const char* remedy(Installed installed);

}  // namespace apikey::pg
