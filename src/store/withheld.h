#pragma once

#include "pg/failure.h"
#include "pg/spi.h"

/**
 * Hashes, salts, tags and sealed keys on their way into a row. As parameters of a statement they could be
 * seen by whoever sees plans and parameters: debug_print_plan, auto_explain, pgaudit. So the statement leaves
 * their columns out, and a BEFORE trigger (apikey.fill_withheld()) puts them into the row that it makes.
 */
namespace apikey::store {

struct WithheldValue {
    const char* column;
    pg::Parameter value;
};

/** While this lives, the trigger fills the first row of the table whose first column holds `key`. Another one
 * that begins meanwhile, as in a trigger that somebody has added, ends first. */
class Withheld {
  public:
    /** `values` must live as long. `key`: a uuid's bytes, or a text. */
    Withheld(const char* table, std::string_view key, std::span<const WithheldValue> values);
    Withheld(const Withheld&) = delete;
    Withheld& operator=(const Withheld&) = delete;
    ~Withheld();

    /** Call after a statement that has written the row. Failure 55000 where the trigger did not run, which
     * somebody must have disabled: the row lacks what it is worth nothing without. */
    void require_filled() const;

    /** For the trigger: the row as it is to be written. */
    static HeapTuple fill(const TriggerData& trigger);

  private:
    HeapTuple fill_row(Relation relation, HeapTuple row);

    const char* table_;
    std::string_view key_;
    std::span<const WithheldValue> values_;
    Withheld* outer_;
    bool filled_ = false;
};

/** A constraint that fails quotes the row in its DETAIL, hashes and all, to the caller and to the log: the
 * error goes on without it. */
template <typename Write>
auto without_quoting_the_row(Write&& write) -> decltype(write()) {
    try {
        return write();
    } catch (const pg::Error& error) {
        if (error.sqlstate() == ERRCODE_CHECK_VIOLATION || error.sqlstate() == ERRCODE_NOT_NULL_VIOLATION) {
            throw pg::Failure(error.sqlstate(), error.what());
        }
        throw;
    }
}

}  // namespace apikey::store
