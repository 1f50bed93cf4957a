#include "core/permission.h"
#include "core/permission_expression.h"
#include "flow/denial.h"
#include "flow/lifetime.h"
#include "flow/validate.h"
#include "pg/clock.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/settings.h"
#include "shm/area.h"
#include "shm/counters.h"
#include "shm/meter.h"
#include "store/master_key.h"
#include "store/roles.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

using core::Code;

core::Decision decide(const Proof& proof, const Query& query, TimestampTz now) {
    const auto& key = *proof.key;
    std::vector<core::Network> allowed;
    if (key.allowed_cidrs) {
        allowed = pg::cidr_array(*key.allowed_cidrs);
    }
    const auto environments = accepted_environments();
    core::KeyFacts facts = facts_of(proof, key, proof.position);
    facts.has_address_rule = key.allowed_cidrs.has_value();
    facts.allowed = allowed;
    core::Request request;
    request.now = pg::instant(now);
    request.client = query.client;
    request.environments = environments;
    return core::decide(facts, request);
}

core::JsonWriter explain(const core::Decision& decision, const Proof& proof) {
    const auto& key = *proof.key;
    core::JsonWriter detail;
    switch (decision.code) {
        case Code::revoked:
            if (key.revoked_at) {
                detail.add("revoked_at", pg::iso_timestamp(*key.revoked_at))
                    .add("reason", key.revocation_reason);
            }
            break;
        case Code::disabled:
            if (key.disabled_at) {
                detail.add("disabled_at", pg::iso_timestamp(*key.disabled_at));
            }
            break;
        case Code::expired:
            detail.add("expired_at",
                       pg::iso_timestamp(std::min(key.expires_at, proof.generation_expires_at)));
            break;
        case Code::superseded:
            detail.add("generation_in_force", key.generation);
            break;
        case Code::forbidden:
            switch (decision.forbidden_by) {
                case core::ForbiddenBy::client_unknown:
                    detail.add("forbidden_by", "client")
                        .add("reason", "the key is bound to client addresses and the caller gave none");
                    break;
                case core::ForbiddenBy::client_address:
                    detail.add("forbidden_by", "client")
                        .add("reason", "the client address is not in allowed_cidrs");
                    break;
                default:
                    detail.add("forbidden_by", "environment")
                        .add("reason", "keys of this environment are not accepted here");
            }
            break;
        default:
            break;
    }
    return detail;
}

/** What a permission is asked of: the role's grants, and the key's own narrowing of them. */
struct Grants {
    std::vector<std::string_view> role;
    std::optional<std::vector<std::string_view>> narrowing;

    bool grant(std::string_view permission) const {
        const auto granted_by = [&](const std::vector<std::string_view>& grants) {
            return std::any_of(grants.begin(), grants.end(),
                               [&](std::string_view grant) { return core::grants(grant, permission); });
        };
        return granted_by(role) && (!narrowing || granted_by(*narrowing));
    }
    std::vector<std::string> effective() const {
        std::optional<std::span<const std::string_view>> narrowed;
        if (narrowing) {
            narrowed = *narrowing;
        }
        return core::effective_permissions(role, narrowed);
    }
};

Grants grants_of(const std::optional<store::RoleRow>& role, const std::optional<Datum>& narrowing) {
    Grants grants;
    if (role) {
        grants.role = pg::text_array(role->permissions);
    }
    if (narrowing) {
        grants.narrowing = pg::text_array(*narrowing);
    }
    return grants;
}

/** The permission that is asked for: one, or an expression of several. */
class Requirement {
  public:
    explicit Requirement(std::optional<std::string_view> required) : text_(required) {
        if (text_ && !core::is_valid_permission(*text_)) {
            expression_ = core::PermissionExpression::parse(*text_);
        }
    }
    bool any() const { return text_.has_value(); }

    /** Sets code and detail when the grants do not satisfy it. */
    void check(const Grants& grants, Verdict& verdict) const {
        if (text_ && !expression_) {
            if (!grants.grant(*text_)) {
                const std::array<std::string, 1> missing = {std::string(*text_)};
                deny(verdict, missing, {});
            }
            return;
        }
        if (expression_) {
            const auto result = expression_->evaluate([&](std::string_view p) { return grants.grant(p); });
            if (!result.satisfied) {
                deny(verdict, result.missing, result.forbidden);
            }
        }
    }

