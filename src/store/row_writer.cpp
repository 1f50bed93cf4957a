#include "store/row_writer.h"

namespace apikey::store {
namespace {

/** Grows whenever anything changes that a compiled expression stands on: a relation, function, operator or
 * type. */
std::uint64_t object_changes = 1;
bool callback_registered = false;

extern "C" void count_object_change(Datum /*argument*/, int /*cache*/, std::uint32_t /*hash*/) {
    object_changes++;
}

// All of these are called inside pg::call(): no destructors here.
std::uint64_t expression_changes() {
    if (!callback_registered) {
        // As the plan cache does.
        for (const int cache : {PROCOID, TYPEOID, OPEROID, CONSTROID, AUTHMEMROLEMEM}) {
            CacheRegisterSyscacheCallback(cache, count_object_change, 0);
        }
        callback_registered = true;
    }
    return object_changes + relation_changes();
}

/** Nothing there that only a statement deals with. */
bool is_simple(Relation relation) {
    const TriggerDesc* triggers = relation->trigdesc;
    return !relation->rd_rel->relhasrules && !relation->rd_rel->relrowsecurity &&
           !pg::has_generated_columns(RelationGetDescr(relation)) &&
           (triggers == nullptr ||
            (!triggers->trig_insert_before_statement && !triggers->trig_insert_after_statement &&
             !triggers->trig_insert_new_table));
}

}  // namespace

Relation RowWriter::open() {
    (void)relation_changes();
    if (OidIsValid(verified_)) {
        Relation relation = try_table_open(verified_, RowExclusiveLock);
        if (relation != nullptr && verified_at_ == relation_changes()) {
            return relation;
        }
        if (relation != nullptr) {
            table_close(relation, RowExclusiveLock);
        }
        verified_ = InvalidOid;
    }
    const Oid oid = table_oid(name_);
    Relation relation = table_open(oid, RowExclusiveLock);
    verify_columns(relation, name_, columns_);
    const char kind = relation->rd_rel->relkind;
    simple_ = (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) && is_simple(relation) &&
              RelationGetDescr(relation)->natts == static_cast<int>(columns_.size());
    verified_ = oid;
    verified_at_ = relation_changes();
    return relation;
}

/** The partition that the row in the slot belongs to; InvalidOid where that takes a statement. */
Oid RowWriter::find_leaf(Relation root, TupleTableSlot* slot, EState* state) const {
    auto* target = makeNode(ResultRelInfo);
    InitResultRelInfo(target, root, 1, nullptr, 0);
    auto* modify = makeNode(ModifyTableState);
    modify->ps.state = state;
    modify->operation = CMD_INSERT;
    modify->mt_nrels = 1;
    modify->resultRelInfo = target;
    modify->rootResultRelInfo = target;
    PartitionTupleRouting* routing = ExecSetupPartitionTupleRouting(state, root);
    ResultRelInfo* partition = ExecFindPartition(modify, target, routing, slot, state);
    Relation leaf = partition->ri_RelationDesc;
    const bool takes_statement = leaf->rd_rel->relkind != RELKIND_RELATION ||
                                 pg::needs_conversion(partition, state) || !is_simple(leaf);
    const Oid oid = takes_statement ? InvalidOid : RelationGetRelid(leaf);
    ExecCleanupTupleRouting(modify, routing);
    return oid;
}

/** The relation that the row in the slot is stored in, open: `root` itself, or a partition; nullptr where
 * that takes a statement. */
Relation RowWriter::open_leaf(Relation root, TupleTableSlot* slot, EState* state) {
    if (root->rd_rel->relkind == RELKIND_RELATION) {
        leaf_ = RelationGetRelid(root);
        return root;
    }
    if (OidIsValid(leaf_) && compiled_.memory != nullptr && compiled_.relation == leaf_) {
        Relation leaf = try_table_open(leaf_, RowExclusiveLock);
        // Having waited for the lock we know of all that others have done to it.
        if (leaf != nullptr && compiled_.as_of == expression_changes()) {
            ExprContext* context = GetPerTupleExprContext(state);
            context->ecxt_scantuple = slot;
            if (ExecCheck(compiled_.partition_check, context)) {
                return leaf;
            }
        }
        if (leaf != nullptr) {
            table_close(leaf, NoLock);
        }
    }
    leaf_ = find_leaf(root, slot, state);
    return OidIsValid(leaf_) ? table_open(leaf_, RowExclusiveLock) : nullptr;
}

/** Until take_back(), what the executor compiles is compiled into memory that is kept, unless that was done
 * before. An error ends it with the query. */
RowWriter::Loan RowWriter::lend(ResultRelInfo* target, EState* state) {
    // What expressions are called with stays with the query.
    (void)GetPerTupleExprContext(state);
    // Taken away, for the case that a trigger writes such a row as well.
    Loan loan{std::exchange(compiled_.memory, nullptr), state->es_query_cxt, expression_changes()};
    if (loan.memory != nullptr && compiled_.as_of == loan.as_of &&
        compiled_.relation == RelationGetRelid(target->ri_RelationDesc)) {
        MemoryContextSetParent(loan.memory, loan.query);
        pg::compiled_checks(target) = compiled_.checks;
        target->ri_PartitionCheckExpr = compiled_.partition_check;
        target->ri_TrigWhenExprs = compiled_.trigger_conditions;
    } else {
        if (loan.memory != nullptr) {
            MemoryContextDelete(loan.memory);
        }
        loan.memory = AllocSetContextCreate(loan.query, "apikey expressions", ALLOCSET_SMALL_SIZES);
        if (target->ri_TrigDesc != nullptr) {
            target->ri_TrigWhenExprs = static_cast<ExprState**>(MemoryContextAllocZero(
                loan.memory,
                static_cast<std::size_t>(target->ri_TrigDesc->numtriggers) * sizeof(ExprState*)));
        }
    }
    state->es_query_cxt = loan.memory;
    return loan;
}

void RowWriter::take_back(const Loan& loan, ResultRelInfo* target, EState* state) {
    state->es_query_cxt = loan.query;
    if (compiled_.memory == nullptr) {
        MemoryContextSetParent(loan.memory, TopMemoryContext);
        compiled_ = {loan.memory,
                     loan.as_of,
                     RelationGetRelid(target->ri_RelationDesc),
                     pg::compiled_checks(target),
                     target->ri_TrigWhenExprs,
                     target->ri_PartitionCheckExpr};
    }
}

/** Stores the row in the slot, if no trigger has another opinion. */
bool RowWriter::write(ResultRelInfo* target, TupleTableSlot* slot, EState* state) {
    Relation relation = target->ri_RelationDesc;
    const bool is_partition = relation->rd_rel->relispartition;
    const bool before_row = target->ri_TrigDesc != nullptr && target->ri_TrigDesc->trig_insert_before_row;
    const Loan loan = lend(target, state);
    if (is_partition) {
        ExecPartitionCheck(target, slot, state, true);
    }
    if (before_row && !ExecBRInsertTriggers(state, target, slot)) {
        take_back(loan, target, state);
        return false;
    }
    if (relation->rd_att->constr != nullptr) {
        ExecConstraints(target, slot, state);
    }
    if (is_partition && before_row) {
        ExecPartitionCheck(target, slot, state, true);
    }
    state->es_query_cxt = loan.query;
    table_tuple_insert(relation, slot, state->es_output_cid, 0, nullptr);
    List* deferred = target->ri_NumIndices > 0 ? pg::insert_index_entries(target, slot, state) : NIL;
    state->es_query_cxt = loan.memory;
    ExecARInsertTriggers(state, target, slot, deferred, nullptr);
    take_back(loan, target, state);
    return true;
}

bool RowWriter::insert(std::span<const Datum> values, std::span<const bool> nulls, bool* inserted) {
    return pg::call([&] {
        Relation root = open();
        if (!simple_) {
            table_close(root, NoLock);
            return false;
        }
        // As at the start of a statement.
        CommandCounterIncrement();
        PushActiveSnapshot(GetTransactionSnapshot());
        EState* state = CreateExecutorState();
        const MemoryContext before = MemoryContextSwitchTo(state->es_query_cxt);
        auto* entry = makeNode(RangeTblEntry);
        entry->rtekind = RTE_RELATION;
        entry->relid = RelationGetRelid(root);
        entry->relkind = root->rd_rel->relkind;
        entry->rellockmode = RowExclusiveLock;
        pg::init_range_table(state, entry);
        state->es_snapshot = GetActiveSnapshot();
        state->es_output_cid = GetCurrentCommandId(true);

        TupleTableSlot* slot = table_slot_create(root, &state->es_tupleTable);
        ExecClearTuple(slot);
        std::copy(values.begin(), values.end(), slot->tts_values);
        std::copy(nulls.begin(), nulls.end(), slot->tts_isnull);
        ExecStoreVirtualTuple(slot);

        Relation leaf = open_leaf(root, slot, state);
        if (leaf != nullptr) {
            slot->tts_tableOid = RelationGetRelid(leaf);
            auto* target = makeNode(ResultRelInfo);
            InitResultRelInfo(target, leaf, 1, nullptr, 0);
            state->es_opened_result_relations = lappend(state->es_opened_result_relations, target);
            ExecOpenIndices(target, false);
            AfterTriggerBeginQuery();
            const bool stored = write(target, slot, state);
            if (inserted != nullptr) {
                *inserted = stored;
            }
            AfterTriggerEndQuery(state);
            if (leaf != root) {
                table_close(leaf, NoLock);
            }
        }
        ExecResetTupleTable(state->es_tupleTable, false);
        ExecCloseResultRelations(state);
        MemoryContextSwitchTo(before);
        FreeExecutorState(state);
        PopActiveSnapshot();
        table_close(root, NoLock);
        return leaf != nullptr;
    });
}

}  // namespace apikey::store
