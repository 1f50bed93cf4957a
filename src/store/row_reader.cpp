#include "store/row_reader.h"

#include <cstring>

#include "pg/library_version.h"

extern "C" {
#include "access/tupmacs.h"
}

namespace apikey::store {
namespace {

/** Grows whenever any relation's definition changes: then what was verified is verified again. */
std::uint64_t relcache_changes = 1;
bool callback_registered = false;

extern "C" void count_relcache_change(Datum /*argument*/, Oid /*relation*/) {
    relcache_changes++;
}

/** A hint: block in 32 bits, offset in 11, and the lowest 21 bits of the buffer's number. */
constexpr int offset_bits = 11;
constexpr int buffer_bits = 21;
static_assert(MaxHeapTuplesPerPage < 1 << offset_bits);

RowHint make_hint(const ItemPointerData& place, Buffer buffer) {
    return static_cast<RowHint>(ItemPointerGetBlockNumberNoCheck(&place)) << (offset_bits + buffer_bits) |
           static_cast<RowHint>(ItemPointerGetOffsetNumberNoCheck(&place)) << buffer_bits |
           (static_cast<RowHint>(buffer) & ((RowHint(1) << buffer_bits) - 1));
}

BlockNumber block_of(RowHint hint) {
    return static_cast<BlockNumber>(hint >> (offset_bits + buffer_bits));
}

OffsetNumber offset_of(RowHint hint) {
    return static_cast<OffsetNumber>(hint >> buffer_bits & ((1U << offset_bits) - 1));
}

/** Pins the buffer if it still holds the block. Above 16 GB of shared buffers several have the same low bits.
 */
Buffer pin_recent(const pg::FileLocator& file, RowHint hint) {
    const auto low = static_cast<Buffer>(hint & ((RowHint(1) << buffer_bits) - 1));
    for (Buffer buffer = low == 0 ? 1 << buffer_bits : low; buffer <= NBuffers; buffer += 1 << buffer_bits) {
        if (ReadRecentBuffer(file, MAIN_FORKNUM, block_of(hint), buffer)) {
            return buffer;
        }
    }
    return InvalidBuffer;
}

/** heap_copytuple(), into `room` if it is large enough. */
HeapTuple copy_tuple(HeapTuple tuple, std::span<char> room) {
    if (HEAPTUPLESIZE + tuple->t_len > room.size()) {
        return heap_copytuple(tuple);
    }
    auto* copy = reinterpret_cast<HeapTuple>(room.data());
    *copy = *tuple;
    copy->t_data = reinterpret_cast<HeapTupleHeader>(room.data() + HEAPTUPLESIZE);
    memcpy(copy->t_data, tuple->t_data, tuple->t_len);
    return copy;
}

/** True: it had to wait. */
bool lock_relation(Oid relation, LOCKMODE mode) {
    if (ConditionalLockRelationOid(relation, mode)) {
        return false;
    }
    LockRelationOid(relation, mode);
    return true;
}

}  // namespace

// All of these are called inside pg::call(): no destructors here.
std::uint64_t relation_changes() {
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(count_relcache_change, 0);
        callback_registered = true;
    }
    return relcache_changes;
}

Oid table_oid(const char* name) {
    const Oid schema = get_namespace_oid("apikey", true);
    const Oid oid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    if (!OidIsValid(oid)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table apikey.%s does not exist", name),
                        errhint("Run CREATE EXTENSION apikey in this database.")));
    }
    return oid;
}

Oid relation_owner(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation)));
    }
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

void verify_columns(Relation relation, const char* name, std::span<const Column> columns) {
    const TupleDesc descriptor = RelationGetDescr(relation);
    for (std::size_t i = 0; i < columns.size(); i++) {
        if (static_cast<int>(i) >= descriptor->natts || TupleDescAttr(descriptor, i)->attisdropped ||
            strcmp(NameStr(TupleDescAttr(descriptor, i)->attname), columns[i].name) != 0 ||
            TupleDescAttr(descriptor, i)->atttypid != columns[i].type) {
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("table apikey.%s has another shape than this library expects", name),
                     errdetail("Column %d should be \"%s\".", static_cast<int>(i) + 1, columns[i].name),
                     errhint("%s", pg::remedy(pg::raw_installed()))));
        }
    }
}

