#include "worker/mirror_writer.h"

#include <charconv>
#include <optional>

#include "pg/datum.h"
#include "redis/script.h"

namespace apikey::worker {

namespace {

std::optional<std::int64_t> number(std::string_view text) {
    std::int64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(value) : std::nullopt;
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

BucketCounts MirrorWriter::mark(const BucketTimes* watermark, std::string_view ready) {
    pipeline_.clear();
    const std::string now = std::to_string(pg::unix_seconds(GetCurrentTimestamp()));
    for (std::size_t i = 0; i < buckets_.size(); i++) {
        const auto& names = names_.buckets[i];
        const std::string writes = std::to_string(writes_[i]);
        const std::string time = watermark == nullptr ? std::string() : std::to_string((*watermark)[i]);
        pipeline_.eval(redis::ak_mark, {names.revocations, names.meta},
                       {epoch_, generation_, time, ready, writes, now});
    }
    BucketCounts counts{};
    const auto replies = link_.exchange(pipeline_);
    for (std::size_t i = 0; i < counts.size(); i++) {
        counts[i] = checked(replies[i], 3).elements[2].integer;
    }
    return counts;
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

void MirrorWriter::publish_jwks(std::string_view text) {
    pipeline_.clear();
    pipeline_.eval(redis::ak_publish, {names_.jwks, names_.jwks_generation}, {generation_, "string", text});
    checked(link_.exchange(pipeline_).at(0), 1);
}

void MirrorWriter::publish_roles(const std::vector<std::pair<std::string, std::string>>& roles) {
    const std::string count = std::to_string(roles.size());
    std::vector<std::string_view> arguments = {generation_, "hash", count};
    for (const auto& [name, json] : roles) {
        arguments.push_back(name);
        arguments.push_back(json);
    }
    const std::array<std::string_view, 2> keys = {names_.roles, names_.roles_generation};
    pipeline_.clear();
    pipeline_.eval(redis::ak_publish, keys, arguments);
    checked(link_.exchange(pipeline_).at(0), 1);
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
