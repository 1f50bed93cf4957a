#include <unordered_map>

#include "shm/counters.h"
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

/** Anybody can make up the id of a key that does not exist, a new one each time. */
bool names_a_key(Code code) {
    return core::has(code, core::CodeFlag::key_exists);
}

/** A token that does not prove anything names any generation of a key. */
bool names_a_generation(Code code) {
    return core::has(code, core::CodeFlag::generation_is_named);
}

bool same_network(const core::Network& a, const core::Network& b) {
    return a.family == b.family && a.prefix_length == b.prefix_length && a.address == b.address;
}

/** Who has one IPv6 address has a whole /64 of them. */
bool same_client(const shm::Event& a, const shm::Event& b) {
    return a.has_client == b.has_client &&
           (!a.has_client || same_network(core::client_group(a.client), core::client_group(b.client)));
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
        const core::Network client = core::client_group(event.client);
        mix(client.address.data(), client.address.size());
    }
    if (names_a_key(event.code) && event.has_key) {
        mix(event.key_id.bytes.data(), event.key_id.bytes.size());
    }
    return hash;
}

/** How many rows denials may still take in this second. Who is refused for a key that has proven itself has a
 * token, so that others, who make up what they like, leave those their rows. */
class Budget {
  public:
    void begin_turn(TimestampTz now) {
        if (now < since_ || now - since_ >= USECS_PER_SEC) {
            *this = Budget();
            since_ = now;
        }
    }
    bool take(Code code) {
        int& left = names_a_generation(code) ? proven_ : unproven_;
        return left > 0 && left-- > 0;
    }

  private:
    TimestampTz since_ = 0;
    int proven_ = 1000;
    int unproven_ = 200;
};

/** Events of one batch; the views are good as long as it is. */
class Batch {
  public:
    explicit Batch(Budget& budget) : budget_(budget) {}

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
                count(event, denial);
                return true;
            }
        }
        if (denials_.size() == batch_rows) {
            return false;
        }
        if (!budget_.take(event.code)) {
            summarize(event);
            return true;
        }
        index_.emplace(kind_hash(event), denials_.size());
        denials_.emplace_back(event, denial_of(event));
        return true;
    }

    void write() const {
        std::vector<store::Denial> rows;
        rows.reserve(denials_.size() + summaries_.size());
        for (const auto& [example, denial] : denials_) {
            rows.push_back(denial);
        }
        rows.insert(rows.end(), summaries_.begin(), summaries_.end());
        if (!rows.empty()) {
            store::insert_denials(rows);
        }
        write_down(uses_);
    }

    std::uint64_t summarized() const { return summarized_; }

  private:
    static void count(const shm::Event& event, store::Denial& denial) {
        denial.count++;
        denial.last_at = std::max(denial.last_at, event.at);
        // Of several made-up keys or generations none is shown, and of several addresses what they have in
        // common.
        if (denial.key_id && !(event.has_key && *denial.key_id == event.key_id)) {
            denial.key_id.reset();
            denial.generation.reset();
        }
        if (denial.generation && *denial.generation != event.generation) {
            denial.generation.reset();
        }
        if (denial.client && !same_network(*denial.client, event.client)) {
            denial.client = core::client_group(event.client);
        }
    }

    /** There are few codes and operations, and so few of these rows. Who asked is whoever asked first. */
    void summarize(const shm::Event& event) {
        summarized_++;
        const std::string_view operation = name_of(event.operation);
        for (store::Denial& summary : summaries_) {
            if (summary.code == event.code && summary.operation == operation) {
                summary.count++;
                summary.last_at = std::max(summary.last_at, event.at);
                return;
            }
        }
        store::Denial summary = denial_of(event);
        summary.key_id.reset();
        summary.generation.reset();
        summary.client.reset();
        summary.summary = true;
        summaries_.push_back(summary);
    }

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

    Budget& budget_;
    std::vector<std::pair<shm::Event, store::Denial>> denials_;
    std::vector<store::Denial> summaries_;
    std::uint64_t summarized_ = 0;
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
    static Budget budget;
    budget.begin_turn(GetCurrentTimestamp());
    while (waiting > 0) {
        Budget left = budget;
        Batch batch(left);
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
        budget = left;
        shm::count(shm::my_counters().denials_summarized, batch.summarized());
        waiting -= taken;
    }
    return true;
}

}  // namespace apikey::worker
