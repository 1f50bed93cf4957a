#pragma once

#include "pg/guard.h"
#include "store/snapshot.h"

/**
 * Reads one row of one of our tables by its primary key, without SPI: at every validation, in well under a
 * microsecond, in any kind of transaction, with EXECUTE on the function as the only privilege needed.
 */
namespace apikey::store {

struct Column {
    const char* name;
    Oid type;
};

/**
 * Where a row was last found, and in which shared buffer. Only a guess: whatever the row there says of itself
 * decides. 0 is no guess. Fits a word of shared memory, and may come from anywhere: another database, a table
 * that is gone, a version long dead.
 */
using RowHint = std::uint64_t;

/** Grows whenever any relation's definition changes: then what is known of a table is looked at again. For
 * use inside pg::call(), as the next three are. */
std::uint64_t relation_changes();

/** The table apikey.<name>; an error (42P01) when there is none. */
Oid table_oid(const char* name);

/** Who owns the relation. Takes no lock on it. */
Oid relation_owner(Oid relation);

/** An error (55000) when the table's first columns are not these. */
void verify_columns(Relation relation, const char* name, std::span<const Column> columns);

/** Who keeps a row locked, or has changed it and not committed yet. */
struct RowLockers {
    bool found = false;  ///< is there such a row?
    Oid table = InvalidOid;
    ItemPointerData place{};
    std::vector<TransactionId> transactions;  ///< top-level, in progress, not our own
};

/**
 * A table whose columns this library knows by number. On first use, and again after the table has changed,
 * the columns are compared with `columns`; a difference is an error (55000) whose hint says what to do.
 * Declare it static.
 */
class Table {
  public:
    /** Is the first column of a row, as it lies in the row, the key that is looked for? */
    using IsKey = bool (*)(const char* column, Datum key);

    /** The primary key is the first column, and `equality` its operator. */
    constexpr Table(const char* name, std::span<const Column> columns, RegProcedure equality, IsKey is_key)
        : name_(name), columns_(columns), equality_(equality), is_key_(is_key) {}

    /**
     * The row with this key as `snapshot` shows it. Looks where `hint` says first: if the row there is
     * visible and has the key, then it is the row, since no snapshot shows two with one primary key. Else the
     * table is opened, the snapshot is renewed, and the index searched; then `hint` becomes where the row was
     * found. Writes as many of the first columns as `values` has room for, detoasted. They point into `room`,
     * an aligned piece of memory, if the row fits into it as it is, and else into the current memory context:
     * the answer says which.
     */
    enum class Found { nothing, in_room, in_context };
    Found find(RowSnapshot& snapshot, Datum key, RowHint& hint, std::span<Datum> values,
               std::span<bool> nulls, std::span<char> room = {});

    /** The row with the greatest key. False when there is none. Renews the snapshot. Values as find() has
     * them in the current memory context. */
    bool find_last(RowSnapshot& snapshot, std::span<Datum> values, std::span<bool> nulls);

    /** Was nothing ever written into it? */
    bool is_untouched();

    /**
     * Locks the row with this key FOR KEY SHARE until the end of the transaction, as a foreign key does: it
     * can be edited meanwhile, but neither deleted nor given another key. Reads what `snapshot` shows, and
     * waits for and follows a concurrent change as SELECT … FOR KEY SHARE does: in transactions that keep
     * their snapshot that is a serialization failure (40001). False: no such row, or `accept` did not take
     * it; `values` is the row as it was locked, detoasted, in the current memory context.
     */
    using Accept = bool (*)(std::span<const Datum> values);
    bool lock_key_share(RowSnapshot& snapshot, Datum key, RowHint& hint, std::span<Datum> values,
                        std::span<bool> nulls, Accept accept = nullptr);

    /** Of the row with this key, as `snapshot` shows it. */
    RowLockers find_lockers(RowSnapshot& snapshot, Datum key);

  private:
    /** The table and its primary key, locked and open. */
    struct Opened {
        Relation relation;
        Relation index;
        LOCKMODE mode;
        bool waited;
    };
    Opened open(LOCKMODE mode = AccessShareLock);
    static void close(const Opened& opened);
    Relation open_table(LOCKMODE mode, bool& waited);
    void learn(Relation relation);
    HeapTuple peek(const RowSnapshot& snapshot, Datum key, RowHint hint, std::span<char> room) const;
    HeapTuple search(const Opened& opened, Snapshot snapshot, Datum key, RowHint& hint,
                     std::span<char> room) const;
    bool is_known() const;
    void take_apart(HeapTuple tuple, std::span<Datum> values, std::span<bool> nulls) const;
    bool detoast(std::span<Datum> values, std::span<const bool> nulls) const;

    /** How a column lies in a row: what taking one apart needs of its descriptor, which is spread over a
     * cache line for each column. */
    struct Place {
        std::int16_t length;
        char alignment;
        bool by_value;
    };
    static constexpr std::size_t max_columns = 48;

    const char* name_;
    std::span<const Column> columns_;
    RegProcedure equality_;
    IsKey is_key_;
    // What is known of the table, as long as no relation has changed since.
    Oid verified_ = InvalidOid;
    std::uint64_t verified_at_ = 0;
    std::uint64_t learned_at_ = 0;  ///< a moment, as RowSnapshot counts them
    bool may_peek_ = false;
    pg::FileLocator file_{};
    TupleDesc descriptor_ = nullptr;
    std::array<Place, max_columns> places_{};
};

}  // namespace apikey::store
