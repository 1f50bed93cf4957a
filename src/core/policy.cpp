#include "core/policy.h"

#include <algorithm>

namespace apikey::core {
namespace {

bool is_superseded(const KeyFacts& key, Instant now) {
    switch (key.position) {
        case Position::current:
            return false;
        case Position::previous:
            return now >= key.grace_ends_at;
        case Position::older:
            return true;
    }
    return true;
}

ForbiddenBy forbidden_by(const KeyFacts& key, const Request& request) {
    if (key.has_address_rule) {
        if (!request.client) {
            return ForbiddenBy::client_unknown;
        }
        if (!contains_any(key.allowed, *request.client)) {
            return ForbiddenBy::client_address;
        }
    }
    const auto& accepted = request.environments;
    if (!accepted.empty() && std::find(accepted.begin(), accepted.end(), key.environment) == accepted.end()) {
        return ForbiddenBy::environment;
    }
    return ForbiddenBy::nothing;
}

}  // namespace

Decision decide(const KeyFacts& key, const Request& request) {
    if (key.state == KeyState::revoked) {
        return {Code::revoked, ForbiddenBy::nothing};
    }
    if (key.state == KeyState::disabled) {
        return {Code::disabled, ForbiddenBy::nothing};
    }
    if (request.now >= std::min(key.expires_at, key.generation_expires_at)) {
        return {Code::expired, ForbiddenBy::nothing};
    }
    if (is_superseded(key, request.now)) {
        return {Code::superseded, ForbiddenBy::nothing};
    }
    const ForbiddenBy reason = forbidden_by(key, request);
    if (reason != ForbiddenBy::nothing) {
        return {Code::forbidden, reason};
    }
    return {Code::valid, ForbiddenBy::nothing};
}

}  // namespace apikey::core
