#include "pg/guard.h"
#include "worker/pinned_settings.h"

namespace apikey::worker {
namespace {

struct Setting {
    const char* name;
    const char* value;
};

void pin(std::span<const Setting> settings) {
    for (const Setting& setting : settings) {
        pg::call([&] { SetConfigOption(setting.name, setting.value, PGC_SUSET, PGC_S_OVERRIDE); });
    }
}

}  // namespace

void pin_worker_settings() {
    const std::array<Setting, 19> pinned = {{
        // ALTER DATABASE … SET role would take the worker's rights away.
        {"role", "none"},
        {"search_path", "pg_catalog, pg_temp"},
        {"lock_timeout", "500ms"},
        {"statement_timeout", "0"},
        {"idle_in_transaction_session_timeout", "0"},
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
        // As if replicated, rows for the mirror would be left out.
        {"session_replication_role", "origin"},
        {"standard_conforming_strings", "on"},
        {"transform_null_equals", "off"},
        // An error would end the worker.
        {"exit_on_error", "off"},
        // What a plan holds, the log would show.
        {"debug_print_parse", "off"},
        {"debug_print_rewritten", "off"},
        {"debug_print_plan", "off"},
        {"plan_cache_mode", "auto"},
        // Partitions are made like their parent.
        {"default_table_access_method", "heap"},
        {"row_security", "on"},
        // What a crash takes from the last moments of shared memory, no flush brings back.
        {"synchronous_commit", "off"},
    }};
    pin(pinned);
    // Since version 17. It would end the process, in the midst of a long step.
    pg::call([] {
        if (GetConfigOption("transaction_timeout", true, false) != nullptr) {
            SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
        }
    });
}

void pin_index_plans() {
    const std::array<Setting, 5> pinned = {{
        {"enable_seqscan", "off"},
        {"enable_hashjoin", "off"},
        {"enable_mergejoin", "off"},
        {"enable_bitmapscan", "off"},
        {"jit", "off"},
    }};
    pin(pinned);
}

}  // namespace apikey::worker
