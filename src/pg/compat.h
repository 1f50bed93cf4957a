#pragma once

#include "pg/prelude.h"

/** Differences between the supported major versions (15 to 18), each in one small function. Included by
 * prelude.h only. */
#if PG_VERSION_NUM < 150000
#error "apikey needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 160000
extern "C" {
#include "catalog/pg_proc_d.h"
#include "parser/parse_relation.h"
#include "varatt.h"
}
#endif

namespace apikey::pg {

/** Where a 64-bit value is no Datum by itself, making one allocates, and can raise outside any wall. */
static_assert(sizeof(Datum) == 8, "apikey needs a 64-bit server");

/** Which file holds a relation. */
#if PG_VERSION_NUM >= 160000
using FileLocator = RelFileLocator;
inline FileLocator file_locator(Relation relation) {
    return relation->rd_locator;
}
#else
using FileLocator = RelFileNode;
inline FileLocator file_locator(Relation relation) {
    return relation->rd_node;
}
#endif

inline Oid primary_key_index(Relation relation) {
#if PG_VERSION_NUM >= 180000
    return RelationGetPrimaryKeyIndex(relation, false);
#else
    return RelationGetPrimaryKeyIndex(relation);
#endif
}

inline bool may_execute(Oid function, Oid user) {
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(ProcedureRelationId, function, user, ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, user, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

inline bool owns_database(Oid database, Oid user) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, user);
#else
    return pg_database_ownercheck(database, user);
#endif
}

/** CHECK constraints as the executor has compiled them; nullptr before it has. */
inline ExprState**& compiled_checks(ResultRelInfo* target) {
#if PG_VERSION_NUM >= 180000
    return target->ri_CheckConstraintExprs;
#else
    return target->ri_ConstraintExprs;
#endif
}

/** Makes the relation of `entry` the only one of the query, one that is inserted into. */
inline void init_range_table(EState* state, RangeTblEntry* entry) {
#if PG_VERSION_NUM >= 160000
    List* permissions = NIL;
    addRTEPermissionInfo(&permissions, entry);
#endif
#if PG_VERSION_NUM >= 180000
    ExecInitRangeTable(state, list_make1(entry), permissions, bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
    ExecInitRangeTable(state, list_make1(entry), permissions);
#else
    ExecInitRangeTable(state, list_make1(entry));
#endif
}

/** Are the columns of a partition in another order than those of its parent? */
inline bool needs_conversion(ResultRelInfo* partition, [[maybe_unused]] EState* state) {
#if PG_VERSION_NUM >= 160000
    return ExecGetRootToChildMap(partition, state) != nullptr;
#else
    return partition->ri_RootToPartitionMap != nullptr;
#endif
}

/** Enters the row in the slot into the indexes. Those whose uniqueness is to be checked later are returned.
 */
inline List* insert_index_entries(ResultRelInfo* target, TupleTableSlot* slot, EState* state) {
#if PG_VERSION_NUM >= 160000
    return ExecInsertIndexTuples(target, slot, state, false, false, nullptr, NIL, false);
#else
    return ExecInsertIndexTuples(target, slot, state, false, false, nullptr, NIL);
#endif
}

inline bool has_generated_columns(TupleDesc descriptor) {
    const TupleConstr* constraints = descriptor->constr;
#if PG_VERSION_NUM >= 180000
    return constraints != nullptr &&
           (constraints->has_generated_stored || constraints->has_generated_virtual);
#else
    return constraints != nullptr && constraints->has_generated_stored;
#endif
}

/** Number of this process among all that can have a transaction: 0 to MaxBackends - 1. */
inline int backend_index() {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    return MyBackendId - 1;
#endif
}

/** Nobody's but the caller's: no transaction's end frees it. */
inline WaitEventSet* raw_create_wait_event_set(int events) {
#if PG_VERSION_NUM >= 170000
    return CreateWaitEventSet(nullptr, events);
#else
    return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

}  // namespace apikey::pg
