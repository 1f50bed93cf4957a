#include "store/row_reader.h"

namespace apikey::store {
namespace {

/** Grows whenever any relation's definition changes: then what was verified is verified again. */
std::uint64_t relcache_changes = 1;
bool callback_registered = false;

extern "C" void count_relcache_change(Datum /*argument*/, Oid /*relation*/) {
    relcache_changes++;
}

}  // namespace

// Called inside pg::call(): no destructors here.
void Table::verify(Relation relation) const {
    const TupleDesc descriptor = RelationGetDescr(relation);
    for (std::size_t i = 0; i < columns_.size(); i++) {
        if (static_cast<int>(i) >= descriptor->natts || TupleDescAttr(descriptor, i)->attisdropped ||
            strcmp(NameStr(TupleDescAttr(descriptor, i)->attname), columns_[i].name) != 0 ||
            TupleDescAttr(descriptor, i)->atttypid != columns_[i].type) {
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("table apikey.%s has another shape than this library expects", name_),
                     errdetail("Column %d should be \"%s\".", static_cast<int>(i) + 1, columns_[i].name),
                     errhint("Run ALTER EXTENSION apikey UPDATE, and restart the server after an upgrade of "
                             "the package.")));
        }
    }
}

Relation Table::open() {
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(count_relcache_change, 0);
        callback_registered = true;
    }
    const Oid schema = get_namespace_oid("apikey", true);
    const Oid oid = OidIsValid(schema) ? get_relname_relid(name_, schema) : InvalidOid;
    if (!OidIsValid(oid)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table apikey.%s does not exist", name_),
                        errhint("Run CREATE EXTENSION apikey in this database.")));
    }
    Relation relation = table_open(oid, AccessShareLock);
    if (verified_ != oid || verified_at_ != relcache_changes) {
        verify(relation);
        verified_ = oid;
        verified_at_ = relcache_changes;
    }
    return relation;
}

bool Table::find(Snapshot snapshot, Datum key, RegProcedure equality, std::span<Datum> values,
                 std::span<bool> nulls) {
    return pg::call([&] {
        Relation relation = open();
        ScanKeyData scan_key;
        ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, equality, key);
        SysScanDesc scan =
            systable_beginscan(relation, pg::primary_key_index(relation), true, snapshot, 1, &scan_key);
        HeapTuple tuple = systable_getnext(scan);
        const bool found = HeapTupleIsValid(tuple);
        if (found) {
            tuple = heap_copytuple(tuple);
            const TupleDesc descriptor = RelationGetDescr(relation);
            for (std::size_t i = 0; i < columns_.size(); i++) {
                values[i] = heap_getattr(tuple, static_cast<int>(i) + 1, descriptor, &nulls[i]);
                // Detoasted here, while the snapshot is registered and the table is locked.
                if (!nulls[i] && TupleDescAttr(descriptor, i)->attlen == -1) {
                    values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
                }
            }
        }
        systable_endscan(scan);
        table_close(relation, AccessShareLock);
        return found;
    });
}

Oid Table::owner() {
    return pg::call([&] {
        Relation relation = open();
        const Oid owner = relation->rd_rel->relowner;
        table_close(relation, AccessShareLock);
        return owner;
    });
}

}  // namespace apikey::store