  private:
    void deny(Verdict& verdict, std::span<const std::string> missing,
              std::span<const std::string> forbidden) const {
        verdict.code = Code::insufficient_permissions;
        verdict.detail.add("required", *text_).add("missing", missing);
        if (!forbidden.empty()) {
            verdict.detail.add("forbidden", forbidden);
        }
    }

    std::optional<std::string_view> text_;
    std::optional<core::PermissionExpression> expression_;
};

/** Months of 30 days, as PostgreSQL compares intervals. */
std::int64_t microseconds(const Interval& interval) {
    return interval.time + (std::int64_t(interval.month) * DAYS_PER_MONTH + interval.day) * USECS_PER_DAY;
}

/** The key's own limit, else its role's. */
std::optional<core::RateLimit> limit_of(const std::optional<store::RoleRow>& role,
                                        const store::KeyHead* key) {
    const bool own = key != nullptr && key->rate_limit;
    const auto limit = own ? key->rate_limit : role ? role->rate_limit : std::nullopt;
    if (!limit) {
        return std::nullopt;
    }
    const Interval* window = own && key->rate_window != nullptr ? key->rate_window
                             : role                             ? role->rate_window
                                                                : nullptr;
    return core::RateLimit{*limit, window == nullptr ? USECS_PER_MINUTE : microseconds(*window)};
}

/** The last check, and the only one that a good answer changes something for. */
void spend(const shm::Subject& subject, const std::optional<core::RateLimit>& limit, const Query& query,
           TimestampTz now, Verdict& verdict) {
    if (limit) {
        shm::require_area("a rate limit");
    }
    const auto decision = shm::use(subject, limit, now, query.cost, query.client);
    if (!limit || !decision) {
        return;
    }
    verdict.limit = limit;
    verdict.rate = *decision;
    if (!decision->allowed) {
        verdict.code = Code::rate_limited;
        verdict.detail.add("limit", limit->limit);
        if (decision->retry_after_us) {
            constexpr std::int64_t second = USECS_PER_SEC;
            verdict.detail.add("retry_after", (*decision->retry_after_us + second - 1) / second);
        } else {
            verdict.detail.add("reason", "the cost is above the limit");
        }
    }
}

void describe(Verdict& verdict, const Proof& proof, const std::optional<store::RoleRow>& role,
              const Grants& grants) {
    const store::KeyHead& key = *proof.key;
    verdict.expires_at = std::min(key.expires_at, proof.generation_expires_at);
    if (proof.position == core::Position::previous) {
        verdict.expires_at = std::min(verdict.expires_at, key.previous->valid_until);
    }
    verdict.refresh_due =
        verdict.valid() && (proof.position != core::Position::current ||
                            (role && GetCurrentTimestamp() >=
                                         refresh_after(key.issued_at, key.expires_at, role->refresh_window)));
    verdict.permissions = grants.effective();
}

Verdict judge(const Query& query, const PresentedToken& token, const Requirement& required, Extent extent,
              store::LatestSnapshot& snapshot, TimestampTz now) {
    Verdict verdict;
    Proof proof = prove(token, snapshot);
    core::Decision decision;
    std::optional<store::RoleRow> role;
    while (proof.code == Code::valid) {
        decision = decide(proof, query, now);
        verdict.code = decision.code;
        if (verdict.valid() || extent == Extent::full) {
            role = store::find_role(snapshot, proof.key->role);
        }
        if (proof.waits == snapshot.waits()) {
            break;
        }
        // The role's table was locked for a while, in which the key may have been revoked.
        read_again(proof, snapshot);
    }
    if (proof.code != Code::valid) {
        verdict.code = proof.code;
        if (!proof.why.empty()) {
            verdict.detail.add("reason", proof.why);
        }
        verdict.claim = claim_of(proof);
        return verdict;
    }
    const store::KeyHead& key = *proof.key;
    Grants grants;
    if ((verdict.valid() && required.any()) || extent == Extent::full) {
        grants = grants_of(role, key.permissions);
    }
    if (!verdict.valid()) {
        if (extent == Extent::full && (!proof.by_signature_alone || verdict.code == Code::superseded)) {
            verdict.detail = explain(decision, proof);
        }
    } else {
        required.check(grants, verdict);
        if (verdict.valid()) {
            spend(shm::key_subject(key.key_id), limit_of(role, &key), query, now, verdict);
        }
    }
    if (!verdict.valid()) {
        if (verdict.code != Code::rate_limited && !proof.by_signature_alone) {
            shm::count_denial(key.key_id, verdict.code, now);
        }
        verdict.claim = claim_of(proof);
    }
    verdict.generation = proof.generation;
    verdict.by_signature_alone = proof.by_signature_alone;
    verdict.key = proof.key;
    if (extent == Extent::full) {
        describe(verdict, proof, role, grants);
    }
    return verdict;
}

