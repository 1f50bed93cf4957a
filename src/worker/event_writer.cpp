#include <unordered_map>

#include "shm/events.h"
#include "store/denials.h"
#include "worker/event_writer.h"
#include "worker/transaction.h"
#include "worker/use_writer.h"

namespace apikey::worker {
namespace {

using core::Code;

/** Rows of one transaction. */
constexpr std::size_t batch_rows = 1000;

std::string_view name_of(shm::Operation operation) {
    switch (operation) {
        case shm::Operation::validate:
            return "validate";
        case shm::Operation::check_token:
            return "check_token";
        case shm::Operation::require:
            return "require";
        case shm::Operation::refresh:
            return "refresh";
        case shm::Operation::revoke_token:
            return "revoke_token";
    }
    return "";
}

/** Whether the key that the token names is more than a claim: anybody can make up the id of a key that does
 * not exist, a new one each time. */
bool names_a_key(Code code) {
    return code != Code::malformed && code != Code::not_found && code != Code::missing;
}

/** The same of the generation: a token that does not prove anything names any of a key's. */
bool names_a_generation(Code code) {
    return names_a_key(code) && code != Code::signature_invalid;
}

bool same_client(const shm::Event& a, const shm::Event& b) {
    return a.has_client == b.has_client &&
           (!a.has_client ||
            (a.client.family == b.client.family && a.client.prefix_length == b.client.prefix_length &&
             a.client.address == b.client.address));
}

bool same_kind(const shm::Event& a, const shm::Event& b) {
    return a.code == b.code && a.operation == b.operation && a.session_user == b.session_user &&
           a.outer_user == b.outer_user && same_client(a, b) &&
           (!names_a_key(a.code) || (a.has_key == b.has_key && a.key_id == b.key_id)) &&
           (!names_a_generation(a.code) || a.generation == b.generation);
}

/** For an index of what same_kind() compares. */
std::uint64_t kind_hash(const shm::Event& event) {
    std::uint64_t hash =
        static_cast<std::uint64_t>(event.code) * 31 + static_cast<std::uint64_t>(event.operation);
    const auto mix = [&hash](const std::uint8_t* bytes, std::size_t size) {
        for (std::size_t i = 0; i < size; i++) {
            hash = (hash ^ bytes[i]) * 0x100000001b3U;
        }
    };
    if (event.has_client) {
        mix(event.client.address.data(), event.client.address.size());
    }
    if (names_a_key(event.code) && event.has_key) {
        mix(event.key_id.bytes.data(), event.key_id.bytes.size());
    }
    return hash;
}

/** Events of one batch; the views are good as long as it is. */
class Batch {
  public:
    /** False when the event needs a row and there is none left. */
    bool add(const shm::Event& event) {
        if (event.kind == shm::EventKind::uses) {
            if (uses_.size() == batch_rows) {
                return false;
            }
            uses_.push_back(event.uses);
            return true;
        }
        auto [first, last] = index_.equal_range(kind_hash(event));
        for (; first != last; ++first) {
            auto& [example, denial] = denials_[first->second];
            if (same_kind(example, event)) {
                denial.count++;
                denial.last_at = std::max(denial.last_at, event.at);
                // Of several made-up keys or generations none is shown.
                if (denial.key_id && !(event.has_key && *denial.key_id == event.key_id)) {
                    denial.key_id.reset();
                    denial.generation.reset();
                }
                if (denial.generation && *denial.generation != event.generation) {
                    denial.generation.reset();
                }
                return true;
            }
        }
        if (denials_.size() == batch_rows) {
            return false;
        }
        index_.emplace(kind_hash(event), denials_.size());
        denials_.emplace_back(event, denial_of(event));
        return true;
    }

    void write() const {
        std::vector<store::Denial> rows;
        rows.reserve(denials_.size());
        for (const auto& [example, denial] : denials_) {
            rows.push_back(denial);
        }
        if (!rows.empty()) {
            store::insert_denials(rows);
        }
        write_down(uses_);
    }

  private:
    static store::Denial denial_of(const shm::Event& event) {
        store::Denial denial{};
        denial.code = event.code;
        denial.operation = name_of(event.operation);
        if (event.has_key) {
            denial.key_id = event.key_id;
            denial.generation = event.generation;
        }
        denial.session_user = event.session_user;
        denial.outer_user = event.outer_user;
        if (event.has_client) {
            denial.client = event.client;
        }
        denial.first_at = event.at;
        denial.last_at = event.at;
        denial.count = 1;
        return denial;
    }

    std::vector<std::pair<shm::Event, store::Denial>> denials_;
    std::unordered_multimap<std::uint64_t, std::size_t> index_;
    std::vector<shm::UseCounts> uses_;
};

}  // namespace

bool write_events() {
    auto queue = shm::my_event_queue();
    if (!queue) {
        return true;
    }
    // As many as there were at the beginning: whoever keeps adding does not keep us from the rest of our
    // work.
    std::size_t waiting = queue->size();
    while (waiting > 0) {
        Batch batch;
        std::size_t taken = 0;
        while (taken < waiting) {
            const shm::Event* event = queue->peek(taken);
            if (event == nullptr || !batch.add(*event)) {
                break;
            }
            taken++;
        }
        if (taken == 0) {
            break;
        }
        if (!run_step("write events", [&] { batch.write(); })) {
            return false;
        }
        // Nothing is served between the COMMIT and this, so that an interrupt cannot have it written twice.
        queue->drop(taken);
        waiting -= taken;
    }
    return true;
}

}  // namespace apikey::worker
