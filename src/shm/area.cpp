#include "shm/area.h"

#include <cstring>

#include "pg/boundary.h"
#include "pg/failure.h"
#include "pg/settings.h"
#include "shm/meter_cells.h"
#include "shm/mirror.h"

namespace apikey::shm {
namespace {

constexpr const char* tranche = "apikey";
constexpr std::size_t line = 64;

Area the_area;

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

/** Cuts consecutive, aligned pieces off a block; with no block it only adds up their sizes. */
class Layout {
  public:
    explicit Layout(char* memory) : memory_(memory) {}

    template <typename T>
    std::span<T> take(std::size_t count) {
        static_assert(std::is_trivially_copyable_v<T>, "shared memory holds trivially copyable types only");
        size_ = (size_ + line - 1) / line * line;
        T* first = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + size_);
        size_ += sizeof(T) * count;
        return {first, memory_ == nullptr ? 0 : count};
    }
    std::size_t size() const { return size_ + line; }

  private:
    char* memory_;
    std::size_t size_ = 0;
};

Area lay_out(Layout& layout) {
    Area area;
    area.header = layout.take<Header>(1).data();
    area.databases = layout.take<DatabaseSlot>(static_cast<std::size_t>(pg::settings::max_databases));
    area.event_slots = layout.take<EventQueue::Slot>(static_cast<std::size_t>(pg::settings::max_databases) *
                                                     static_cast<std::size_t>(pg::settings::event_entries));
    area.mirrored_xids = layout.take<std::uint64_t>(static_cast<std::size_t>(pg::settings::max_databases) *
                                                    static_cast<std::size_t>(most_xids_in_progress()));
    area.backends = layout.take<BackendBlock>(static_cast<std::size_t>(MaxBackends));
    area.proofs = layout.take<core::ProofSlot>(
        core::ProofTable::slots_for(static_cast<std::size_t>(pg::settings::cache_entries)));
    area.meter =
        layout.take<MeterCell>(meter_cells_for(static_cast<std::size_t>(pg::settings::rate_entries)));
    area.meter_locks = layout.take<MeterLock>(meter_lock_count);
    area.unexchanged_sets =
        layout.take<std::uint64_t>(meter_mark_words(static_cast<std::size_t>(pg::settings::rate_entries)));
    return area;
}

std::size_t area_size() {
    Layout layout(nullptr);
    lay_out(layout);
    return layout.size();
}

extern "C" void request() {
    if (previous_request_hook != nullptr) {
        previous_request_hook();
    }
    RequestAddinShmemSpace(area_size());
    RequestNamedLWLockTranche(tranche, 3);
}

core::SipHashKey random_key() {
    std::array<std::uint8_t, 16> bytes;
    if (!pg_strong_random(bytes.data(), bytes.size())) {
        ereport(FATAL, (errmsg("could not get random bytes for apikey's shared memory")));
    }
    return core::siphash_key(bytes);
}

extern "C" void start() {
    if (previous_startup_hook != nullptr) {
        previous_startup_hook();
    }
    // Also after a crash of a backend, with fresh memory.
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found = false;
    auto* memory = static_cast<char*>(ShmemInitStruct("apikey", area_size(), &found));
    const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(memory) % line;
    memory += misaligned == 0 ? 0 : line - misaligned;
    Layout layout(memory);
    the_area = lay_out(layout);
    LWLockPadded* locks = GetNamedLWLockTranche(tranche);
    the_area.databases_lock = &locks[0].lock;
    the_area.workers_lock = &locks[1].lock;
    the_area.mirrors_lock = &locks[2].lock;
    if (!found) {
        memset(static_cast<void*>(memory), 0, layout.size() - line);
        the_area.header->token_key = random_key();
        the_area.header->address_key = random_key();
        the_area.header->started_at = GetCurrentTimestamp();
        the_area.header->boot = random_key()[0];
        ConditionVariableInit(&the_area.header->worker_left);
        for (MeterLock& lock : the_area.meter_locks) {
            SpinLockInit(&lock.mutex);
        }
    }
    LWLockRelease(AddinShmemInitLock);
}

}  // namespace

void install_hooks() {
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = start;
}

const Area* area() {
    return the_area.header == nullptr ? nullptr : &the_area;
}

void require_area(const char* what) {
    if (area() == nullptr) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          std::string(what) + " needs shared memory, and apikey was not preloaded", {},
                          "Add apikey to shared_preload_libraries and restart the server.");
    }
}

}  // namespace apikey::shm
