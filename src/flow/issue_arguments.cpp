#include "core/label.h"
#include "core/network.h"
#include "core/permission.h"
#include "core/token.h"
#include "flow/issue_arguments.h"
#include "flow/lifetime.h"
#include "flow/validate.h"
#include "pg/access.h"
#include "pg/datum.h"
#include "pg/failure.h"

namespace apikey::flow {
namespace {

pg::Failure invalid(const std::string& message, std::string hint) {
    return {ERRCODE_INVALID_PARAMETER_VALUE, message, {}, std::move(hint)};
}

void check_label(std::string_view value, const char* what) {
    if (!core::is_valid_label(value)) {
        throw invalid(std::string(what) + " is not valid", core::label_rule);
    }
}

/** 22023 unless it is a list, 22004 when it has a NULL in it. */
void check_list(Datum array, const std::string& name, const std::string& hint) {
    const auto shape = pg::array_shape(array);
    if (shape.dimensions == 0) {
        throw invalid(name + " must not be an empty array", hint);
    }
    if (shape.dimensions > 1) {
        throw invalid(name + " must be a one-dimensional array", hint);
    }
    if (shape.has_null) {
        throw pg::Failure(ERRCODE_NULL_VALUE_NOT_ALLOWED, name + " must not contain NULLs", {}, hint);
    }
}

void check_narrowing(Datum narrowing, const store::RoleRow& role) {
    check_list(narrowing, "permissions", "NULL means all of the role's permissions.");
    if (pg::array_shape(narrowing).elements > core::max_grants) {
        throw invalid("permissions has more than " + std::to_string(core::max_grants) + " entries",
                      "Wildcards say more with less, for example 'chat:*'.");
    }
    const auto grants = pg::text_array(narrowing);
    const auto role_grants = pg::text_array(role.permissions);
    for (auto grant = grants.begin(); grant != grants.end(); ++grant) {
        if (!core::is_valid_grant(*grant)) {
            throw invalid(
                "entry " + std::to_string(grant - grants.begin() + 1) + " of permissions is not a permission",
                "A permission is segment(:segment)*, a segment [a-z0-9_.-]+ or *, for example 'chat:read' or "
                "'chat:*'.");
        }
        const std::string quoted = "permission \"" + std::string(*grant) + '"';
        if (std::find(grants.begin(), grant, *grant) != grant) {
            throw invalid(quoted + " is given twice", "Give each permission once.");
        }
        const bool shared = std::any_of(
            role_grants.begin(), role_grants.end(),
            [&](std::string_view role_grant) { return core::intersect(role_grant, *grant).has_value(); });
        if (!shared) {
            std::string known;
            for (const auto role_grant : role_grants) {
                known += (known.empty() ? "" : ", ") + std::string(role_grant);
            }
            throw invalid(
                quoted + " shares nothing with role \"" + std::string(role.name) + '"',
                "A key narrows its role's permissions, which are: " + (known.empty() ? "none" : known) + ".");
        }
    }
}

void check_environment(std::string_view environment) {
    if (!core::is_valid_environment(environment)) {
        throw invalid("environment is not valid",
                      "It takes 1 to 16 characters of a-z and 0-9, for example 'live' or 'test'.");
    }
    const auto accepted = accepted_environments();
    if (!accepted.empty() && std::find(accepted.begin(), accepted.end(), environment) == accepted.end()) {
        throw invalid("environment \"" + std::string(environment) + "\" is not accepted here",
                      "apikey.environments lists those whose keys this server accepts.");
    }
}

void check_metadata(Datum metadata) {
    const bool object =
        pg::call([&] { return static_cast<bool>(JB_ROOT_IS_OBJECT(DatumGetJsonbP(metadata))); });
    if (!object) {
        throw invalid("metadata must be a JSON object", "For example '{\"team\": \"search\"}'.");
    }
    // Read with the key at every validation, before the token has proven anything.
    const bool small = pg::call([&] {
        const Datum text = DirectFunctionCall1(jsonb_out, metadata);
        return strlen(DatumGetCString(text)) <= 8192;
    });
    if (!small) {
        throw invalid("metadata is longer than 8192 bytes", "Keep it in a table of your own, by key_id.");
    }
}

pg::Failure ttl_too_long(const store::RoleRow& role) {
    const char* text = pg::call([&] {
        return DatumGetCString(
            DirectFunctionCall1(interval_out, IntervalPGetDatum(const_cast<Interval*>(role.ttl))));
    });
    return invalid("ttl is longer than role \"" + std::string(role.name) + "\" allows",
                   "At most " + std::string(text) + ".");
}

bool is_positive(const Interval* ttl) {
    return pg::call([&] {
        Interval zero{};
        return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(const_cast<Interval*>(ttl)),
                                                IntervalPGetDatum(&zero)));
    });
}

}  // namespace

