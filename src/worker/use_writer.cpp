#include "store/usage.h"
#include "worker/transaction.h"
#include "worker/use_writer.h"

namespace apikey::worker {
namespace {

/** Taken out of the meter and not yet committed. Not on the stack, since a FATAL error unwinds none. */
std::array<shm::UseCounts, 512> taken;
std::size_t taken_count = 0;

extern "C" void give_back_taken(int /*code*/, Datum /*argument*/) {
    for (std::size_t i = 0; i < taken_count; i++) {
        shm::give_back(taken[i]);
    }
    taken_count = 0;
}

}  // namespace

void write_down(std::span<const shm::UseCounts> uses) {
    std::vector<store::CodeCount> counts;
    std::vector<store::LastUse> last_uses;
    for (const shm::UseCounts& use : uses) {
        for (std::size_t code = 0; code < use.by_code.size(); code++) {
            if (use.by_code[code] != 0) {
                counts.push_back({use.key_id, static_cast<core::Code>(code), use.by_code[code]});
            }
        }
        if (use.last_used_at != 0) {
            last_uses.push_back({use.key_id, use.last_used_at,
                                 use.has_client ? std::optional(use.last_client) : std::nullopt});
        }
    }
    if (!counts.empty()) {
        store::add_usage(counts);
    }
    if (!last_uses.empty()) {
        store::set_last_uses(last_uses);
    }
}

bool write_uses() {
    static bool registered = false;
    if (!registered) {
        pg::call([] { before_shmem_exit(give_back_taken, 0); });
        registered = true;
    }
    std::size_t position = 0;
    for (;;) {
        taken_count = shm::take_uses(position, taken);
        if (taken_count == 0) {
            return true;
        }
        const std::span<const shm::UseCounts> batch(taken.data(), taken_count);
        if (!run_step("write usage", [&] { write_down(batch); })) {
            give_back_taken(0, 0);
            return false;
        }
        taken_count = 0;
    }
}

}  // namespace apikey::worker
