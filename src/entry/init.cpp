#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/library_version.h"
#include "pg/module_magic.h"
#include "pg/settings.h"
#include "shm/area.h"
#include "worker/database_commands.h"
#include "worker/launcher.h"

extern "C" {
APIKEY_MODULE_MAGIC("apikey", APIKEY_VERSION);

PGDLLEXPORT void _PG_init(void);
}

/** Runs in the postmaster when preloaded, else in the first session that calls a function. Allocates nothing
 * of its own. */
void _PG_init(void) {
    // pg_upgrade only needs the functions to exist; nothing of ours may act on a cluster that is being taken
    // apart.
    if (IsBinaryUpgrade) {
        return;
    }
    apikey::pg::boundary([] { apikey::pg::call([] { apikey::pg::settings::define(); }); });
    if (process_shared_preload_libraries_in_progress) {
        apikey::shm::install_hooks();
        apikey::worker::register_launcher();
        apikey::worker::watch_database_commands();
    }
}

PG_ENTRY(apikey_library_version) {
    return apikey::pg::text_datum(apikey::pg::library_version());
}
