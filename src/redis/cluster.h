#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/redis_slot.h"
#include "redis/transport.h"

namespace apikey::redis {

/** Who serves what in a Redis Cluster. */
struct ClusterMap {
    static constexpr std::int16_t nobody = -1;

    std::vector<core::RedisEndpoint> masters;
    std::array<std::int16_t, core::redis_slots> owner;  ///< of each slot: index into masters, or nobody
};

/** Asks one node after the other; one that answers will do. Throws LinkError. */
ClusterMap read_cluster_map(Transport& transport);

}  // namespace apikey::redis
