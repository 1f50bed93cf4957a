#include "core/permission.h"
#include "core/permission_expression.h"
#include "flow/lifetime.h"
#include "flow/validate.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/settings.h"
#include "store/roles.h"
#include "store/snapshot.h"

namespace apikey::flow {
namespace {

using core::Code;

core::Decision decide(const Proof& proof, const Query& query) {
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
    request.now = pg::now();
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

bool any_grants(std::span<const std::string_view> grants, std::string_view permission) {
    for (const auto grant : grants) {
        if (core::grants(grant, permission)) {
            return true;
        }
    }
    return false;
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
    std::optional<core::PermissionExpression> required;
    if (query.permission) {
        required = core::PermissionExpression::parse(*query.permission);
    }
    Verdict verdict;
    if (!query.token) {
        verdict.code = Code::missing;
        return verdict;
    }

    const store::LatestSnapshot snapshot;
    Proof proof = prove(*query.token, snapshot);
    if (proof.code != Code::valid) {
        verdict.code = proof.code;
        if (!proof.why.empty()) {
            verdict.detail.add("reason", proof.why);
        }
        return verdict;
    }
    const core::Decision decision = decide(proof, query);
    verdict.code = decision.code;
    if (!verdict.valid() && extent == Extent::code_only) {
        return verdict;
    }

    const store::KeyRow& key = *proof.key;
    const auto role = store::find_role(snapshot, key.role);
    const auto role_grants = role ? pg::text_array(role->permissions) : std::vector<std::string_view>();
    std::optional<std::vector<std::string_view>> narrowing;
    if (key.permissions) {
        narrowing = pg::text_array(*key.permissions);
    }
    if (verdict.valid() && required) {
        const auto requirement = required->evaluate([&](std::string_view permission) {
            return any_grants(role_grants, permission) && (!narrowing || any_grants(*narrowing, permission));
        });
        if (!requirement.satisfied) {
            verdict.code = Code::insufficient_permissions;
            verdict.detail.add("required", *query.permission).add("missing", requirement.missing);
            if (!requirement.forbidden.empty()) {
                verdict.detail.add("forbidden", requirement.forbidden);
            }
        }
    } else if (!proof.by_signature_alone || decision.code == Code::superseded) {
        verdict.detail = explain(decision, proof);
    }
    if (extent == Extent::full) {
        verdict.generation = proof.generation;
        verdict.expires_at = std::min(key.expires_at, proof.generation_expires_at);
        if (proof.position == core::Position::previous) {
            verdict.expires_at = std::min(verdict.expires_at, key.previous->valid_until);
        }
        verdict.refresh_due =
            verdict.valid() && (proof.position != core::Position::current ||
                                (role && GetCurrentTimestamp() >= refresh_after(key.issued_at, key.expires_at,
                                                                                role->refresh_window)));
        std::optional<std::span<const std::string_view>> narrowed;
        if (narrowing) {
            narrowed = *narrowing;
        }
        verdict.permissions = core::effective_permissions(role_grants, narrowed);
        verdict.key = proof.key;
        verdict.by_signature_alone = proof.by_signature_alone;
    }
    return verdict;
}

}  // namespace apikey::flow
