#include "flow/status.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/library_version.h"
#include "pg/owner_scope.h"
#include "pg/settings.h"
#include "shm/mirror.h"
#include "shm/workers.h"
#include "store/database_master_key.h"
#include "store/keys.h"
#include "store/master_key.h"

namespace apikey::flow {
namespace {

std::string_view launcher_state(core::JsonWriter& detail) {
    const pid_t pid = shm::launcher_pid();
    if (pid == 0) {
        return "missing";
    }
    detail.add("pid", pid);
    return "ok";
}

std::string_view running_state(shm::WorkerSlot::Health health, core::JsonWriter& detail) {
    using Health = shm::WorkerSlot::Health;
    switch (health) {
        case Health::good:
            break;
        case Health::failing:
            return "failing";
        case Health::other_version:
            detail.add("reason", pg::remedy(pg::call([] { return pg::raw_installed(); })));
            return "mismatch";
    }
    return "ok";
}

std::string_view database_worker_state(shm::WorkerKind kind, core::JsonWriter& detail) {
    using State = shm::WorkerSlot::State;
    shm::DatabaseSlot* slot = shm::my_database();
    if (slot == nullptr) {
        detail.add("reason", "all places of apikey.max_databases are taken");
        return "missing";
    }
    const shm::WorkerSlot worker = shm::worker_state(*slot, kind);
    if (worker.state == State::running) {
        detail.add("pid", worker.pid).add("started_at", pg::iso_timestamp(worker.started_at));
    }
    if (worker.last_turn_at != 0) {
        detail.add("last_turn_at", pg::iso_timestamp(worker.last_turn_at));
    }
    detail.add("starts", static_cast<std::int64_t>(worker.starts))
        .add("failures", static_cast<std::int64_t>(worker.failures))
        .add("failed_steps", static_cast<std::int64_t>(worker.failed_steps));
    if (worker.step_failed_at != 0) {
        detail.add("step_failed_at", pg::iso_timestamp(worker.step_failed_at))
            .add("step_problem", std::string_view(worker.step_problem.data()));
    }
    switch (worker.state) {
        case State::running:
            return running_state(worker.health, detail);
        case State::starting:
            return "starting";
        case State::failed:
            return "failed";
        case State::absent:
            break;
    }
    return is_listed() ? "missing" : "unlisted";
}

std::string text_of(std::span<const char> text) {
    return {text.data(), strnlen(text.data(), text.size())};
}

}  // namespace

bool is_listed() {
    return pg::call([] {
        const char* name = get_database_name(MyDatabaseId);
        const List* names = pg::settings::raw_database_names();
        for (int i = 0; i < list_length(names); i++) {
            if (name != nullptr && strcmp(static_cast<const char*>(list_nth(names, i)), name) == 0) {
                return true;
            }
        }
        return false;
    });
}

Status worker_status(std::string_view worker) {
    Status status;
    if (shm::area() == nullptr) {
        status.detail.add("reason", "apikey is not in shared_preload_libraries");
        status.state = "missing";
    } else if (pg::call([] { return RecoveryInProgress(); })) {
        status.detail.add("reason", "starts when the standby is promoted");
        status.state = "standby";
    } else if (worker == "launcher") {
        status.state = launcher_state(status.detail);
    } else if (worker == "maintenance") {
        status.state = database_worker_state(shm::WorkerKind::maintenance, status.detail);
    } else if (worker == "mirror") {
        status.state = database_worker_state(shm::WorkerKind::mirror, status.detail);
    } else {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "unknown worker", {},
                          "Workers are launcher, maintenance and mirror.");
    }
    return status;
}

Status mirror_status() {
    Status status{"off", {}};
    core::JsonWriter& detail = status.detail;
    const bool standby = pg::call([] { return RecoveryInProgress(); });
    const auto mirror = standby ? std::nullopt : shm::mirror_state();
    if (!pg::settings::preloaded()) {
        detail.add("reason", "apikey is not in shared_preload_libraries");
    } else if (standby) {
        status.state = "standby";
    } else if (*pg::settings::redis_url == '\0') {
        detail.add("reason", "apikey.redis_url is not set");
    } else if (mirror) {
        const auto worker = shm::worker_state(*shm::my_database(), shm::WorkerKind::mirror);
        const TimestampTz now = GetCurrentTimestamp();
        status.state = shm::name_of(shm::phase_at(*mirror, worker, now));
        detail.add("namespace", shm::mirror_namespace());
        if (const auto problem = text_of(mirror->problem); !problem.empty()) {
            detail.add("problem", problem);
        }
        if (const auto server = text_of(mirror->server); !server.empty()) {
            detail.add("server", server);
        }
        if (mirror->since != 0) {
            detail.add("since", pg::iso_timestamp(mirror->since));
        }
        if (mirror->watermark_at != 0) {
            detail.add("watermark_at", pg::iso_timestamp(mirror->watermark_at))
                .add("watermark_age_ms", (now - mirror->watermark_at) / 1000);
        }
        detail.add("members", static_cast<std::int64_t>(mirror->members))
            .add("connects", static_cast<std::int64_t>(mirror->connects))
            .add("connection_failures", static_cast<std::int64_t>(mirror->connection_failures));
        if (mirror->restorations != 0) {
            detail.add("restorations", static_cast<std::int64_t>(mirror->restorations));
        }
        for (std::size_t i = 0; i < mirror->resyncs.size(); i++) {
            if (mirror->resyncs[i] != 0) {
                const std::string name =
                    "resyncs_" + std::string(shm::name_of(static_cast<shm::ResyncCause>(i)));
                detail.add(name, static_cast<std::int64_t>(mirror->resyncs[i]));
            }
        }
    }
    return status;
}

MasterKeyStatus master_key_status() {
    if (!pg::settings::preloaded()) {
        return {"unknown", "apikey is not in shared_preload_libraries"};
    }
    const auto& master = store::load_master_key();
    switch (master.state) {
        case store::MasterKeyState::ok: {
            const pg::OwnerScope as_owner(store::tables_owner());
            if (!store::is_database_master_key(*master.keys)) {
                return {"mismatch", store::describe_master_key_mismatch()};
            }
            return {"ok", master.problem};
        }
        case store::MasterKeyState::missing:
            return {"missing", master.problem};
        case store::MasterKeyState::refused:
            return {"refused", master.problem};
    }
    return {};
}

}  // namespace apikey::flow