bool Table::is_known() const {
    return OidIsValid(verified_) && verified_at_ == relcache_changes;
}

void Table::learn(Relation relation) {
    static_assert(max_columns <= MaxHeapAttributeNumber);
    if (columns_.size() > max_columns) {
        elog(ERROR, "apikey.%s has more columns than this library can read", name_);
    }
    verify_columns(relation, name_, columns_);
    if (descriptor_ != nullptr) {
        FreeTupleDesc(descriptor_);
        descriptor_ = nullptr;
    }
    const MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    // With its constraints, where the values of columns are kept that are younger than a row.
    descriptor_ = CreateTupleDescCopyConstr(RelationGetDescr(relation));
    MemoryContextSwitchTo(before);
    for (std::size_t i = 0; i < columns_.size(); i++) {
        const auto* column = TupleDescAttr(descriptor_, i);
        places_[i] = {column->attlen, column->attalign, column->attbyval};
    }
    may_peek_ = relation->rd_rel->relam == HEAP_TABLE_AM_OID && !RelationUsesLocalBuffers(relation);
    file_ = pg::file_locator(relation);
    verified_ = RelationGetRelid(relation);
    verified_at_ = relcache_changes;
    learned_at_ = RowSnapshot::next_moment();
}

Relation Table::open_table(LOCKMODE mode, bool& waited) {
    (void)relation_changes();
    if (is_known()) {
        const Oid oid = verified_;
        waited = lock_relation(oid, mode) || waited;
        // Locking may bring the news that the table is another by now, or none.
        Relation relation = try_table_open(oid, NoLock);
        if (relation != nullptr && is_known()) {
            return relation;
        }
        if (relation != nullptr) {
            table_close(relation, NoLock);
        }
        UnlockRelationOid(oid, mode);
    }
    const Oid oid = table_oid(name_);
    waited = lock_relation(oid, mode) || waited;
    Relation relation = table_open(oid, NoLock);
    learn(relation);
    return relation;
}

Table::Opened Table::open(LOCKMODE mode) {
    bool waited = false;
    Relation relation = open_table(mode, waited);
    const Oid key = pg::primary_key_index(relation);
    if (!OidIsValid(key)) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table apikey.%s has no primary key", name_),
                        errhint("Add the primary key that CREATE EXTENSION apikey made.")));
    }
    waited = lock_relation(key, AccessShareLock) || waited;
    return {relation, index_open(key, NoLock), mode, waited};
}

void Table::close(const Opened& opened) {
    index_close(opened.index, AccessShareLock);
    table_close(opened.relation, opened.mode);
}

/**
 * The row at the hint, read without opening or locking the table, which would cost more than all the rest of
 * a validation. What makes that right:
 *
 * - Only a buffer that holds this very block of this very file is looked at, under a pin and its content
 *   lock, as every reader of the heap does; nothing is read in. A file that is dropped, truncated or replaced
 *   (DROP, TRUNCATE, VACUUM FULL, ALTER TABLE) loses its buffers before the transaction that did it reports
 *   success; from then on nothing is found here.
 * - What this session knows of the table, its file and its columns, is as of the invalidations that others
 *   have sent by now; one that comes a moment later belongs to a change that is committing while we look, and
 *   then before or after it are both right.
 * - The snapshot is younger than that knowledge: in a file that came later an older one could show a version
 *   of the row that was no longer the last when the snapshot was taken (see RowSnapshot).
 * - A row that the latest snapshot shows, and that has the key, is the key's row: no snapshot shows two.
 *
 * In a SERIALIZABLE transaction reading leaves predicate locks, so there it goes the usual way.
 */
