#include "worker/rate_exchange.h"

#include "core/mirror_layout.h"
#include "core/rate_names.h"
#include "pg/clock.h"
#include "pg/settings.h"
#include "redis/script.h"
#include "shm/area.h"

namespace apikey::worker {
namespace {

constexpr std::size_t batch_cells = 512;
/** How long a node counts that has not been seen in a window of ours again. */
constexpr std::int64_t node_memory_us = 60 * USECS_PER_SEC;
/** How long the best reading of the clock counts: longer, and the clocks may have drifted apart. */
constexpr std::int64_t clock_memory_us = 30 * USECS_PER_SEC;

std::string this_node() {
    return core::rate_field(GetSystemIdentifier(), MyDatabaseId, shm::area()->header->boot);
}

}  // namespace

RateExchanger::RateExchanger(redis::Link& link, std::string name_space)
    : link_(link), namespace_(std::move(name_space)), field_(this_node()) {}

void RateExchanger::note_clock(TimestampTz before, TimestampTz after, std::int64_t redis_unix_us) {
    const std::int64_t round_trip = after - before;
    const bool forgotten = after - best_at_ > clock_memory_us || after < best_at_;
    const bool clock_was_set = round_trip < 0;
    if (clock_was_set || (best_at_ != 0 && !forgotten && round_trip > best_round_trip_us_)) {
        return;
    }
    // Cristian's algorithm: the reading was made within the round trip, at its middle give or take half of
    // it.
    best_round_trip_us_ = round_trip;
    best_at_ = after;
    shm::set_clock_offset(redis_unix_us - pg::unix_us(before + round_trip / 2));
}

void RateExchanger::exchange_if_due() {
    const std::int64_t interval_us = std::int64_t(pg::settings::rate_sync_interval) * 1000;
    const TimestampTz now = GetCurrentTimestamp();
    if (!running_) {
        if (now < due_at_ && due_at_ - now <= interval_us) {
            return;
        }
        running_ = true;
        started_at_ = now;
        position_ = 0;
    }
    std::array<shm::RateCell, batch_cells> cells;
    // Should one be lost, so is the connection, and the next one begins with all of them.
    const std::size_t found = shm::read_rate_cells(position_, all_, cells);
    // Names in Redis are in milliseconds: a window that is not of whole ones stays with this server.
    const auto last =
        std::remove_if(cells.begin(), cells.begin() + static_cast<std::ptrdiff_t>(found),
                       [](const shm::RateCell& cell) { return cell.window.width_us % 1000 != 0; });
    exchange_batch(std::span(cells.begin(), last));
    if (found + shm::meter_ways <= cells.size()) {  // There was room for more.
        running_ = false;
        all_ = false;
        due_at_ = started_at_ + interval_us;
        const bool nodes_known = started_at_ - most_others_at_ <= node_memory_us;
        shm::note_rates_synced(started_at_, 1 + (nodes_known ? most_others_ : 0));
    }
}

void RateExchanger::exchange_batch(std::span<const shm::RateCell> cells) {
    pipeline_.clear();
    for (const shm::RateCell& cell : cells) {
        const std::string subject = shm::rate_subject_text(cell.subject);
        const std::int64_t width = cell.window.width_us;
        const std::string current = core::rate_key(namespace_, subject, width, cell.window.sequence);
        const std::string previous = core::rate_key(namespace_, subject, width, cell.window.sequence - 1);
        pipeline_.eval(redis::ak_merge, {current, previous},
                       {field_, std::to_string(cell.window.own), std::to_string(cell.window.previous_own),
                        std::to_string(width / 1000)});
    }
    if (pipeline_.empty()) {
        return;
    }
    const auto replies = link_.exchange(pipeline_);
    const TimestampTz now = GetCurrentTimestamp();
    for (std::size_t i = 0; i < cells.size(); i++) {
        const redis::Reply& reply = replies[i];
        if (!reply.is_array(3)) {
            throw redis::LinkError("ak_merge failed: " + reply.text);
        }
        shm::merge_others(cells[i], reply.elements[0].integer, reply.elements[1].integer);
        note_nodes(core::bounded_count(reply.elements[2].integer), now);
    }
}

void RateExchanger::note_nodes(std::int64_t others, TimestampTz now) {
    if (others >= most_others_ || now - most_others_at_ > node_memory_us) {
        most_others_ = others;
        most_others_at_ = now;
    }
}

}  // namespace apikey::worker
