#include "pg/boundary.h"
#include "pg/settings.h"
#include "shm/workers.h"
#include "worker/database_commands.h"

namespace apikey::worker {
namespace {

ProcessUtility_hook_type next_hook = nullptr;

const DefElem* option(const List* options, const char* name) {
    for (int i = 0; i < list_length(options); i++) {
        const auto* element = lfirst_node(DefElem, list_nth_cell(options, i));
        if (strcmp(element->defname, name) == 0) {
            return element;
        }
    }
    return nullptr;
}

bool may_copy(Oid database) {
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    if (!HeapTupleIsValid(tuple)) {
        return false;
    }
    const bool is_template = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datistemplate;
    ReleaseSysCache(tuple);
    return have_createdb_privilege() && (is_template || pg::owns_database(database, GetUserId()));
}

/** The database that the command wants to itself, when the user has the right to the command: nobody else can
 * send our workers away. What the command itself checks, and how it puts that into words, stays its own. */
Oid raw_wanted_database(const Node* command) {
    const char* name = nullptr;
    bool copies = false;
    switch (nodeTag(command)) {
        case T_DropdbStmt:
            name = reinterpret_cast<const DropdbStmt*>(command)->dbname;
            break;
        case T_RenameStmt:
            if (reinterpret_cast<const RenameStmt*>(command)->renameType == OBJECT_DATABASE) {
                name = reinterpret_cast<const RenameStmt*>(command)->subname;
            }
            break;
        case T_AlterDatabaseStmt: {
            const auto* alter = reinterpret_cast<const AlterDatabaseStmt*>(command);
            name = option(alter->options, "tablespace") != nullptr ? alter->dbname : nullptr;
            break;
        }
        case T_CreatedbStmt: {
            const auto* create = reinterpret_cast<const CreatedbStmt*>(command);
            const DefElem* source = option(create->options, "template");
            name = source != nullptr && source->arg != nullptr ? defGetString(const_cast<DefElem*>(source))
                                                               : "template1";
            copies = true;
            break;
        }
        default:
            break;
    }
    const Oid database = name == nullptr ? InvalidOid : get_database_oid(name, true);
    if (!OidIsValid(database)) {
        return InvalidOid;
    }
    return (copies ? may_copy(database) : pg::owns_database(database, GetUserId())) ? database : InvalidOid;
}

/** Its place in shared memory, where it has workers or may get some at any moment. */
shm::DatabaseSlot* slot_with_workers(Oid database) {
    const bool listed = pg::call([&] {
        const List* names = pg::settings::raw_database_names();
        for (int i = 0; i < list_length(names); i++) {
            if (get_database_oid(static_cast<const char*>(list_nth(names, i)), true) == database) {
                return true;
            }
        }
        return false;
    });
    return listed ? shm::database_slot(database) : shm::find_database_slot(database);
}

void make_room_for(const Node* command) {
    const Oid database = pg::call([&] { return raw_wanted_database(command); });
    shm::DatabaseSlot* slot = OidIsValid(database) ? slot_with_workers(database) : nullptr;
    if (slot != nullptr) {
        shm::keep_workers_away(*slot);
    }
}

bool is_database_command(const Node* command) {
    switch (nodeTag(command)) {
        case T_DropdbStmt:
        case T_RenameStmt:
        case T_AlterDatabaseStmt:
        case T_CreatedbStmt:
            return true;
        default:
            return false;
    }
}

extern "C" void process_utility(PlannedStmt* statement, const char* text, bool read_only_tree,
                                ProcessUtilityContext context, ParamListInfo parameters,
                                QueryEnvironment* environment, DestReceiver* receiver,
                                QueryCompletion* completion) {
    // Everything else passes without a wall: this is on the way of every BEGIN.
    if (is_database_command(statement->utilityStmt)) {
        pg::boundary([&] { make_room_for(statement->utilityStmt); });
    }
    const auto next = next_hook != nullptr ? next_hook : standard_ProcessUtility;
    next(statement, text, read_only_tree, context, parameters, environment, receiver, completion);
}

}  // namespace

void watch_database_commands() {
    next_hook = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}

}  // namespace apikey::worker
