#pragma once

#include "pg/prelude.h"

/** What a library says of itself: since 18 also its name and version, for pg_get_loaded_modules(). */
#if PG_VERSION_NUM >= 180000
#define APIKEY_MODULE_MAGIC(library, library_version) \
    PG_MODULE_MAGIC_EXT(.name = library, .version = library_version)
#else
#define APIKEY_MODULE_MAGIC(library, library_version) PG_MODULE_MAGIC
#endif
