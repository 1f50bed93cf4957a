#include "redis/cluster.h"

#include <algorithm>

#include "core/redis_error.h"

namespace apikey::redis {
namespace {

[[noreturn]] void fail_to_understand(const core::RedisEndpoint& asked) {
    throw LinkError("Redis at " + core::to_text(asked) + ": what it says of its cluster makes no sense");
}

core::RedisEndpoint master_of(const Reply& range, const core::RedisEndpoint& asked) {
    const Reply& node = range.elements[2];
    if (!node.is_array(2) || !node.elements[1].is_integer() || node.elements[1].integer < 1 ||
        node.elements[1].integer > 65535) {
        fail_to_understand(asked);
    }
    core::RedisEndpoint master = asked;
    const Reply& host = node.elements[0];
    if (host.is_text() && !host.text.empty() && host.text != "?") {
        const auto checked = core::make_redis_endpoint(host.text, std::to_string(node.elements[1].integer));
        if (!checked) {
            fail_to_understand(asked);
        }
        master = *checked;
    }
    master.port = static_cast<std::uint16_t>(node.elements[1].integer);
    return master;
}

/** What CLUSTER SLOTS says to `asked`, which may leave out its own host. */
ClusterMap parse_cluster_slots(const Reply& reply, const core::RedisEndpoint& asked) {
    if (!reply.is_array()) {
        fail_to_understand(asked);
    }
    ClusterMap map;
    map.owner.fill(ClusterMap::nobody);
    for (const Reply& range : reply.elements) {
        if (!range.is_array(3) || !range.elements[0].is_integer() || !range.elements[1].is_integer()) {
            fail_to_understand(asked);
        }
        const std::int64_t first = range.elements[0].integer;
        const std::int64_t last = range.elements[1].integer;
        if (first < 0 || last < first || last >= core::redis_slots) {
            fail_to_understand(asked);
        }
        const core::RedisEndpoint master = master_of(range, asked);
        const auto known = std::find(map.masters.begin(), map.masters.end(), master);
        const auto number = static_cast<std::int16_t>(known - map.masters.begin());
        if (known == map.masters.end()) {
            map.masters.push_back(master);
        }
        std::fill(map.owner.begin() + first, map.owner.begin() + last + 1, number);
    }
    return map;
}

}  // namespace

ClusterMap read_cluster_map(Transport& transport) {
    const auto& seeds = transport.options().url.endpoints;
    for (std::size_t i = 0;; i++) {
        try {
            const auto seed = transport.open(seeds[i]);
            transport.log_in(*seed);
            const Reply slots = std::move(transport.ask(*seed, {{"CLUSTER", "SLOTS"}})[0]);
            Transport::refuse_error(*seed, slots, true);
            return parse_cluster_slots(slots, seeds[i]);
        } catch (const LinkError&) {
            if (i + 1 == seeds.size()) {
                throw;
            }
        }
    }
}

}  // namespace apikey::redis
