#include "worker/mirror_session.h"

#include "pg/datum.h"
#include "pg/log.h"
#include "shm/mirror.h"
#include "store/upkeep.h"
#include "worker/transaction.h"

namespace apikey::worker {
namespace {

constexpr int batch_rows = 4096;
constexpr std::int64_t heartbeat_us = USECS_PER_SEC / 2;
constexpr std::int64_t servers_us = USECS_PER_SEC;
constexpr std::int64_t first_count_us = 10 * USECS_PER_SEC;
/** Counting reads all of revocation: it may take this part of the time at most. */
constexpr std::int64_t count_share = 100;
constexpr std::int64_t least_count_us = 30 * USECS_PER_SEC;
constexpr std::int64_t recount_us = 5 * USECS_PER_SEC;

std::string text_of(std::optional<std::int32_t> generation) {
    return generation ? std::to_string(*generation) : std::string();
}

/** The state of a key as it is at `now`, in members; with what those are told who read the stream. */
void write_key(MirrorWriter& writer, const store::ChangedKey& key, TimestampTz now) {
    const std::string id = core::to_string(key.key_id);
    bool withdrawn = false;
    for (const store::Withdrawal& withdrawal : key.withdrawals) {
        if (is_over(withdrawal, now)) {
            continue;
        }
        std::string member = core::mirror_member(key.key_id, withdrawal.generation, withdrawal.changed);
        if (!is_due(withdrawal, now)) {
            // A grace that has been prolonged, or one that has just begun.
            writer.remove(id, std::move(member));
            continue;
        }
        withdrawn |= !withdrawal.generation;
        writer.add(id, std::move(member), score_of(withdrawal.until));
        writer.announce({id, text_of(withdrawal.generation),
                         std::to_string(pg::unix_seconds(withdrawal.until)), key.reason, key.xid,
                         withdrawal.changed ? "changed" : "withdrawn"});
    }
    if (!withdrawn) {
        writer.remove(id, core::mirror_member(key.key_id, std::nullopt, false));
        if (key.restored) {
            writer.announce({id, "", "", "", key.xid, "restored"});
        }
    }
}

/** Do two looks at the same servers show that one was restarted, replaced or emptied? */
void compare_servers(const std::vector<redis::ServerInfo>& before,
                     const std::vector<redis::ServerInfo>& now) {
    for (const redis::ServerInfo& server : now) {
        const auto known = std::find_if(before.begin(), before.end(), [&](const redis::ServerInfo& other) {
            return other.address == server.address;
        });
        if (known == before.end()) {
            throw NeedsResync(shm::ResyncCause::server, "another server holds a part of the mirror");
        }
        if (known->run_id != server.run_id || known->replication_id != server.replication_id) {
            throw NeedsResync(shm::ResyncCause::server,
                              server.address + " was restarted or has changed its role");
        }
        if (server.evicted_keys > known->evicted_keys) {
            throw NeedsResync(shm::ResyncCause::evicted, server.address + " has evicted keys");
        }
    }
}

/** The first server that may throw away what it was given; nullptr when there is none. */
const redis::ServerInfo* evicting_server(const std::vector<redis::ServerInfo>& servers) {
    const auto found = std::find_if(servers.begin(), servers.end(), [](const redis::ServerInfo& server) {
        return server.maxmemory > 0 && server.maxmemory_policy != "noeviction";
    });
    return found == servers.end() ? nullptr : &*found;
}

}  // namespace

MirrorSession::MirrorSession(redis::Link& link, std::string_view name_space, std::string rate_namespace)
    : link_(link), writer_(link, name_space), rates_(link, std::move(rate_namespace)) {}

void MirrorSession::fill(shm::ResyncCause cause, bool take_over) {
    // Before anything is sent: a restart in the midst of it must show.
    servers_ = link_.servers();
    std::string addresses;
    for (const redis::ServerInfo& server : servers_) {
        addresses += (addresses.empty() ? "" : ", ") + server.address;
    }
    shm::set_mirror_server(addresses);
    due_up_to_ = GetCurrentTimestamp();
    require_step("look for the extension", [&] { extension_ = store::extension_id(); });
    // What emptied the mirror has emptied the counters, too.
    rates_.send_all();
    read_clocks();
    reached_ = resync(link_, writer_, cause, take_over, [this] { rates_.exchange_if_due(); });
    times_ = reached_.times;
    aim_.reset();
    writer_.forget_published();
    publish();
    safe_ = true;  // So that it is said again when it is not.
    check_servers();
    writer_.mark(&reached_.times, safe_ ? "1" : "0");
    caught_up_ = true;
    too_few_ = 0;
    expected_ = {};
    heartbeat_at_ = 0;
    counts_pause_us_ = first_count_us;
    counts_at_ = GetCurrentTimestamp() + counts_pause_us_;
    shm::advance_watermark(reached_.snapshot, reached_.taken_at, reached_.times[0]);
    if (safe_) {
        shm::set_mirror_phase(shm::MirrorPhase::ready, "");
    }
}

long MirrorSession::turn() {
    const TimestampTz now = GetCurrentTimestamp();
    const bool beats = now >= heartbeat_at_ || heartbeat_at_ - now > heartbeat_us;
    if (beats) {
        read_clocks();
        heartbeat_at_ = now + heartbeat_us;
        push_due();
    }
    push_changes(std::min(heartbeat_at_, rates_.due_at()));
    if (beats) {
        heartbeat();
    }
    rates_.exchange_if_due();
    if (!caught_up_) {
        return 0;
    }
    if (expected_.running()) {
        expected_.advance();
        if (!expected_.running()) {
            counts_pause_us_ = std::max(least_count_us, count_share * expected_.spent_us());
            counts_at_ = GetCurrentTimestamp() + counts_pause_us_;
        }
        return 0;
    }
    if (rates_.running()) {
        return 0;
    }
    // The clock may have been set back.
    const std::int64_t left = std::clamp<std::int64_t>(
        std::min(heartbeat_at_, rates_.due_at()) - GetCurrentTimestamp(), 0, heartbeat_us);
    return static_cast<long>((left + 999) / 1000);
}

void MirrorSession::read_clocks() {
    const TimestampTz before = GetCurrentTimestamp();
    std::int64_t redis_us = 0;
    times_ = writer_.times(redis_us);
    rates_.note_clock(before, GetCurrentTimestamp(), redis_us);
}

/** Until the outbox is empty, or it is time for something else. */
void MirrorSession::push_changes(TimestampTz until) {
    do {
        caught_up_ = push_batch();
    } while (!caught_up_ && GetCurrentTimestamp() < until);
}

/** True when nothing was left. */
bool MirrorSession::push_batch() {
    store::OutboxBatch batch;
    Watermark seen;
    seen.times = times_;
    seen.taken_at = GetCurrentTimestamp();
    std::int64_t highest = 0;
    Oid extension = InvalidOid;
    require_step("read the outbox", [&] {
        extension = store::extension_id();
        seen.snapshot = shm::active_snapshot();
        batch = store::read_outbox(batch_rows);
        if (batch.ids.size() == batch_rows && !aim_) {
            highest = store::highest_in_outbox();
        }
    });
    if (extension != extension_) {
        throw NeedsResync(shm::ResyncCause::epoch, "the extension was dropped and created again");
    }
    const bool complete = batch.ids.size() < batch_rows;
    // Later than anything that the snapshot shows was written.
    const TimestampTz now = GetCurrentTimestamp();
    for (const store::ChangedKey& key : batch.keys) {
        write_key(writer_, key, now);
    }
    writer_.send();
    if (batch.roles || batch.jwks) {
        publish();
    }
    if (!batch.ids.empty()) {
        require_step("empty the outbox", [&] { store::delete_from_outbox(batch.ids); });
        shm::update_mirror([&](shm::MirrorState& state) { state.rows_sent += batch.ids.size(); });
    }
    if (complete) {
        reached_ = std::move(seen);
        aim_.reset();
    } else if (!aim_) {
        aim_ = std::move(seen);
        aim_id_ = highest;
        return false;
    } else if (*std::min_element(batch.ids.begin(), batch.ids.end()) > aim_id_) {
        // Nothing that the snapshot of back then shows is left, however much has come since.
        reached_ = std::move(*aim_);
        aim_.reset();
    } else {
        return false;
    }
    shm::advance_watermark(reached_.snapshot, reached_.taken_at, reached_.times[0]);
    return complete;
}

/** Superseded generations whose grace has ended since we last looked. Nobody writes anything then, and they
 * do not hold back the watermark. */
void MirrorSession::push_due() {
    const TimestampTz now = GetCurrentTimestamp();
    // Where somebody has set the clock back, what was sent is sent again.
    due_up_to_ = std::min(due_up_to_, now);
    for (;;) {
        std::vector<store::Withdrawal> due;
        require_step("look for generations whose grace has ended",
                     [&] { due = store::read_due(due_up_to_, now, batch_rows); });
        for (const store::Withdrawal& withdrawal : due) {
            if (is_over(withdrawal, now)) {
                continue;
            }
            const std::string id = core::to_string(withdrawal.key_id);
            writer_.add(id, core::mirror_member(withdrawal.key_id, withdrawal.generation, false),
                        score_of(withdrawal.until));
            writer_.announce({id, text_of(withdrawal.generation),
                              std::to_string(pg::unix_seconds(withdrawal.until)), "SUPERSEDED", "",
                              "withdrawn"});
        }
        writer_.send();
        if (due.size() < batch_rows) {
            due_up_to_ = now;
            return;
        }
        due_up_to_ = due.back().effective_at;
    }
}

/** The key set and the roles, where they are others than Redis has. */
void MirrorSession::publish() {
    std::string jwks;
    RoleTexts roles;
    require_step("read roles and keys for the mirror", [&] {
        jwks = store::jwks_text();
        roles = store::role_texts();
    });
    writer_.publish_jwks(std::move(jwks));
    writer_.publish_roles(std::move(roles));
}

/** Nodes believe what stands there: whose signature counts, and what a role may do. */
void MirrorSession::restore_published() {
    if (!writer_.jwks_altered() && !writer_.roles_altered()) {
        return;
    }
    const char* const what = !writer_.roles_altered()  ? "the key set"
                             : !writer_.jwks_altered() ? "the roles"
                                                       : "the key set and the roles";
    publish();
    shm::update_mirror([](shm::MirrorState& state) { state.restorations++; });
    const TimestampTz now = GetCurrentTimestamp();
    if (now - restored_at_ >= USECS_PER_MINUTE || now < restored_at_) {
        restored_at_ = now;
        pg::log(
            WARNING,
            std::string("apikey has written ") + what + " to Redis again, which somebody else had changed",
            {.hint = "Give nodes the users of docs/redis-contract.md, which cannot write there."});
    }
}

void MirrorSession::heartbeat() {
    const TimestampTz now = GetCurrentTimestamp();
    if (now >= servers_at_ || servers_at_ - now > servers_us) {
        check_servers();
        servers_at_ = now + servers_us;
    }
    const BucketCounts counts = writer_.beat(reached_.times, safe_ ? "1" : "0");
    restore_published();
    if (expected_.finished()) {
        check_counts(counts);
    } else if (!expected_.running() && (now >= counts_at_ || counts_at_ - now > counts_pause_us_)) {
        expected_.begin(writer_.removed(), now);
    }
    std::uint64_t members = 0;
    for (const std::int64_t count : counts) {
        members += static_cast<std::uint64_t>(count);
    }
    shm::update_mirror([&](shm::MirrorState& state) {
        state.members = members;
        state.bytes_sent += link_.bytes_sent() - seen_.sent;
        state.bytes_received += link_.bytes_received() - seen_.received;
        state.script_reloads += link_.script_reloads() - seen_.reloads;
    });
    seen_ = {link_.bytes_sent(), link_.bytes_received(), link_.script_reloads()};
}

void MirrorSession::check_servers() {
    const auto servers = link_.servers();
    compare_servers(servers_, servers);
    const redis::ServerInfo* evicting = evicting_server(servers);
    if (evicting != nullptr && safe_) {
        const std::string problem = evicting->address + " may evict keys: its maxmemory-policy is " +
                                    evicting->maxmemory_policy + ", and must be noeviction";
        const std::string detail = problem + '.';
        pg::log(WARNING, "apikey tells readers of Redis that the mirror is not ready",
                {.detail = detail.c_str()});
        shm::set_mirror_phase(shm::MirrorPhase::unsafe, problem);
    } else if (evicting == nullptr && !safe_) {
        shm::set_mirror_phase(shm::MirrorPhase::ready, "");
    }
    safe_ = evicting == nullptr;
}

/** Two times running: once can be a withdrawal that was on its way. */
void MirrorSession::check_counts(const BucketCounts& counts) {
    const BucketCounts expected = expected_.at_least(writer_.removed());
    for (std::size_t i = 0; i < counts.size(); i++) {
        if (counts[i] < expected[i]) {
            if (++too_few_ >= 2) {
                throw NeedsResync(shm::ResyncCause::count, "Redis has " + std::to_string(counts[i]) +
                                                               " members in a bucket that should have " +
                                                               std::to_string(expected[i]));
            }
            counts_at_ = GetCurrentTimestamp() + recount_us;
            return;
        }
    }
    too_few_ = 0;
}

}  // namespace apikey::worker
