#include "worker/mirror_writer.h"

#include <charconv>
#include <map>

#include "pg/datum.h"
#include "redis/connection.h"
#include "redis/script.h"

namespace apikey::worker {

namespace {

std::optional<std::int64_t> number(std::string_view text) {
    std::int64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(value) : std::nullopt;
}

/** With much to spare: somebody else may have added to them. */
bool fit_into_reply(const RoleTexts& roles) {
    std::size_t bytes = 0;
    for (const auto& [name, json] : roles) {
        bytes += name.size() + json.size();
    }
    return bytes <= redis::Connection::max_reply_bytes / 2 &&
           roles.size() <= redis::Connection::max_reply_elements / 4;
}

/** Of an answer to TIME. */
std::int64_t unix_us(const redis::Reply& time) {
    constexpr std::int64_t most_seconds = 1'000'000'000'000;
    if (time.is_array(2)) {
        const auto seconds = number(time.elements[0].text);
        const auto microseconds = number(time.elements[1].text);
        if (seconds && microseconds && *seconds >= 0 && *seconds < most_seconds && *microseconds >= 0 &&
            *microseconds < USECS_PER_SEC) {
            return *seconds * USECS_PER_SEC + *microseconds;
        }
    }
    throw redis::LinkError("TIME was answered with something else: " + time.text);
}

}  // namespace

void MirrorWriter::use(std::string_view epoch, std::string_view generation, BucketRunIds run_ids) {
    epoch_ = epoch;
    generation_ = generation;
    writes_ = {};
    run_ids_ = std::move(run_ids);
    watermark_ = {};
    ready_ = "0";
}

MirrorWriter::Bucket& MirrorWriter::bucket_of(const std::string& key_id) {
    waiting_++;
    return buckets_[core::mirror_bucket(key_id)];
}

void MirrorWriter::add(const std::string& key_id, std::string member, std::int64_t score) {
    auto& added = bucket_of(key_id).added;
    added.push_back(std::to_string(score));
    added.push_back(std::move(member));
}

void MirrorWriter::remove(const std::string& key_id, std::string member) {
    bucket_of(key_id).removed.push_back(std::move(member));
}

void MirrorWriter::announce(const Event& event) {
    auto& events = bucket_of(event.key_id).events;
    events.insert(events.end(),
                  {event.key_id, event.generation, event.expires, event.reason, event.xid, event.kind});
}

void MirrorWriter::send() {
    pipeline_.clear();
    std::vector<std::string_view> arguments;
    std::vector<std::size_t> written;
    for (std::size_t i = 0; i < buckets_.size(); i++) {
        const Bucket& bucket = buckets_[i];
        if (bucket.added.empty() && bucket.removed.empty() && bucket.events.empty()) {
            continue;
        }
        const std::string added = std::to_string(bucket.added.size() / 2);
        const std::string removed = std::to_string(bucket.removed.size());
        const std::string events = std::to_string(bucket.events.size() / 6);
        arguments.assign({epoch_, generation_, added});
        arguments.insert(arguments.end(), bucket.added.begin(), bucket.added.end());
        arguments.push_back(removed);
        arguments.insert(arguments.end(), bucket.removed.begin(), bucket.removed.end());
        arguments.push_back(events);
        arguments.insert(arguments.end(), bucket.events.begin(), bucket.events.end());
        const auto& names = names_.buckets[i];
        const std::array<std::string_view, 3> keys = {names.revocations, names.meta, names.events};
        pipeline_.eval(redis::ak_write, keys, arguments);
        writes_[i]++;
        written.push_back(i);
    }
    for (Bucket& bucket : buckets_) {
        bucket.added.clear();
        bucket.removed.clear();
        bucket.events.clear();
    }
    waiting_ = 0;
    if (!pipeline_.empty()) {
        const auto replies = link_.exchange(pipeline_);
        for (std::size_t i = 0; i < written.size(); i++) {
            removed_[written[i]] += checked(replies[i], 3).elements[2].integer;
        }
    }
}

void MirrorWriter::mark_bucket(std::size_t bucket, const BucketTimes* watermark, std::string_view ready,
                               const std::string& now) {
    const auto& names = names_.buckets[bucket];
    const std::string writes = std::to_string(writes_[bucket]);
    const std::string time = watermark == nullptr ? std::string() : std::to_string((*watermark)[bucket]);
    pipeline_.eval(redis::ak_mark, {names.revocations, names.meta},
                   {epoch_, generation_, time, ready, writes, now});
}

/** Before it is sent: Redis may have done it even where the answer does not come. */
void MirrorWriter::note_marked(const BucketTimes* watermark, std::string_view ready) {
    for (std::size_t i = 0; watermark != nullptr && i < watermark_.size(); i++) {
        watermark_[i] = std::max(watermark_[i], (*watermark)[i]);
    }
    if (!ready.empty()) {
        ready_ = ready;
    }
}

BucketCounts MirrorWriter::mark(const BucketTimes* watermark, std::string_view ready) {
    pipeline_.clear();
    const std::string now = std::to_string(pg::unix_seconds(GetCurrentTimestamp()));
    for (std::size_t i = 0; i < buckets_.size(); i++) {
        mark_bucket(i, watermark, ready, now);
    }
    note_marked(watermark, ready);
    BucketCounts counts{};
    const auto replies = link_.exchange(pipeline_);
    for (std::size_t i = 0; i < counts.size(); i++) {
        counts[i] = checked(replies[i], 3).elements[2].integer;
    }
    return counts;
}

BucketCounts MirrorWriter::beat(const BucketTimes& watermark, std::string_view ready) {
    pipeline_.clear();
    const std::string now = std::to_string(pg::unix_seconds(GetCurrentTimestamp()));
    for (std::size_t i = 0; i < buckets_.size(); i++) {
        const std::string& meta = names_.buckets[i].meta;
        pipeline_.command(meta, {"HMGET", meta, "schema", "ready", "watermark_ms", "run_id"});
        mark_bucket(i, &watermark, ready, now);
    }
    for (const std::string* name : {&names_.jwks, &names_.jwks_generation, &names_.roles_generation}) {
        pipeline_.command(*name, {"GET", *name});
    }
    const bool with_roles = roles_ && fit_into_reply(*roles_);
    if (with_roles) {
        pipeline_.command(names_.roles, {"HGETALL", names_.roles});
    }
    BucketCounts counts{};
    const auto replies = link_.exchange(pipeline_);
    // First whether it is ours at all.
    for (std::size_t i = 0; i < counts.size(); i++) {
        counts[i] = checked(replies[2 * i + 1], 3).elements[2].integer;
    }
    for (std::size_t i = 0; i < counts.size(); i++) {
        check_meta(replies[2 * i], i);
    }
    note_marked(&watermark, ready);
    check_published(std::span(replies).subspan(2 * counts.size()));
    return counts;
}

/** A watermark that is lower, or none, only makes readers ask somebody else until the next heartbeat. */
void MirrorWriter::check_meta(const redis::Reply& meta, std::size_t bucket) const {
    const auto altered = [bucket](const std::string& what) {
        throw NeedsResync(shm::ResyncCause::altered, "somebody else has changed " + what +
                                                         " in the meta of bucket " + std::to_string(bucket));
    };
    if (!meta.is_array(4)) {
        throw redis::LinkError("HMGET failed: " + meta.text);
    }
    if (!meta.elements[0].is_text("1")) {
        altered("schema");
    }
    if (!meta.elements[1].is_text(ready_)) {
        altered("ready");
    }
    if (const redis::Reply& watermark = meta.elements[2]; watermark.is_text()) {
        const auto stored = number(watermark.text);
        if (!stored || *stored > watermark_[bucket]) {
            altered("watermark_ms");
        }
    }
    if (meta.elements[3].text != run_ids_[bucket]) {
        altered("run_id");
    }
}

void MirrorWriter::check_published(std::span<const redis::Reply> replies) {
    jwks_altered_ = jwks_ && !(replies[0].is_text(*jwks_) && replies[1].is_text(generation_));
    roles_altered_ = false;
    if (replies.size() > 3) {
        const redis::Reply& roles = replies[3];
        std::map<std::string_view, std::string_view> found;
        for (std::size_t i = 0; i + 1 < roles.elements.size(); i += 2) {
            found.emplace(roles.elements[i].text, roles.elements[i + 1].text);
        }
        roles_altered_ = !replies[2].is_text(generation_) || found.size() != roles_->size() ||
                         !std::all_of(roles_->begin(), roles_->end(), [&found](const auto& role) {
                             const auto known = found.find(role.first);
                             return known != found.end() && known->second == role.second;
                         });
    }
    if (jwks_altered_) {
        jwks_.reset();
    }
    if (roles_altered_) {
        roles_.reset();
    }
}

BucketTimes MirrorWriter::times(std::int64_t& first_us) {
    pipeline_.clear();
    for (const auto& bucket : names_.buckets) {
        pipeline_.command(bucket.meta, {"TIME"});
    }
    BucketTimes times{};
    const auto replies = link_.exchange(pipeline_);
    for (std::size_t i = 0; i < times.size(); i++) {
        const std::int64_t microseconds = unix_us(replies[i]);
        times[i] = microseconds / 1000;
        first_us = i == 0 ? microseconds : first_us;
    }
    return times;
}

void MirrorWriter::forget_published() {
    jwks_.reset();
    roles_.reset();
}

void MirrorWriter::publish_jwks(std::string text) {
    if (jwks_ == text) {
        return;
    }
    pipeline_.clear();
    pipeline_.eval(redis::ak_publish, {names_.jwks, names_.jwks_generation}, {generation_, "string", text});
    checked(link_.exchange(pipeline_).at(0), 1);
    jwks_ = std::move(text);
}

void MirrorWriter::publish_roles(RoleTexts roles) {
    if (roles_ == roles) {
        return;
    }
    const std::string count = std::to_string(roles.size());
    std::vector<std::string_view> arguments = {generation_, "hash", count};
    for (const auto& [name, json] : roles) {
        arguments.emplace_back(name);
        arguments.emplace_back(json);
    }
    const std::array<std::string_view, 2> keys = {names_.roles, names_.roles_generation};
    pipeline_.clear();
    pipeline_.eval(redis::ak_publish, keys, arguments);
    checked(link_.exchange(pipeline_).at(0), 1);
    roles_ = std::move(roles);
}

const redis::Reply& MirrorWriter::checked(const redis::Reply& reply, std::size_t count) const {
    if (reply.is_array(1)) {
        const auto& elements = reply.elements;
        if (elements[0].is_text("ok") && elements.size() >= count) {
            return reply;
        }
        if (elements[0].is_text("fenced")) {
            throw NotOurs(
                shm::MirrorPhase::fenced,
                "a newer writer has the mirror: this server is no longer the primary, or another one "
                "was told to take it over (apikey.mirror_takeover())");
        }
        if (elements[0].is_text("epoch")) {
            const bool missing = elements.size() < 2 || elements[1].text.empty();
            throw NeedsResync(shm::ResyncCause::epoch, missing ? "Redis has lost what it was told"
                                                               : "somebody else has filled the mirror");
        }
    }
    throw redis::LinkError("a script of the mirror failed: " + reply.text);
}

}  // namespace apikey::worker
