#include "store/row_reader.h"

extern "C" {
#include "access/multixact.h"
#include "access/subtrans.h"
}

namespace apikey::store {
namespace {

/** For use inside pg::call(). */
TransactionId* add_locker(TransactionId* end, TransactionId transaction) {
    if (TransactionIdIsCurrentTransactionId(transaction) || !TransactionIdIsInProgress(transaction)) {
        return end;
    }
    *end = SubTransGetTopmostTransaction(transaction);
    return end + 1;
}

}  // namespace

RowLockers Table::find_lockers(RowSnapshot& snapshot, Datum key) {
    RowLockers lockers;
    TransactionId* first = nullptr;
    TransactionId* end = nullptr;
    pg::call([&] {
        const Opened opened = open();
        snapshot.renew(opened.waited);
        RowHint unused = 0;
        HeapTuple tuple = search(opened, snapshot, key, unused, {});
        lockers.table = RelationGetRelid(opened.relation);
        if (tuple != nullptr) {
            lockers.found = true;
            lockers.place = tuple->t_self;
            const HeapTupleHeader header = tuple->t_data;
            const TransactionId transaction = HeapTupleHeaderGetRawXmax(header);
            if ((header->t_infomask & HEAP_XMAX_INVALID) != 0 || !TransactionIdIsValid(transaction)) {
                first = nullptr;
            } else if ((header->t_infomask & HEAP_XMAX_IS_MULTI) != 0) {
                MultiXactMember* members = nullptr;
                const int count = GetMultiXactIdMembers(transaction, &members, false,
                                                        HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
                first = static_cast<TransactionId*>(
                    palloc(sizeof(TransactionId) * static_cast<std::size_t>(std::max(count, 1))));
                end = first;
                for (int i = 0; i < count; i++) {
                    end = add_locker(end, members[i].xid);
                }
            } else {
                first = static_cast<TransactionId*>(palloc(sizeof(TransactionId)));
                end = add_locker(first, transaction);
            }
        }
        close(opened);
    });
    if (first != nullptr) {
        lockers.transactions.assign(first, end);
    }
    return lockers;
}

}  // namespace apikey::store
