#include "shm/area.h"
#include "shm/at_commit.h"

namespace apikey::shm {
namespace {

/** What one (sub)transaction has done so far, with that of its committed subtransactions. */
struct Pending {
    SubTransactionId level;
    std::array<std::uint64_t, 2> counts;
};

/** The open levels that have done anything, outermost first. */
std::vector<Pending> pending;

// The callbacks run while PostgreSQL ends a transaction: they allocate nothing and cannot throw.

void add_to_counters() {
    Counters& counters = my_counters();
    for (const Pending& level : pending) {
        count(counters.issued, level.counts[static_cast<std::size_t>(Committed::issue)]);
        count(counters.refreshed, level.counts[static_cast<std::size_t>(Committed::refresh)]);
    }
}

extern "C" void at_end(XactEvent event, void* /*argument*/) {
    switch (event) {
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_PREPARE:
            add_to_counters();
            pending.clear();
            break;
        case XACT_EVENT_ABORT:
            pending.clear();
            break;
        default:
            break;
    }
}

extern "C" void at_end_of_subtransaction(SubXactEvent event, SubTransactionId level, SubTransactionId parent,
                                         void* /*argument*/) {
    if (pending.empty() || pending.back().level != level) {
        return;
    }
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        pending.pop_back();
    } else if (event == SUBXACT_EVENT_COMMIT_SUB) {
        pending.back().level = parent;
        if (pending.size() > 1 && pending[pending.size() - 2].level == parent) {
            Pending& outer = pending[pending.size() - 2];
            for (std::size_t i = 0; i < outer.counts.size(); i++) {
                outer.counts[i] += pending.back().counts[i];
            }
            pending.pop_back();
        }
    }
}

void register_callbacks() {
    static bool registered = false;
    if (!registered) {
        pg::call([] {
            RegisterXactCallback(at_end, nullptr);
            RegisterSubXactCallback(at_end_of_subtransaction, nullptr);
        });
        registered = true;
    }
}

}  // namespace

void count_at_commit(Committed what) {
    // Also makes sure that my_counters() has nothing left to do in the callback.
    if (my_database() == nullptr) {
        return;
    }
    register_callbacks();
    const SubTransactionId level = GetCurrentSubTransactionId();
    if (pending.empty() || pending.back().level != level) {
        pending.push_back({level, {}});
    }
    pending.back().counts[static_cast<std::size_t>(what)]++;
}

}  // namespace apikey::shm
