#include <charconv>

#include "flow/metrics.h"
#include "pg/datum.h"
#include "pg/library_version.h"
#include "pg/settings.h"
#include "shm/audit_months.h"
#include "shm/counters.h"
#include "shm/mirror.h"
#include "shm/proof_cache.h"
#include "shm/workers.h"

namespace apikey::flow {
namespace {

using core::Code;

class Samples {
  public:
    void add(std::string_view name, double value, core::JsonWriter labels = {}) {
        samples_.push_back({std::string(name), std::move(labels), value});
    }
    void add(std::string_view name, std::uint64_t value, core::JsonWriter labels = {}) {
        add(name, static_cast<double>(value), std::move(labels));
    }

    /** One for each code that can occur, and for any other that has. */
    void add_by_code(std::string_view name, const shm::Counters::ByCode& counts, core::CodeFlag can_occur,
                     std::string_view traffic = {}) {
        for (std::size_t i = 0; i < counts.size(); i++) {
            const auto code = static_cast<Code>(i);
            if (counts[i] != 0 || core::has(code, can_occur)) {
                core::JsonWriter labels;
                labels.add("code", core::info(code).name);
                if (!traffic.empty()) {
                    labels.add("traffic", traffic);
                }
                add(name, counts[i], std::move(labels));
            }
        }
    }

    std::vector<Sample> take() { return std::move(samples_); }

  private:
    std::vector<Sample> samples_;
};

core::JsonWriter label(std::string_view name, std::string_view value) {
    core::JsonWriter labels;
    labels.add(name, value);
    return labels;
}

/** As Prometheus's own libraries write it. */
std::string seconds_text(double seconds) {
    std::array<char, 32> text;
    const auto end =
        std::to_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::general);
    return {text.data(), end.ptr};
}

constexpr double nanoseconds_in_a_second = 1e9;

void add_latency(const shm::Counters& counters, Samples& samples) {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < core::latency_buckets; i++) {
        total += counters.latency[i];
        const bool last = i == core::latency_bounds_ns.size();
        const std::string bound =
            last ? "+Inf"
                 : seconds_text(static_cast<double>(core::latency_bounds_ns[i]) / nanoseconds_in_a_second);
        samples.add("apikey_validation_duration_seconds_bucket", total, label("le", bound));
    }
    samples.add("apikey_validation_duration_seconds_sum",
                static_cast<double>(counters.latency_sum_ns) / nanoseconds_in_a_second);
    samples.add("apikey_validation_duration_seconds_count", total);
}

void add_counters(const shm::Counters& counters, Samples& samples) {
    samples.add("apikey_keys_issued_total", counters.issued);
    samples.add("apikey_refreshes_total", counters.refreshed);
    samples.add_by_code("apikey_refreshes_refused_total", counters.refreshes_refused,
                        core::CodeFlag::for_refresh);
    samples.add_by_code("apikey_validations_total", counters.key_validations, core::CodeFlag::for_keys,
                        "key");
    samples.add_by_code("apikey_validations_total", counters.anonymous_validations,
                        core::CodeFlag::for_anonymous, "anonymous");
    add_latency(counters, samples);
    samples.add("apikey_proof_cache_hits_total", counters.cache_hits);
    samples.add("apikey_proof_cache_misses_total", counters.cache_misses);
    samples.add("apikey_proof_cache_evictions_total", counters.cache_evictions);
    samples.add("apikey_jwt_decode_failures_total", counters.jwt_decode_failures);
    constexpr auto limited = static_cast<std::size_t>(Code::rate_limited);
    samples.add("apikey_rate_limit_violations_total", counters.key_validations[limited],
                label("traffic", "key"));
    samples.add("apikey_rate_limit_violations_total", counters.anonymous_validations[limited],
                label("traffic", "anonymous"));
    samples.add("apikey_rate_limit_evictions_total", counters.rate_evictions);
    samples.add("apikey_events_dropped_total", counters.events_dropped, label("kind", "denial"));
    samples.add("apikey_events_dropped_total", counters.uses_dropped, label("kind", "use"));
    samples.add("apikey_denials_summarized_total", counters.denials_summarized);
}

double unix_time(TimestampTz timestamp) {
    return timestamp == 0 ? 0 : static_cast<double>(pg::unix_seconds(timestamp));
}