HeapTuple Table::peek(const RowSnapshot& snapshot, Datum key, RowHint hint, std::span<char> room) const {
    if (hint == 0 || IsolationIsSerializable()) {
        return nullptr;
    }
    AcceptInvalidationMessages();
    if (!is_known() || !may_peek_ || !snapshot.is_younger_than(learned_at_)) {
        return nullptr;
    }
    const Buffer buffer = pin_recent(file_, hint);
    if (!BufferIsValid(buffer)) {
        return nullptr;
    }
    HeapTuple copy = nullptr;
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    const OffsetNumber offset = offset_of(hint);
    if (offset >= FirstOffsetNumber && offset <= PageGetMaxOffsetNumber(page)) {
        const ItemId item = PageGetItemId(page, offset);
        if (ItemIdIsNormal(item)) {
            HeapTupleData tuple;
            tuple.t_data = reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item));
            tuple.t_len = ItemIdGetLength(item);
            tuple.t_tableOid = verified_;
            ItemPointerSet(&tuple.t_self, block_of(hint), offset);
            // The first column is never NULL and nothing comes before it.
            const char* first = reinterpret_cast<const char*>(tuple.t_data) + tuple.t_data->t_hoff;
            if (is_key_(first, key) && HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer)) {
                copy = copy_tuple(&tuple, room);
            }
        }
    }
    UnlockReleaseBuffer(buffer);
    return copy;
}

HeapTuple Table::search(const Opened& opened, Snapshot snapshot, Datum key, RowHint& hint,
                        std::span<char> room) const {
    ScanKeyData scan_key;
    ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, equality_, key);
    SysScanDesc scan =
        systable_beginscan(opened.relation, RelationGetRelid(opened.index), true, snapshot, 1, &scan_key);
    HeapTuple tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        // The scan holds the row in a slot of its own, pinned in its buffer.
        const Buffer buffer = TTS_IS_BUFFERTUPLE(scan->slot)
                                  ? reinterpret_cast<BufferHeapTupleTableSlot*>(scan->slot)->buffer
                                  : InvalidBuffer;
        tuple = copy_tuple(tuple, room);
        hint = make_hint(tuple->t_self, buffer);
    }
    systable_endscan(scan);
    return tuple;
}

/** heap_deform_tuple() for the first columns only, and with less to read. */
void Table::take_apart(HeapTuple tuple, std::span<Datum> values, std::span<bool> nulls) const {
    const HeapTupleHeader header = tuple->t_data;
    if (HeapTupleHeaderGetNatts(header) < values.size()) {
        // The row is older than some of the columns: those have their values in the descriptor.
        const int width = descriptor_->natts;
        descriptor_->natts = static_cast<int>(values.size());
        heap_deform_tuple(tuple, descriptor_, values.data(), nulls.data());
        descriptor_->natts = width;
        return;
    }
    const bits8* present = HeapTupleHasNulls(tuple) ? header->t_bits : nullptr;
    const char* data = reinterpret_cast<const char*>(header) + header->t_hoff;
    std::size_t offset = 0;
    for (std::size_t i = 0; i < values.size(); i++) {
        nulls[i] = present != nullptr && att_isnull(static_cast<int>(i), present);
        if (nulls[i]) {
            values[i] = 0;
            continue;
        }
        const Place& place = places_[i];
        offset = att_align_pointer(offset, place.alignment, place.length, data + offset);
        values[i] = fetch_att(data + offset, place.by_value, place.length);
        offset = att_addlength_pointer(offset, place.length, data + offset);
    }
}

/** True when there was something to detoast. */
bool Table::detoast(std::span<Datum> values, std::span<const bool> nulls) const {
    bool any = false;
    for (std::size_t i = 0; i < values.size(); i++) {
        if (!nulls[i] && places_[i].length == -1) {
            const auto* value = DatumGetPointer(values[i]);
            if (VARATT_IS_COMPRESSED(value) || VARATT_IS_EXTERNAL(value)) {
                values[i] = PointerGetDatum(PG_DETOAST_DATUM(values[i]));
                any = true;
            }
        }
    }
    return any;
}

