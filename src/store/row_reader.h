#pragma once

#include "pg/guard.h"

/**
 * Reads one row of one of our tables by its primary key, without SPI: at every validation, in microseconds,
 * in any kind of transaction, with EXECUTE on the function as the only privilege needed.
 */
namespace apikey::store {

struct Column {
    const char* name;
    Oid type;
};

/**
 * A table whose columns this library knows by number. On first use, and again after the table has changed,
 * the columns are compared with `columns`; a difference is an error (55000) that asks for ALTER EXTENSION
 * UPDATE. Declare it static.
 */
class Table {
  public:
    constexpr Table(const char* name, std::span<const Column> columns) : name_(name), columns_(columns) {}

    /**
     * The row whose primary key's only column, the first of the table, equals `key`. Writes columns().size()
     * values and nulls, palloc'd copies in the current memory context. False when there is none.
     */
    bool find(Snapshot snapshot, Datum key, RegProcedure equality, std::span<Datum> values,
              std::span<bool> nulls);

    /** Who owns the table, and so the extension's data. */
    Oid owner();

  private:
    Relation open();
    void verify(Relation relation) const;

    const char* name_;
    std::span<const Column> columns_;
    Oid verified_ = InvalidOid;
    std::uint64_t verified_at_ = 0;
};

}  // namespace apikey::store
