#include <bit>
#include <chrono>

#include "core/backoff.h"
#include "core/crypto.h"
#include "core/error.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/library_version.h"
#include "pg/log.h"
#include "pg/settings.h"
#include "redis/password.h"
#include "shm/mirror.h"
#include "shm/workers.h"
#include "store/mirror.h"
#include "store/upkeep.h"
#include "worker/mirror_session.h"
#include "worker/pinned_settings.h"
#include "worker/signals.h"
#include "worker/transaction.h"

extern "C" {
PGDLLEXPORT void apikey_mirror_main(Datum argument);
}

/**
 * The mirror worker of a database: keeps Redis told of what has been withdrawn, and exchanges the counts of
 * rate limits with the other nodes. Redis is either complete or says that it is not ready; whatever goes
 * wrong, the answer is to connect again and send everything anew.
 */
namespace apikey::worker {
namespace {

/** What a session was begun with; another one is begun when it changes. */
struct Configuration {
    std::string url, password_file, sentinel_user, sentinel_password_file, masters, name_space,
        rate_namespace, ca_file, certificate_file, key_file;
    int connect_timeout_ms, reply_timeout_ms;

    bool operator==(const Configuration&) const = default;
};

Configuration configuration() {
    namespace settings = pg::settings;
    const std::string name_space = shm::mirror_namespace();
    return {settings::redis_url,
            settings::redis_password_file,
            settings::redis_sentinel_user,
            settings::redis_sentinel_password_file,
            settings::redis_masters,
            name_space,
            *settings::rate_namespace == '\0' ? name_space : settings::rate_namespace,
            settings::redis_ca_file,
            settings::redis_certificate_file,
            settings::redis_key_file,
            settings::redis_connect_timeout,
            settings::redis_timeout};
}

struct Passwords {
    core::SecretBytes servers, sentinels;
};

Passwords read_passwords(const Configuration& from) {
    const bool has_sentinels = core::parse_redis_url(from.url).kind == core::RedisUrl::Kind::sentinel;
    return {redis::read_password(from.password_file),
            has_sentinels ? redis::read_password(from.sentinel_password_file) : core::SecretBytes()};
}

bool equal(const Passwords& a, const Passwords& b) {
    return core::equal_constant_time(core::view(a.servers), core::view(b.servers)) &&
           core::equal_constant_time(core::view(a.sentinels), core::view(b.sentinels));
}

redis::LinkOptions link_options(const Configuration& from, const Passwords& passwords) {
    redis::LinkOptions options;
    options.url = core::parse_redis_url(from.url);
    options.password = passwords.servers;
    options.sentinel_user = from.sentinel_user;
    options.sentinel_password = passwords.sentinels;
    options.masters = core::RedisMasters(from.masters);
    options.resident_scripts = {&redis::ak_check, &redis::ak_rate, &redis::ak_merge};
    options.ca_file = from.ca_file;
    options.certificate_file = from.certificate_file;
    options.key_file = from.key_file;
    options.connect_timeout_ms = from.connect_timeout_ms;
    options.reply_timeout_ms = from.reply_timeout_ms;
    options.must_stop = must_end;
    for (const auto& bucket : core::mirror_names(from.name_space).buckets) {
        options.routing_keys.push_back(bucket.meta);
    }
    return options;
}

std::string reported_problem;

/** Says it once, and again when it is something else. */
void report(const std::string& problem) {
    if (problem != reported_problem) {
        pg::log(LOG, "apikey's mirror is not in order: " + problem);
        reported_problem = problem;
    }
}

void report_recovery() {
    if (!reported_problem.empty()) {
        pg::log(LOG, "apikey's mirror is complete again");
        reported_problem.clear();
    }
}

bool is_installed() {
    auto found = pg::Installed::absent;
    return run_transaction("look for the extension",
                           [&] { found = pg::call([] { return pg::raw_installed(); }); }) &&
           found == pg::Installed::same;
}

/** What sessions have asked for. A worker that ends leaves to the next one what it has not served. */
struct Requests {
    std::uint32_t resyncs = 0;
    std::uint32_t takeovers = 0;

    static Requests now() {
        const auto state = shm::mirror_state();
        return {state->resync_requests, state->takeover_requests};
    }
    static Requests served() {
        const auto state = shm::mirror_state();
        return {state->resyncs_served, state->takeovers_served};
    }
    void note_served() const {
        shm::update_mirror([this](shm::MirrorState& state) {
            state.resyncs_served = resyncs;
            state.takeovers_served = takeovers;
        });
    }
    bool operator==(const Requests&) const = default;
};

class Mirror {
  public:
    explicit Mirror(core::Backoff& backoff) : backoff_(backoff) {}

    /** Until something breaks the connection, the configuration changes, or the worker is to end. */
    void serve() {
        const Configuration used = configuration();
        redis::Link& link = link_for(used);
        shm::set_mirror_phase(shm::MirrorPhase::connecting, last_problem_);
        link.connect();
        shm::update_mirror([](shm::MirrorState& state) { state.connects++; });
        backoff_.succeeded(core::Backoff::Clock::now());
        MirrorSession session(link, used.name_space, used.rate_namespace);
        shm::ResyncCause cause = shm::ResyncCause::connected;
        // Somebody may be undoing it each time. Then it is not tried at once for ever.
        constexpr int most_hasty = 3;
        for (int hasty = 0;;) {
            const TimestampTz began = GetCurrentTimestamp();
            try {
                fill(session, cause);
                last_problem_.clear();
                report_recovery();
                turns(session, used);
                return;
            } catch (const NeedsResync& need) {
                report(need.what());
                cause = need.cause();
                hasty = GetCurrentTimestamp() - began < 10 * USECS_PER_SEC ? hasty + 1 : 0;
                if (hasty > most_hasty) {
                    throw redis::LinkError(need.what());
                }
            }
        }
    }

