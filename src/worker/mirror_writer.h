#pragma once

#include <array>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/mirror_layout.h"
#include "redis/link.h"
#include "shm/mirror_state.h"

/** What the mirror writes to Redis: every write says which epoch and which writer it comes from, and Redis
 * does nothing when those are not in force. */
namespace apikey::worker {

/** Everything must be sent anew. */
class NeedsResync : public std::runtime_error {
  public:
    NeedsResync(shm::ResyncCause cause, const std::string& why) : std::runtime_error(why), cause_(cause) {}
    shm::ResyncCause cause() const noexcept { return cause_; }

  private:
    shm::ResyncCause cause_;
};

/** We may not write: a newer writer has the mirror, or a foreign one. Only an admin, or time, helps. */
class NotOurs : public std::runtime_error {
  public:
    NotOurs(shm::MirrorPhase phase, const std::string& why) : std::runtime_error(why), phase_(phase) {}
    shm::MirrorPhase phase() const noexcept { return phase_; }

  private:
    shm::MirrorPhase phase_;
};

/** Members of each bucket. */
using BucketCounts = std::array<std::int64_t, core::mirror_buckets>;

/** Unix milliseconds by the clock of the server that a bucket is on. */
using BucketTimes = std::array<std::int64_t, core::mirror_buckets>;

/** Of the process that a bucket is in; empty where that is not known. */
using BucketRunIds = std::array<std::string, core::mirror_buckets>;

using RoleTexts = std::vector<std::pair<std::string, std::string>>;

class MirrorWriter {
  public:
    MirrorWriter(redis::Link& link, std::string_view name_space)
        : link_(link), names_(core::mirror_names(name_space)) {}

    /** From now on writes are made in this epoch and as this writer, into buckets that begin() of the resync
     * has made. */
    void use(std::string_view epoch, std::string_view generation, BucketRunIds run_ids);
    const core::MirrorNames& names() const noexcept { return names_; }

    // What the next send() sends.
    void add(const std::string& key_id, std::string member, std::int64_t score);
    void remove(const std::string& key_id, std::string member);
    struct Event {
        std::string key_id, generation, expires, reason, xid, kind;
    };
    void announce(const Event& event);
    std::size_t waiting() const noexcept { return waiting_; }

    /** How many members have gone from each bucket by remove(), since the beginning. */
    const BucketCounts& removed() const noexcept { return removed_; }

    /** Returns once Redis has it. Throws NeedsResync or NotOurs, and LinkError. */
    void send();

    /** Sets what is given. Returns how many members each bucket has. */
    BucketCounts mark(const BucketTimes* watermark, std::string_view ready);

    /** Heartbeat: the same, and a look at what nodes read, and only this writer writes. Throws NeedsResync
     * where somebody else has changed meta so that it would vouch for more than it should. */
    BucketCounts beat(const BucketTimes& watermark, std::string_view ready);
    /** What somebody else had changed when beat() looked. */
    bool jwks_altered() const noexcept { return jwks_altered_; }
    bool roles_altered() const noexcept { return roles_altered_; }

    /** The clocks; the second one is of the first bucket's server, in microseconds. */
    BucketTimes times(std::int64_t& first_us);

    /** Nothing is done where Redis has the same, as far as this writer knows. */
    void publish_jwks(std::string text);
    void publish_roles(RoleTexts roles);
    /** Redis may have anything. */
    void forget_published();

    /** A script's answer, which begins with 'ok' and has so many elements. Throws for any other. */
    const redis::Reply& checked(const redis::Reply& reply, std::size_t elements) const;

  private:
    struct Bucket {
        std::vector<std::string> added;  // score, member, …
        std::vector<std::string> removed;
        std::vector<std::string> events;  // six of each
    };
    Bucket& bucket_of(const std::string& key_id);
    void mark_bucket(std::size_t bucket, const BucketTimes* watermark, std::string_view ready,
                     const std::string& now);
    void note_marked(const BucketTimes* watermark, std::string_view ready);
    void check_meta(const redis::Reply& meta, std::size_t bucket) const;
    void check_published(std::span<const redis::Reply> replies);

    redis::Link& link_;
    core::MirrorNames names_;
    std::string epoch_, generation_;
    std::array<std::int64_t, core::mirror_buckets>
        writes_{};  ///< of ak_write in this epoch: Redis counts them too
    BucketCounts removed_{};

    // What Redis was told last.
    BucketRunIds run_ids_;
    BucketTimes watermark_{};  ///< the highest
    std::string ready_;
    std::optional<std::string> jwks_;
    std::optional<RoleTexts> roles_;
    bool jwks_altered_ = false;
    bool roles_altered_ = false;

    std::array<Bucket, core::mirror_buckets> buckets_;
    redis::Pipeline pipeline_;
    std::size_t waiting_ = 0;
};

}  // namespace apikey::worker