void add_worker(std::string_view name, const shm::WorkerSlot& worker, Samples& samples) {
    const bool up = worker.state == shm::WorkerSlot::State::running;
    samples.add("apikey_worker_up", up ? 1.0 : 0.0, label("worker", name));
    samples.add("apikey_worker_starts_total", worker.starts, label("worker", name));
    samples.add("apikey_worker_failures_total", worker.failures, label("worker", name));
    samples.add("apikey_worker_failed_steps_total", worker.failed_steps, label("worker", name));
    samples.add("apikey_worker_healthy", up && worker.health == shm::WorkerSlot::Health::good ? 1.0 : 0.0,
                label("worker", name));
    samples.add("apikey_worker_last_turn_timestamp_seconds", unix_time(worker.last_turn_at),
                label("worker", name));
}

double seconds_since(TimestampTz at, TimestampTz now) {
    return static_cast<double>(now - at) / USECS_PER_SEC;
}

/** What is 0, or missing, where there is no mirror. */
void add_mirror(const shm::MirrorState& mirror, const shm::WorkerSlot& worker,
                const shm::DatabaseSlot& database, Samples& samples) {
    const TimestampTz now = GetCurrentTimestamp();
    samples.add("apikey_mirror_configured", *pg::settings::redis_url == '\0' ? 0.0 : 1.0);
    samples.add("apikey_mirror_ready",
                shm::phase_at(mirror, worker, now) == shm::MirrorPhase::ready ? 1.0 : 0.0);
    samples.add("apikey_mirror_connects_total", mirror.connects);
    samples.add("apikey_mirror_connection_failures_total", mirror.connection_failures);
    for (std::size_t i = 0; i < mirror.resyncs.size(); i++) {
        samples.add("apikey_mirror_resyncs_total", mirror.resyncs[i],
                    label("cause", shm::name_of(static_cast<shm::ResyncCause>(i))));
    }
    samples.add("apikey_mirror_rows_sent_total", mirror.rows_sent);
    samples.add("apikey_mirror_bytes_sent_total", mirror.bytes_sent);
    samples.add("apikey_mirror_bytes_received_total", mirror.bytes_received);
    samples.add("apikey_mirror_script_reloads_total", mirror.script_reloads);
    samples.add("apikey_mirror_restorations_total", mirror.restorations);
    samples.add("apikey_mirror_members", mirror.members);
    if (mirror.watermark_at != 0) {
        samples.add("apikey_mirror_watermark_age_seconds", seconds_since(mirror.watermark_at, now));
    }
    const TimestampTz synced_at = std::atomic_ref(const_cast<TimestampTz&>(database.rates.synced_at)).load();
    if (synced_at != 0) {
        samples.add("apikey_rate_exchange_age_seconds", seconds_since(synced_at, now));
        samples.add("apikey_rate_nodes", static_cast<std::uint64_t>(database.rates.nodes));
    }
}

}  // namespace

std::vector<Sample> samples_in_memory() {
    Samples samples;
    samples.add("apikey_build_info", 1.0, label("version", pg::library_version()));
    const bool standby = pg::call([] { return RecoveryInProgress(); });
    samples.add("apikey_in_recovery", standby ? 1.0 : 0.0);
    if (shm::area() == nullptr) {
        return samples.take();
    }
    samples.add("apikey_start_time_seconds", unix_time(shm::area()->header->started_at));
    samples.add("apikey_proof_cache_entries", shm::proofs_kept());
    samples.add("apikey_proof_cache_capacity", static_cast<std::uint64_t>(shm::area()->proofs.size()));
    samples.add("apikey_proof_cache_bytes", static_cast<std::uint64_t>(shm::area()->proofs.size_bytes()));
    if (shm::DatabaseSlot* database = shm::my_database()) {
        add_counters(shm::counted_in_this_database(), samples);
        const shm::EventQueue ring = shm::event_queue(*database);
        samples.add("apikey_event_ring_size", static_cast<std::uint64_t>(ring.size()));
        samples.add("apikey_event_ring_capacity", static_cast<std::uint64_t>(ring.capacity()));
        add_worker("maintenance", shm::worker_state(*database, shm::WorkerKind::maintenance), samples);
        const shm::WorkerSlot mirror_worker = shm::worker_state(*database, shm::WorkerKind::mirror);
        add_worker("mirror", mirror_worker, samples);
        samples.add("apikey_audit_month_failures_total",
                    shm::month_failure(*database, shm::MonthStep::make).failures, label("step", "make"));
        samples.add("apikey_audit_month_failures_total",
                    shm::month_failure(*database, shm::MonthStep::drop).failures, label("step", "drop"));
        add_mirror(*shm::mirror_state(), mirror_worker, *database, samples);
    }
    return samples.take();
}

}  // namespace apikey::flow