/** The servers that share counts know an address by the same name when they have the same master key. Nobody
 * else counts where there is no Redis, and then it is not worth looking for the file. */
shm::Subject anonymous_subject(const Query& query, TimestampTz now) {
    const core::MasterKeys* keys = *pg::settings::redis_url == '\0' ? nullptr : store::recent_master_key(now);
    const auto shared_key = keys == nullptr ? std::nullopt : std::optional(core::address_key(*keys));
    return shm::address_subject(query.client, shared_key ? &*shared_key : nullptr);
}

/** As role free, by client address. `original`: what is wrong with the token, or that there is none. */
Verdict judge_anonymous(const Query& query, const Requirement& required, Code original,
                        store::LatestSnapshot& snapshot, TimestampTz now) {
    Verdict verdict;
    verdict.anonymous = true;
    verdict.code = Code::valid;
    const auto role = store::find_role(snapshot, "free");
    const Grants grants = grants_of(role, std::nullopt);
    required.check(grants, verdict);
    if (verdict.valid()) {
        shm::require_area("the free tier");
        spend(anonymous_subject(query, now), limit_of(role, nullptr), query, now, verdict);
    }
    verdict.permissions = grants.effective();
    if (original != Code::missing) {
        verdict.detail.add("degraded_from", core::info(original).name);
    }
    return verdict;
}

void record_if_denied(const Query& query, const Verdict& verdict) {
    if (!verdict.valid()) {
        record_denial(query.operation, verdict.code, verdict.claim, query.client);
    }
}

Verdict answer(const Query& query, const Requirement& required, Extent extent, TimestampTz now) {
    Verdict verdict;
    if (!query.token && !pg::settings::free_tier) {
        verdict.anonymous = true;
        verdict.code = Code::missing;
        record_if_denied(query, verdict);
        return verdict;
    }
    std::optional<PresentedToken> token;
    if (query.token) {
        token.emplace(*query.token, now);
    }
    store::LatestSnapshot snapshot(store::LatestSnapshot::Use::brief);
    verdict = token ? judge(query, *token, required, extent, snapshot, now)
                    : judge_anonymous(query, required, Code::missing, snapshot, now);
    record_if_denied(query, verdict);
    if (token && pg::settings::free_tier_on_failure && core::has(verdict.code, core::CodeFlag::rescuable)) {
        verdict = judge_anonymous(query, required, verdict.code, snapshot, now);
        record_if_denied(query, verdict);
    }
    return verdict;
}

void count(const Verdict& verdict, std::int64_t took_ns) {
    shm::Counters& counters = shm::my_counters();
    auto& validations = verdict.anonymous ? counters.anonymous_validations : counters.key_validations;
    shm::count(validations[static_cast<std::size_t>(verdict.code)]);
    shm::count(counters.latency[core::latency_bucket(took_ns)]);
    shm::count(counters.latency_sum_ns, static_cast<std::uint64_t>(took_ns));
}

}  // namespace

std::vector<std::string_view> accepted_environments() {
    std::vector<std::string_view> names;
    std::string_view rest = pg::settings::environments;
    while (!rest.empty()) {
        const auto end = rest.find_first_of(", ");
        if (end != 0) {
            names.push_back(rest.substr(0, end));
        }
        rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    }
    return names;
}

Verdict validate(const Query& query, Extent extent) {
    if (query.cost < 0) {
        throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE, "cost must not be negative", {},
                          "0 looks at the limit and consumes nothing.");
    }
    const Requirement required(query.permission);
    const pg::ClockReading start = pg::read_clock();
    Verdict verdict = answer(query, required, extent, start.timestamp());
    count(verdict, start.elapsed_ns());
    return verdict;
}

}  // namespace apikey::flow