void check_may_issue(const store::RoleRow& role, Oid caller) {
    const std::string name(role.name);
    if (role.ttl == nullptr) {
        throw invalid("role \"" + name + "\" is anonymous: no keys are issued for it",
                      "Roles with a ttl have keys.");
    }
    if (role.issuable_by && !pg::is_member_of_any(caller, *role.issuable_by) &&
        !pg::is_apikey_admin(caller)) {
        throw pg::Failure(ERRCODE_INSUFFICIENT_PRIVILEGE,
                          "permission denied to issue keys of role \"" + name + "\"", {},
                          "apikey.role.issuable_by names the database roles that may; so may those with "
                          "access kind admin.");
    }
}

void check_labels(const IssueRequest& request) {
    check_label(request.owner, "owner");
    if (request.name) {
        check_label(*request.name, "name");
    }
    if (request.idempotency_key) {
        check_label(*request.idempotency_key, "idempotency_key");
    }
}

void check_arguments(const IssueRequest& request, const store::RoleRow& role) {
    if (request.permissions) {
        check_narrowing(*request.permissions, role);
    }
    check_environment(request.environment);
    if (request.format && *request.format != "jwt" && *request.format != "opaque") {
        throw invalid("format is not known", "Formats are 'jwt' and 'opaque'; NULL takes the role's.");
    }
    if (request.allowed_cidrs) {
        check_list(*request.allowed_cidrs, "allowed_cidrs", "NULL means any client address.");
        if (pg::array_shape(*request.allowed_cidrs).elements > core::max_client_networks) {
            throw invalid(
                "allowed_cidrs has more than " + std::to_string(core::max_client_networks) + " entries",
                "Wider networks say more with less, for example '192.0.2.0/24'.");
        }
    }
    check_metadata(request.metadata);
}

TimestampTz checked_expiry(TimestampTz issued_at, const Interval* ttl, const store::RoleRow& role) {
    const TimestampTz longest = expiry(issued_at, role.ttl);
    if (longest <= issued_at) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                          "the ttl of role \"" + std::string(role.name) + "\" leads nowhere from today", {},
                          "An interval of months less days can: give it in days.");
    }
    if (ttl == nullptr) {
        return longest;
    }
    TimestampTz wanted = issued_at;
    if (is_positive(ttl)) {
        try {
            wanted = expiry(issued_at, ttl);
        } catch (const pg::Error& error) {
            if (error.sqlstate() != ERRCODE_DATETIME_VALUE_OUT_OF_RANGE) {
                throw;
            }
            throw ttl_too_long(role);
        }
    }
    // Also for an interval that is positive in PostgreSQL's order, and leads back all the same: '1 month -30
    // days' in February.
    if (wanted <= issued_at) {
        throw invalid("ttl must be positive", "For example interval '7 days'; NULL takes the role's.");
    }
    if (wanted > longest) {
        throw ttl_too_long(role);
    }
    return wanted;
}

core::Digest256 digest_of(const IssueRequest& request, std::string_view role) {
    // Each part is preceded by its length, so that no two requests make the same text.
    std::string text;
    const auto add = [&](bool present, std::string_view part) {
        text += present ? std::to_string(part.size()) + ':' : std::string("-:");
        text += part;
    };
    const auto output = [](Datum value, Oid type) -> std::string {
        return pg::call([&] {
            Oid function;
            bool is_varlena;
            getTypeOutputInfo(type, &function, &is_varlena);
            return OidOutputFunctionCall(function, value);
        });
    };
    add(true, role);
    add(request.name.has_value(), request.name.value_or(""));
    if (request.ttl != nullptr) {
        // The three parts, not the text: that depends on IntervalStyle.
        add(true, std::to_string(request.ttl->month) + ' ' + std::to_string(request.ttl->day) + ' ' +
                      std::to_string(request.ttl->time));
    } else {
        add(false, {});
    }
    add(request.permissions.has_value(),
        request.permissions ? output(*request.permissions, TEXTARRAYOID) : "");
    add(true, request.environment);
    add(request.format.has_value(), request.format.value_or(""));
    add(request.allowed_cidrs.has_value(),
        request.allowed_cidrs ? output(*request.allowed_cidrs, CIDRARRAYOID) : "");
    add(true, output(request.metadata, JSONBOID));
    return core::sha256(core::bytes_of(text));
}

}  // namespace apikey::flow
