#pragma once

#include "store/row_reader.h"

/**
 * Inserts one row at a time as COPY FROM and the apply worker of logical replication do: the executor's own
 * functions for triggers, constraints, partitions and indexes, without a plan, which for one row costs more
 * than all of them.
 */
namespace apikey::store {

/**
 * A table, or a partitioned one, whose columns are all known to this library by number. Declare it static.
 *
 * Everything that holds for an INSERT of all columns holds here: NOT NULL and CHECK constraints, unique
 * indexes, row triggers, the choice of the partition. Privileges are not asked, and no DEFAULT is applied.
 * What only the planner, or a whole statement, deals with, is left to an INSERT: rules, row-level security,
 * generated columns, statement triggers, foreign tables, and a partition whose columns are in another order.
 */
class RowWriter {
  public:
    constexpr RowWriter(const char* name, std::span<const Column> columns) : name_(name), columns_(columns) {}

    /** Call as the owner of the tables. False: this takes an INSERT, and nothing was done. A row that a
     * trigger suppressed counts as inserted: `inserted` says so, if anybody asks. */
    bool insert(std::span<const Datum> values, std::span<const bool> nulls, bool* inserted = nullptr);

  private:
    Relation open();
    Oid find_leaf(Relation root, TupleTableSlot* slot, EState* state) const;
    Relation open_leaf(Relation root, TupleTableSlot* slot, EState* state);
    bool write(ResultRelInfo* target, TupleTableSlot* slot, EState* state);
    struct Loan {
        MemoryContext memory;
        MemoryContext query;
        std::uint64_t as_of;
    };
    Loan lend(ResultRelInfo* target, EState* state);
    void take_back(const Loan& loan, ResultRelInfo* target, EState* state);

    const char* name_;
    std::span<const Column> columns_;
    // What is known of the table, as long as no relation has changed since.
    Oid verified_ = InvalidOid;
    std::uint64_t verified_at_ = 0;
    bool simple_ = false;
    // The table, or the partition that took the last row.
    Oid leaf_ = InvalidOid;

    /** Its expressions, compiled, as long as nothing that they stand on has changed. Reading those of
     * apikey.key back from the catalog's form takes longer than inserting the row. */
    struct Compiled {
        MemoryContext memory = nullptr;  ///< of all the others; null while they are lent
        std::uint64_t as_of = 0;
        Oid relation = InvalidOid;
        ExprState** checks = nullptr;
        ExprState** trigger_conditions = nullptr;
        ExprState* partition_check = nullptr;
    };
    Compiled compiled_;
};

}  // namespace apikey::store
