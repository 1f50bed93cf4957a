#include "store/withheld.h"

#include "pg/datum.h"
#include "store/row_reader.h"

namespace apikey::store {
namespace {

Withheld* pending = nullptr;

constexpr std::size_t most_values = 8;

/** Inside pg::call(). */
std::string_view raw_first_column(Relation relation, HeapTuple row) {
    bool null = false;
    const Datum value = heap_getattr(row, 1, RelationGetDescr(relation), &null);
    if (null) {
        return {};
    }
    if (TupleDescAttr(RelationGetDescr(relation), 0)->atttypid == UUIDOID) {
        return {reinterpret_cast<const char*>(DatumGetUUIDP(value)->data), UUID_LEN};
    }
    return pg::raw_text(PointerGetDatum(PG_DETOAST_DATUM_PACKED(value)));
}

}  // namespace

Withheld::Withheld(const char* table, std::string_view key, std::span<const WithheldValue> values)
    : table_(table), key_(key), values_(values), outer_(pending) {
    if (values.size() > most_values) {
        throw std::logic_error("too many columns are withheld");
    }
    pending = this;
}

Withheld::~Withheld() {
    pending = outer_;
}

void Withheld::require_filled() const {
    if (!filled_) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          std::string("a trigger of table apikey.") + table_ + " did not run",
                          "The row would lack what proves its token, or its key.",
                          "Is it disabled? apikey.status() says so.");
    }
}

HeapTuple Withheld::fill_row(Relation relation, HeapTuple row) {
    return pg::call([&] {
        if (filled_ || RelationGetRelid(relation) != table_oid(table_) ||
            raw_first_column(relation, row) != key_) {
            return row;
        }
        std::array<int, most_values> columns;
        std::array<Datum, most_values> values;
        std::array<bool, most_values> nulls;
        for (std::size_t i = 0; i < values_.size(); i++) {
            columns[i] = SPI_fnumber(RelationGetDescr(relation), values_[i].column);
            if (columns[i] <= 0) {
                elog(ERROR, "apikey.%s has no column %s", table_, values_[i].column);
            }
            values[i] = values_[i].value.value;
            nulls[i] = values_[i].value.null;
        }
        HeapTuple filled =
            heap_modify_tuple_by_cols(row, RelationGetDescr(relation), static_cast<int>(values_.size()),
                                      columns.data(), values.data(), nulls.data());
        filled_ = true;
        return filled;
    });
}

HeapTuple Withheld::fill(const TriggerData& trigger) {
    HeapTuple row = TRIGGER_FIRED_BY_UPDATE(trigger.tg_event) ? trigger.tg_newtuple : trigger.tg_trigtuple;
    return pending == nullptr ? row : pending->fill_row(trigger.tg_relation, row);
}

}  // namespace apikey::store
