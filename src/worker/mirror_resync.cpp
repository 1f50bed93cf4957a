#include <chrono>

#include "pg/datum.h"
#include "redis/script.h"
#include "shm/mirror.h"
#include "worker/mirror_resync.h"
#include "worker/signals.h"
#include "worker/transaction.h"

namespace apikey::worker {
namespace {

constexpr int page_rows = 8192;

/** What stands in meta of a bucket, empty where nothing does; and which server holds it. */
struct Meta {
    std::string epoch;
    std::string generation;
    std::string heartbeat;
    std::string run_id;
};

std::string run_id_in(std::string_view info) {
    constexpr std::string_view name = "run_id:";
    const std::size_t at = info.find(name);
    return at == std::string_view::npos ? std::string() : std::string(info.substr(at + name.size(), 40));
}
using Metas = std::array<Meta, core::mirror_buckets>;

Metas read_metas(redis::Link& link, const core::MirrorNames& names) {
    redis::Pipeline pipeline;
    for (const auto& bucket : names.buckets) {
        pipeline.command(bucket.meta, {"HMGET", bucket.meta, "epoch", "gen", "heartbeat_ms"});
        pipeline.command(bucket.meta, {"INFO", "server"});
    }
    const auto replies = link.exchange(pipeline);
    Metas metas;
    for (std::size_t i = 0; i < metas.size(); i++) {
        const redis::Reply& meta = replies[2 * i];
        const redis::Reply& info = replies[2 * i + 1];
        if (!meta.is_array(3) || !info.is_text()) {
            throw redis::LinkError("HMGET or INFO failed: " + meta.text);
        }
        metas[i] = {meta.elements[0].text, meta.elements[1].text, meta.elements[2].text,
                    run_id_in(info.text)};
    }
    return metas;
}

/** The timeline that we write under: that of our WAL, or a later one that mirror_takeover() has taken the
 * mirror from, or is to take it from now. Whoever wrote under that one must not be the newer of the two. */
std::uint32_t writer_timeline(const Metas& metas, bool take_over) {
    std::uint32_t timeline = pg::call([] { return GetWALInsertionTimeLine(); });
    require_step("look at the timeline of the mirror",
                 [&] { timeline = std::max(timeline, store::latest_epoch_timeline()); });
    for (const Meta& meta : metas) {
        const auto theirs = core::parse_mirror_generation(meta.generation);
        if (take_over && theirs) {
            timeline = std::max(timeline, theirs->timeline);
        }
    }
    return timeline;
}

/** Throws NotOurs unless every bucket is empty, of an epoch that this database remembers, or of an earlier
 * timeline: that of a primary before us. Returns the highest counter on our own timeline. */
std::uint64_t check_ours(const Metas& metas, std::uint32_t timeline, bool take_over) {
    std::uint64_t highest = 0;
    for (const Meta& meta : metas) {
        if (meta.epoch.empty()) {
            continue;
        }
        const auto theirs = core::parse_mirror_generation(meta.generation);
        if (theirs && theirs->timeline == timeline) {
            highest = std::max(highest, theirs->counter);
        }
        if (take_over || (theirs && theirs->timeline < timeline)) {
            continue;
        }
        bool own = false;
        require_step("look at the epoch of the mirror", [&] { own = store::is_own_epoch(meta.epoch); });
        if (own) {
            continue;
        }
        if (theirs && theirs->timeline > timeline) {
            throw NotOurs(
                shm::MirrorPhase::fenced,
                "a server on a later timeline has the mirror: this one is no longer the primary, or was "
                "restored (apikey.mirror_takeover())");
        }
        throw NotOurs(
            shm::MirrorPhase::foreign,
            "the mirror was filled by another server or installation under the same namespace: give this one "
            "another apikey.redis_namespace, or call apikey.mirror_takeover()");
    }
    return highest;
}

std::optional<shm::MirrorPhase> rival;
TimestampTz empty_since = 0;  ///< 0: it was not, when last looked at

/** FLUSHALL, or a Redis that comes back with nothing, must not make it a matter of who is first. */
void leave_to_rival(const Metas& metas) {
    constexpr std::int64_t patience_us = 30 * USECS_PER_SEC;  // connections are tried every ten
    const bool empty =
        std::all_of(metas.begin(), metas.end(), [](const Meta& meta) { return meta.epoch.empty(); });
    const TimestampTz now = GetCurrentTimestamp();
    if (!empty || empty_since == 0 || empty_since > now) {
        empty_since = empty ? now : 0;
    }
    if (empty && rival && now - empty_since < patience_us) {
        throw NotOurs(*rival,
                      "Redis is empty, but another server had the mirror, and is given half a minute to fill "
                      "it (apikey.mirror_takeover())");
    }
}

/** The epoch that this process began last. */
std::string last_epoch;

/** A copy of a server remembers the same epochs as the server. So where one of them is in force that is not
 * from this process, and its last heartbeat is not long ago: does somebody go on beating? */
void refuse_living_writer(redis::Link& link, MirrorWriter& writer, std::uint32_t timeline,
                          const Metas& metas) {
    constexpr std::int64_t alive_ms = 1500;  // a heartbeat comes every half second
    std::int64_t first_us = 0;
    const BucketTimes times = writer.times(first_us);
    bool recent = false;
    for (std::size_t i = 0; i < metas.size(); i++) {
        const std::int64_t age_ms = times[i] - std::strtoll(metas[i].heartbeat.c_str(), nullptr, 10);
        const auto theirs = core::parse_mirror_generation(metas[i].generation);
        recent |= theirs && theirs->timeline == timeline && metas[i].epoch != last_epoch && age_ms < alive_ms;
    }
    if (!recent) {
        return;
    }
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + std::chrono::milliseconds(alive_ms);
    for (Clock::time_point now = Clock::now(); now < end && !must_end(); now = Clock::now()) {
        wait(static_cast<long>(std::chrono::ceil<std::chrono::milliseconds>(end - now).count()));
    }
    const Metas later = read_metas(link, writer.names());
    for (std::size_t i = 0; i < metas.size(); i++) {
        if (later[i].heartbeat != metas[i].heartbeat) {
            throw NotOurs(shm::MirrorPhase::foreign,
                          "another server writes to the mirror, of which this one is a copy, or the other "
                          "way round: give this one another apikey.redis_namespace, or call "
                          "apikey.mirror_takeover()");
        }
    }
}

/** All buckets: not ready, and ours. Returns the clocks of Redis. */
BucketTimes begin(redis::Link& link, MirrorWriter& writer, Metas& metas, const std::string& generation,
                  const std::string& epoch, bool take_over) {
    redis::Pipeline pipeline;
    const auto& buckets = writer.names().buckets;
    if (take_over) {
        for (std::size_t i = 0; i < buckets.size(); i++) {
            pipeline.command(buckets[i].meta, {"DEL", buckets[i].meta});
            metas[i].epoch.clear();
        }
        const core::MirrorNames& names = writer.names();
        pipeline.command(names.jwks_generation, {"DEL", names.jwks_generation});
        pipeline.command(names.roles_generation, {"DEL", names.roles_generation});
        link.exchange(pipeline);
        pipeline.clear();
    }
    for (std::size_t i = 0; i < buckets.size(); i++) {
        pipeline.eval(redis::ak_begin, {buckets[i].revocations, buckets[i].meta},
                      {generation, metas[i].epoch, epoch, metas[i].run_id});
    }
    BucketTimes times{};
    const auto replies = link.exchange(pipeline);
    for (std::size_t i = 0; i < times.size(); i++) {
        times[i] = writer.checked(replies[i], 2).elements[1].integer;
    }
    return times;
}

/** Page by page, each with a snapshot of its own: what changes meanwhile is in the outbox. Returns how many
 * went to each bucket. */
std::array<std::int64_t, core::mirror_buckets> send_all(MirrorWriter& writer, Watermark& watermark,
                                                        const std::function<void()>& meanwhile) {
    std::array<std::int64_t, core::mirror_buckets> sent{};
    std::optional<core::Uuid> last;
    for (;;) {
        std::vector<store::Withdrawal> page;
        const TimestampTz began = GetCurrentTimestamp();
        require_step("read withdrawals for the mirror", [&] {
            if (watermark.taken_at == 0) {
                watermark.snapshot = shm::active_snapshot();
                watermark.taken_at = began;
            }
            page = store::read_withdrawals(last ? &*last : nullptr, page_rows);
        });
        if (page.empty()) {
            return sent;
        }
        // Later than anything that the snapshot shows was written.
        const TimestampTz now = GetCurrentTimestamp();
        for (const store::Withdrawal& withdrawal : page) {
            if (!is_due(withdrawal, now) || is_over(withdrawal, now)) {
                continue;
            }
            const std::string key_id = core::to_string(withdrawal.key_id);
            writer.add(key_id,
                       core::mirror_member(withdrawal.key_id, withdrawal.generation, withdrawal.changed),
                       score_of(withdrawal.until));
            sent[core::mirror_bucket(key_id)]++;
        }
        writer.send();
        shm::update_mirror([&](shm::MirrorState& state) { state.rows_sent += page.size(); });
        last = page.back().key_id;
        meanwhile();
    }
}

/** The expiry of tokens from a member's score. Somebody else may have written anything there. */
TimestampTz until_of(const std::string& score) {
    constexpr double most = 1e11;  // some thousand years from now
    const double seconds = std::strtod(score.c_str(), nullptr);
    const auto whole = static_cast<std::int64_t>(seconds >= 0 ? std::min(seconds, most) : 0);
    return pg::timestamp(core::Instant(std::chrono::seconds(whole))) - core::member_grace_us;
}

/** Members of one page of ZSCAN that were not sent: removed where they are live here, noted where they are
 * not known. What is no member at all means nothing to anybody and stays. */
void settle_strangers(MirrorWriter& writer, const std::vector<redis::Reply>& page) {
    std::vector<std::string> members;
    std::vector<store::UnknownMember> candidates;
    for (std::size_t i = 0; i + 1 < page.size(); i += 2) {
        if (core::is_mirror_member(page[i].text)) {
            members.push_back(page[i].text);
            candidates.push_back({page[i].text, until_of(page[i + 1].text)});
        }
    }
    if (members.empty()) {
        return;
    }
    std::vector<store::Standing> standing;
    require_step("compare the mirror with the tables", [&] {
        standing = store::standing_of(members);
        std::vector<store::UnknownMember> unknown;
        for (std::size_t i = 0; i < members.size(); i++) {
            if (standing.at(i) == store::Standing::unknown) {
                unknown.push_back(candidates[i]);
            }
        }
        if (!unknown.empty()) {
            store::note_unknown_members(unknown);
        }
    });
    for (std::size_t i = 0; i < members.size(); i++) {
        if (standing[i] == store::Standing::live) {
            const std::size_t colon = members[i].find(':');
            writer.remove(members[i].substr(colon == std::string::npos ? 0 : colon + 1, 36), members[i]);
        }
    }
    writer.send();
}

/** Where a bucket has more than was sent, its members are looked at one by one. */
void look_for_strangers(redis::Link& link, MirrorWriter& writer,
                        const std::array<std::int64_t, core::mirror_buckets>& sent,
                        const std::function<void()>& meanwhile) {
    require_step("forget what the mirror had", [] { store::forget_unknown_members(); });
    const auto counts = writer.mark(nullptr, "");
    redis::Pipeline pipeline;
    for (std::size_t i = 0; i < counts.size(); i++) {
        if (counts[i] <= sent[i]) {
            continue;
        }
        const std::string& key = writer.names().buckets[i].revocations;
        std::string cursor = "0";
        do {
            pipeline.clear();
            pipeline.command(key, {"ZSCAN", key, cursor, "COUNT", "1000"});
            const redis::Reply reply = link.exchange(pipeline).at(0);
            if (!reply.is_array(2)) {
                throw redis::LinkError("ZSCAN failed: " + reply.text);
            }
            settle_strangers(writer, reply.elements[1].elements);
            meanwhile();
            cursor = reply.elements[0].text;
        } while (cursor != "0");
    }
}

}  // namespace

std::int64_t score_of(TimestampTz until) {
    return pg::unix_seconds(until + core::member_grace_us);
}

bool is_due(const store::Withdrawal& withdrawal, TimestampTz now) {
    return !withdrawal.generation || withdrawal.changed || withdrawal.effective_at <= now;
}

bool is_over(const store::Withdrawal& withdrawal, TimestampTz now) {
    return withdrawal.until + core::member_grace_us <= now;
}

void note_rival(shm::MirrorPhase phase) {
    rival = phase;
}

Watermark resync(redis::Link& link, MirrorWriter& writer, shm::ResyncCause cause, bool take_over,
                 const std::function<void()>& meanwhile) {
    Metas metas = read_metas(link, writer.names());
    const std::uint32_t timeline = writer_timeline(metas, take_over);
    const std::uint64_t highest = check_ours(metas, timeline, take_over);
    if (!take_over) {
        leave_to_rival(metas);
        refuse_living_writer(link, writer, timeline, metas);
    }
    store::Epoch epoch;
    require_step("begin a resync",
                 [&] { epoch = store::make_epoch(timeline, highest, shm::name_of(cause)); });
    const std::string generation = core::mirror_generation(timeline, epoch.counter);
    BucketRunIds run_ids;
    std::transform(metas.begin(), metas.end(), run_ids.begin(), [](const Meta& meta) { return meta.run_id; });
    writer.use(epoch.epoch, generation, std::move(run_ids));
    last_epoch = epoch.epoch;
    shm::set_mirror_phase(shm::MirrorPhase::resyncing, "everything is being sent anew");
    shm::forget_watermark();
    shm::update_mirror([&](shm::MirrorState& state) { state.resyncs[static_cast<std::size_t>(cause)]++; });

    Watermark watermark;
    watermark.times = begin(link, writer, metas, generation, epoch.epoch, take_over);
    const auto sent = send_all(writer, watermark, meanwhile);
    look_for_strangers(link, writer, sent, meanwhile);
    rival.reset();
    return watermark;
}

}  // namespace apikey::worker
