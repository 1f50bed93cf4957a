#include <cstring>

#include "pg/log.h"
#include "pg/settings.h"
#include "shm/area.h"

namespace apikey::shm {
namespace {

/** Where those count who have nowhere to: nobody reads it. */
Counters unshared;

DatabaseSlot* own_slot = nullptr;
BackendBlock* own_block = nullptr;
bool joined = false;

void add(Counters& sum, Counters& more) {
    const std::span to(reinterpret_cast<std::uint64_t*>(&sum), sizeof(Counters) / sizeof(std::uint64_t));
    const std::span from(reinterpret_cast<std::uint64_t*>(&more), to.size());
    for (std::size_t i = 0; i < to.size(); i++) {
        to[i] += std::atomic_ref(from[i]).load(std::memory_order_relaxed);
    }
}

/** When a backend ends, what it has counted stays with its database. */
extern "C" void leave(int /*code*/, Datum /*argument*/) {
    LWLock* lock = area()->databases_lock;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    add(own_slot->ended, own_block->counters);
    memset(static_cast<void*>(own_block), 0, sizeof(BackendBlock));
    own_block = nullptr;
    LWLockRelease(lock);
}

/** With the lock held. */
DatabaseSlot* claim(Oid database) {
    DatabaseSlot* free_slot = nullptr;
    for (DatabaseSlot& slot : area()->databases) {
        if (slot.database == database) {
            return &slot;
        }
        if (!OidIsValid(slot.database) && free_slot == nullptr) {
            free_slot = &slot;
        }
    }
    if (free_slot != nullptr) {
        memset(static_cast<void*>(free_slot), 0, sizeof(DatabaseSlot));
        event_queue(*free_slot).reset();
        ConditionVariableInit(&free_slot->watermark_moved);
        free_slot->database = database;
    }
    return free_slot;
}

/** Once in each process: a slot for the database, and a block of counters. */
void join() {
    joined = true;
    if (area() == nullptr || !OidIsValid(MyDatabaseId)) {
        return;
    }
    pg::call([] {
        LWLockAcquire(area()->databases_lock, LW_EXCLUSIVE);
        DatabaseSlot* slot = claim(MyDatabaseId);
        const auto index = static_cast<std::size_t>(pg::backend_index());
        if (slot != nullptr && index < area()->backends.size()) {
            own_slot = slot;
            own_block = &area()->backends[index];
            own_block->database = MyDatabaseId;
        }
        LWLockRelease(area()->databases_lock);
        if (own_slot == nullptr) {
            return;
        }
        before_shmem_exit(leave, 0);
    });
    if (own_slot == nullptr) {
        const std::string detail = "apikey.max_databases is " + std::to_string(pg::settings::max_databases) +
                                   ", and all of its places are taken.";
        pg::log(WARNING, "apikey keeps no counters and no events for this database",
                {.detail = detail.c_str()});
    }
}

}  // namespace

DatabaseSlot* database_slot(Oid database) {
    if (area() == nullptr) {
        return nullptr;
    }
    return pg::call([&] {
        LWLockAcquire(area()->databases_lock, LW_EXCLUSIVE);
        DatabaseSlot* slot = claim(database);
        LWLockRelease(area()->databases_lock);
        return slot;
    });
}

DatabaseSlot* find_database_slot(Oid database) {
    if (area() == nullptr) {
        return nullptr;
    }
    return pg::call([&] {
        DatabaseSlot* found = nullptr;
        LWLockAcquire(area()->databases_lock, LW_SHARED);
        for (DatabaseSlot& slot : area()->databases) {
            found = slot.database == database ? &slot : found;
        }
        LWLockRelease(area()->databases_lock);
        return found;
    });
}

EventQueue event_queue(DatabaseSlot& slot) {
    const auto entries = static_cast<std::size_t>(pg::settings::event_entries);
    const auto index = static_cast<std::size_t>(&slot - area()->databases.data());
    return {slot.queue, area()->event_slots.subspan(index * entries, entries)};
}

DatabaseSlot* my_database() {
    if (!joined) {
        join();
    }
    return own_slot;
}

Counters& my_counters() {
    if (!joined) {
        join();
    }
    return own_block == nullptr ? unshared : own_block->counters;
}

Counters counted_in_this_database() {
    Counters sum{};
    const DatabaseSlot* slot = my_database();
    if (slot == nullptr) {
        return sum;
    }
    pg::call([&] {
        LWLockAcquire(area()->databases_lock, LW_SHARED);
        sum = own_slot->ended;
        for (BackendBlock& block : area()->backends) {
            if (block.database == MyDatabaseId) {
                add(sum, block.counters);
            }
        }
        LWLockRelease(area()->databases_lock);
    });
    return sum;
}

}  // namespace apikey::shm
