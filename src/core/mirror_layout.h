#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/uuid.h"

/** Names in the Redis contract, schema 1 (docs/redis-contract.md). */
namespace apikey::core {

inline constexpr std::size_t mirror_buckets = 16;

/** The first hexadecimal digit of the SHA-256 of a key's id, or of another subject of a rate limit, as text.
 */
std::size_t mirror_bucket(std::string_view subject);

/** Names of the keys of one database. All of a bucket share a hash tag, and so a slot of a cluster. */
struct MirrorNames {
    struct Bucket {
        std::string revocations;
        std::string meta;
        std::string events;
    };
    std::array<Bucket, mirror_buckets> buckets;
    std::string jwks, jwks_generation;
    std::string roles, roles_generation;
};
MirrorNames mirror_names(std::string_view name_space);

/** A member of a bucket's sorted set. No generation: all of the key's. `changed`: not withdrawn, but a claim
 * of its token has become untrue. */
std::string mirror_member(const Uuid& key_id, std::optional<std::int32_t> generation, bool changed);

/** How long members stay after the expiry of their tokens: nodes allow for clocks that differ. */
inline constexpr std::int64_t member_grace_us = 60'000'000;

/** Is this what mirror_member() may have made? */
bool is_mirror_member(std::string_view text);

/** Which of two writers is the newer one: 24 hexadecimal digits that compare as text. */
std::string mirror_generation(std::uint32_t timeline, std::uint64_t counter);

/** Of a text that mirror_generation() may have made. */
struct MirrorGeneration {
    std::uint32_t timeline;
    std::uint64_t counter;
};
std::optional<MirrorGeneration> parse_mirror_generation(std::string_view text);

/** The counts of one window of a subject: its key id, or ip- and the hash of an address. */
std::string rate_key(std::string_view name_space, std::string_view subject, std::int64_t width_us,
                     std::int64_t sequence);

}  // namespace apikey::core
