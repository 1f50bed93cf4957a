#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "pg/guard.h"

/** What the mirror worker of a database tells sessions, as it lies in shared memory. */
namespace apikey::shm {

enum class MirrorPhase : std::uint8_t {
    off,         ///< no worker, or no Redis configured
    connecting,  ///< also between two attempts
    resyncing,
    ready,    ///< Redis is complete, and says so
    unsafe,   ///< complete, but this Redis may evict: readers are told that it is not ready
    fenced,   ///< a newer writer has the mirror; we write nothing
    foreign,  ///< what is in Redis was written by somebody else on our timeline: an admin must decide
    late,     ///< nobody sets it: what phase_at() makes of `ready` when the worker does not get on
};

/** Why everything was sent anew. */
enum class ResyncCause : std::uint8_t {
    connected,  ///< also after a lost connection
    epoch,      ///< meta was missing or another's: FLUSHALL, a restart with an empty data set
    server,     ///< another run_id or replication id: a restart or a fail-over
    evicted,
    count,      ///< fewer members than there should be, twice running
    requested,  ///< mirror_resync(), mirror_takeover()
    altered     ///< somebody else wrote to meta
};
inline constexpr std::size_t resync_causes = 7;

/** As status(), metrics and mirror_epoch say it. */
std::string_view name_of(MirrorPhase phase);
std::string_view name_of(ResyncCause cause);

/** Under the lock of the mirrors. All zeros: nothing has happened yet. */
struct MirrorState {
    MirrorPhase phase;
    TimestampTz since;              ///< of the phase
    std::array<char, 256> problem;  ///< why it is not ready; empty when it is
    std::array<char, 128> server;   ///< address of the Redis in use
    // The snapshot of the last watermark: all that it shows as committed is in Redis. xmax 0: there is none.
    std::uint64_t xmin;
    std::uint64_t xmax;
    std::uint32_t in_progress;      ///< so many of Area::mirrored_xids are in use
    TimestampTz watermark_at;       ///< when that snapshot was taken, by this server's clock
    std::int64_t watermark_ms;      ///< the same by the clock of Redis, or a little earlier
    std::uint32_t resync_requests;  ///< counted up by sessions
    std::uint32_t takeover_requests;
    std::uint32_t resyncs_served;  ///< how many of them were, by whatever process was the worker then
    std::uint32_t takeovers_served;
    // Since the server started.
    std::uint64_t connects;
    std::uint64_t connection_failures;
    std::array<std::uint64_t, resync_causes> resyncs;
    std::uint64_t rows_sent;
    std::uint64_t bytes_sent;
    std::uint64_t bytes_received;
    std::uint64_t script_reloads;
    std::uint64_t restorations;  ///< of the key set or the roles, which somebody else had changed
    std::uint64_t members;       ///< of all buckets, at the last heartbeat
};

/** What the rate limiter needs to know of the other nodes. Each word by itself, read and written atomically:
 * it is on the way of every validation. */
struct alignas(64) RateExchange {
    std::int64_t clock_offset_us;  ///< Redis' clock less ours
    TimestampTz synced_at;         ///< when counts were last exchanged; 0: never
    std::int64_t nodes;            ///< known, this one included
};

}  // namespace apikey::shm
