#include "flow/key_triggers.h"

#include <cstring>

#include "pg/datum.h"
#include "pg/json_object.h"
#include "pg/owner_scope.h"
#include "store/audit.h"
#include "store/key_columns.h"
#include "store/keys.h"
#include "store/roles.h"
#include "store/signing_keys.h"

namespace apikey::flow {

using namespace store::key_column;

namespace {

/** The new row, taken apart. */
struct NewRow {
    std::array<Datum, MaxHeapAttributeNumber> values;  // columns that others have added come after ours
    std::array<bool, MaxHeapAttributeNumber> nulls;

    explicit NewRow(const TriggerData& trigger) {
        Relation relation = trigger.tg_relation;
        store::require_key_table(relation);
        HeapTuple tuple =
            TRIGGER_FIRED_BY_UPDATE(trigger.tg_event) ? trigger.tg_newtuple : trigger.tg_trigtuple;
        heap_deform_tuple(tuple, RelationGetDescr(relation), values.data(), nulls.data());
    }
    std::string_view text(std::size_t column) const {
        return nulls[column] ? std::string_view() : pg::text_view(values[column]);
    }
};

[[noreturn]] void refuse(const char* constraint, const std::string& message, const char* hint) {
    const char* text = message.c_str();
    pg::call([&] {
        ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION), errmsg_internal("%s", text),
                        errhint("%s", hint), err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint)));
    });
    pg_unreachable();
}

}  // namespace

void check_references(const TriggerData& trigger) {
    const NewRow row(trigger);
    const std::string_view role = row.text(c_role);
    if (row.nulls[c_role] || !store::lock_role(role)) {
        refuse("key_role_fkey", "role \"" + std::string(role) + "\" does not exist",
               "SELECT name FROM apikey.role lists them.");
    }
    if (!row.nulls[c_kid] && !store::lock_signing_key(row.text(c_kid))) {
        refuse("key_kid_fkey", "signing key \"" + std::string(row.text(c_kid)) + "\" does not exist",
               "SELECT kid FROM apikey.signing_key lists them.");
    }
}

void record_issue(const TriggerData& trigger) {
    const NewRow row(trigger);
    const Datum detail = pg::call([&] {
        pg::RawJsonObject object;
        const auto text = [&](const char* name, std::size_t c) {
            object.text(name, row.values[c], row.nulls[c]);
        };
        text("role", c_role);
        text("name", c_name);
        text("format", c_format);
        text("environment", c_environment);
        text("kid", c_kid);
        object.text_array("permissions", row.values[c_permissions], row.nulls[c_permissions]);
        object.cidr_array("allowed_cidrs", row.values[c_allowed_cidrs], row.nulls[c_allowed_cidrs]);
        object.timestamptz("expires_at", row.values[c_expires_at], row.nulls[c_expires_at]);
        return object.finish();
    });
    const pg::OwnerScope as_owner(store::tables_owner());
    store::write_audit_event({"issued", row.values[c_key_id], DatumGetInt32(row.values[c_generation]),
                              row.values[c_owner], detail});
}

}  // namespace apikey::flow