    void note(const std::string& problem, shm::MirrorPhase phase) {
        report(problem);
        last_problem_ = problem;
        if (phase != shm::MirrorPhase::connecting) {
            shm::forget_watermark();
        }
        shm::set_mirror_phase(phase, problem);
    }

  private:
    /** The same one for as long as nothing about it has changed: it remembers addresses that worked. */
    redis::Link& link_for(const Configuration& used) {
        Passwords passwords = read_passwords(used);
        if (!link_ || used != link_configuration_ || !equal(passwords, passwords_)) {
            link_ = std::make_unique<redis::Link>(link_options(used, passwords));
            passwords_ = std::move(passwords);
            link_configuration_ = used;
        }
        return *link_;
    }

    void fill(MirrorSession& session, shm::ResyncCause cause) {
        const Requests asked = Requests::now();
        const bool take_over = asked.takeovers != Requests::served().takeovers;
        session.fill(take_over ? shm::ResyncCause::requested : cause, take_over);
        asked.note_served();
    }

    void turns(MirrorSession& session, const Configuration& used) {
        constexpr long retry_ms = 500;
        while (!must_end()) {
            reload_if_asked();
            if (configuration() != used) {
                return;
            }
            if (Requests::now() != Requests::served()) {
                throw NeedsResync(shm::ResyncCause::requested, "a resync was asked for");
            }
            long pause_ms = retry_ms;
            try {
                pause_ms = session.turn();
            } catch (const StepFailed&) {
                // For want of a lock perhaps, which is no reason to leave Redis: the watermark stands still
                // until it succeeds.
                if (!is_installed()) {
                    return;
                }
            }
            shm::note_turn();
            if (pause_ms > 0 && !must_end()) {
                wait(pause_ms);
            }
        }
    }

    core::Backoff& backoff_;
    std::unique_ptr<redis::Link> link_;
    Configuration link_configuration_{};
    Passwords passwords_;
    std::string last_problem_;
};

std::uint64_t random_number() {
    std::array<std::uint8_t, 8> bytes;
    pg::random_bytes(bytes);
    return std::bit_cast<std::uint64_t>(bytes);
}

bool changes_wait() {
    std::int64_t highest = 0;
    return run_step("look at the outbox", [&] { highest = store::highest_in_outbox(); }) && highest != 0;
}

/** A pause after a failure: until then, or the configuration changes, an admin asks for something, or the
 * end. While changes wait it is cut short: a Redis that has come back must not be left without them for long.
 */
void pause(std::int64_t milliseconds) {
    constexpr std::int64_t short_pause_ms = 2000;
    const Configuration before = configuration();
    const Requests asked = Requests::now();
    const auto began = std::chrono::steady_clock::now();
    while (!must_end()) {
        reload_if_asked();
        const std::int64_t passed =
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began)
                .count();
        if (passed >= milliseconds || configuration() != before || Requests::now() != asked ||
            (passed >= short_pause_ms && changes_wait())) {
            return;
        }
        shm::note_turn();
        wait(static_cast<long>(std::clamp<std::int64_t>(milliseconds - passed, 1, 1000)));
    }
}

void run(Oid database) {
    catch_signals();
    pg::call([&] { BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0); });
    end_in_good_order();
    if (!shm::become_worker(shm::WorkerKind::mirror)) {
        return;
    }
    pin_worker_settings();
    pin_index_plans();
    core::Backoff backoff(random_number);
    Mirror mirror(backoff);
    constexpr std::int64_t not_ours_ms = 10'000;
    while (!must_end() && *pg::settings::redis_url != '\0') {
        reload_if_asked();
        if (!is_installed()) {
            shm::set_mirror_phase(shm::MirrorPhase::off, "the extension is not there, or of another version");
            pause(1000);
            continue;
        }
        std::int64_t pause_ms = 0;
        try {
            mirror.serve();
        } catch (const redis::Stopped&) {
            break;
        } catch (const NotOurs& reason) {
            note_rival(reason.phase());
            mirror.note(reason.what(), reason.phase());
            pause_ms = not_ours_ms;
        } catch (const core::InvalidArgument& reason) {
            mirror.note(reason.what(), shm::MirrorPhase::connecting);
            pause_ms = not_ours_ms;
        } catch (const std::runtime_error& reason) {
            // LinkError, StepFailed. An error of PostgreSQL is none of these, and ends the worker.
            shm::update_mirror([](shm::MirrorState& state) { state.connection_failures++; });
            mirror.note(reason.what(), shm::MirrorPhase::connecting);
            pause_ms = backoff.failed(core::Backoff::Clock::now()).count();
        }
        if (pause_ms > 0) {
            pause(pause_ms);
        }
    }
    shm::set_mirror_phase(shm::MirrorPhase::off, "");
    shm::forget_watermark();
}

}  // namespace
}  // namespace apikey::worker

void apikey_mirror_main(Datum argument) {
    apikey::pg::boundary([&] { apikey::worker::run(DatumGetObjectId(argument)); });
    proc_exit(0);
}