Table::Found Table::find(RowSnapshot& snapshot, Datum key, RowHint& hint, std::span<Datum> values,
                         std::span<bool> nulls, std::span<char> room) {
    return pg::call([&] {
        HeapTuple tuple = peek(snapshot, key, hint, room);
        Opened opened{};
        // What lies in the TOAST table is fetched under the table's lock.
        if (tuple == nullptr || HeapTupleHasExternal(tuple)) {
            opened = open();
            snapshot.renew(opened.waited);
            tuple = search(opened, snapshot, key, hint, room);
        }
        Found found = Found::nothing;
        if (tuple != nullptr) {
            found = reinterpret_cast<char*>(tuple) == room.data() ? Found::in_room : Found::in_context;
            take_apart(tuple, values, nulls);
            if (detoast(values, nulls)) {
                found = Found::in_context;
            }
        }
        if (opened.relation != nullptr) {
            close(opened);
        }
        return found;
    });
}

bool Table::find_last(RowSnapshot& snapshot, std::span<Datum> values, std::span<bool> nulls) {
    return pg::call([&] {
        const Opened opened = open();
        snapshot.renew(opened.waited);
        SysScanDesc scan = systable_beginscan_ordered(opened.relation, opened.index, snapshot, 0, nullptr);
        HeapTuple tuple = systable_getnext_ordered(scan, BackwardScanDirection);
        const bool found = HeapTupleIsValid(tuple);
        if (found) {
            take_apart(heap_copytuple(tuple), values, nulls);
            detoast(values, nulls);
        }
        systable_endscan_ordered(scan);
        close(opened);
        return found;
    });
}

bool Table::is_untouched() {
    return pg::call([&] {
        bool waited = false;
        Relation relation = open_table(AccessShareLock, waited);
        const bool untouched = RelationGetNumberOfBlocks(relation) == 0;
        table_close(relation, AccessShareLock);
        return untouched;
    });
}

bool Table::lock_key_share(RowSnapshot& snapshot, Datum key, RowHint& hint, std::span<Datum> values,
                           std::span<bool> nulls, Accept accept) {
    return pg::call([&] {
        const Opened opened = open(RowShareLock);
        Relation relation = opened.relation;
        snapshot.renew(opened.waited);
        HeapTuple tuple = peek(snapshot, key, hint, {});
        if (tuple == nullptr) {
            tuple = search(opened, snapshot, key, hint, {});
        }
        bool locked = false;
        if (tuple != nullptr) {
            take_apart(tuple, values, nulls);
            detoast(values, nulls);
            if (accept == nullptr || accept(values)) {
                TupleTableSlot* slot = table_slot_create(relation, nullptr);
                TM_FailureData failure;
                // What nodeLockRows.c does.
                const std::uint8_t flags =
                    TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS |
                    (IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION);
                const TM_Result result =
                    table_tuple_lock(relation, &tuple->t_self, snapshot, slot, GetCurrentCommandId(false),
                                     LockTupleKeyShare, LockWaitBlock, flags, &failure);
                if (IsolationUsesXactSnapshot() && (result == TM_Updated || result == TM_Deleted)) {
                    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                                    errmsg("could not serialize access due to concurrent update")));
                }
                if (result != TM_Ok && result != TM_Deleted && result != TM_SelfModified) {
                    elog(ERROR, "could not lock a row of apikey.%s: %d", name_, static_cast<int>(result));
                }
                locked = result == TM_Ok;
                if (locked && failure.traversed) {
                    // It was changed meanwhile: this is what it is now.
                    take_apart(ExecCopySlotHeapTuple(slot), values, nulls);
                    detoast(values, nulls);
                    locked =
                        is_key_(DatumGetPointer(values[0]), key) && (accept == nullptr || accept(values));
                }
                ExecDropSingleTupleTableSlot(slot);
            }
        }
        index_close(opened.index, AccessShareLock);
        table_close(relation, NoLock);
        return locked;
    });
}

}  // namespace apikey::store
