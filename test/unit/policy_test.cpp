#include "core/policy.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

using std::chrono::microseconds;
constexpr microseconds tick{1};
constexpr Instant now{microseconds{1'700'000'000'000'000}};

Network host(std::uint8_t last) {
    Network network;
    network.address = {192, 0, 2, last};
    return network;
}

/** A key that is right in every respect, with a rule of each kind for it to break. */
struct Situation {
    std::vector<Network> allowed = {host(1), host(2)};
    std::vector<std::string_view> environments = {"live", "test"};
    KeyFacts key;
    Request request;

    Situation() {
        key.expires_at = now + tick;
        key.generation_expires_at = now + tick;
        key.grace_ends_at = now + tick;
        key.has_address_rule = true;
        key.environment = "test";
        request.now = now;
        request.client = host(2);
    }

    Decision decide() {
        key.allowed = allowed;
        request.environments = environments;
        return core::decide(key, request);
    }
};

void expect_decision(Situation& situation, Code code, ForbiddenBy forbidden_by = ForbiddenBy::nothing) {
    const Decision decision = situation.decide();
    EXPECT_EQ(info(decision.code).name, info(code).name);
    EXPECT_EQ(decision.forbidden_by, forbidden_by);
}

struct Failure {
    std::function<void(Situation&)> arrange;
    Code code;
    ForbiddenBy forbidden_by = ForbiddenBy::nothing;
};

/** In the order in which they are to be reported. */
const std::vector<Failure>& failures() {
    static const std::vector<Failure> all = {
        {[](Situation& s) { s.key.state = KeyState::revoked; }, Code::revoked},
        {[](Situation& s) { s.key.state = KeyState::disabled; }, Code::disabled},
        {[](Situation& s) { s.key.expires_at = now; }, Code::expired},
        {[](Situation& s) { s.key.generation_expires_at = now; }, Code::expired},
        {[](Situation& s) { s.key.position = Position::older; }, Code::superseded},
        {[](Situation& s) {
             s.key.position = Position::previous;
             s.key.grace_ends_at = now;
         },
         Code::superseded},
        {[](Situation& s) { s.request.client.reset(); }, Code::forbidden, ForbiddenBy::client_unknown},
        {[](Situation& s) { s.request.client = host(3); }, Code::forbidden, ForbiddenBy::client_address},
        {[](Situation& s) { s.key.environment = "dev"; }, Code::forbidden, ForbiddenBy::environment},
    };
    return all;
}

TEST(Policy, NothingWrongIsValid) {
    Situation situation;
    expect_decision(situation, Code::valid);
}

// Every subset of failures reports the first of them; the pairs among the subsets prove the order.
TEST(Policy, ReportsTheFirstOfAnyFailures) {
    const auto& all = failures();
    for (unsigned subset = 1; subset < 1U << all.size(); ++subset) {
        SCOPED_TRACE(subset);
        Situation situation;
        const Failure* first = nullptr;
        // Backwards, so that where two failures want the same field the one that is to be reported has the
        // last word.
        for (std::size_t i = all.size(); i-- > 0;) {
            if ((subset >> i & 1U) != 0) {
                all[i].arrange(situation);
                first = &all[i];
            }
        }
        expect_decision(situation, first->code, first->forbidden_by);
    }
}

TEST(Policy, ExpiresAtItsInstant) {
    for (Instant KeyFacts::*expiry : {&KeyFacts::expires_at, &KeyFacts::generation_expires_at}) {
        Situation situation;
        situation.key.expires_at = situation.key.generation_expires_at = now + std::chrono::years(1);
        situation.key.*expiry = now + tick;
        expect_decision(situation, Code::valid);
        situation.key.*expiry = now;
        expect_decision(situation, Code::expired);
        situation.key.*expiry = now - tick;
        expect_decision(situation, Code::expired);
    }
}

TEST(Policy, NeverExpiringIsFarAway) {
    Situation situation;
    situation.key.expires_at = situation.key.generation_expires_at = Instant::max();
    expect_decision(situation, Code::valid);
}

TEST(Policy, GraceEndsAtItsInstant) {
    Situation situation;
    situation.key.position = Position::previous;
    situation.key.grace_ends_at = now + tick;
    expect_decision(situation, Code::valid);
    situation.key.grace_ends_at = now;
    expect_decision(situation, Code::superseded);
    situation.key.grace_ends_at = now - tick;
    expect_decision(situation, Code::superseded);
}

TEST(Policy, GraceIsForThePreviousGenerationOnly) {
    Situation situation;
    situation.key.position = Position::older;
    situation.key.grace_ends_at = now + std::chrono::hours(1);
    expect_decision(situation, Code::superseded);
    situation.key.position = Position::current;
    situation.key.grace_ends_at = now - std::chrono::hours(1);
    expect_decision(situation, Code::valid);
}

TEST(Policy, AnEmptyAllowListWithARuleAllowsNobody) {
    Situation situation;
    situation.allowed.clear();
    expect_decision(situation, Code::forbidden, ForbiddenBy::client_address);
    situation.request.client.reset();
    expect_decision(situation, Code::forbidden, ForbiddenBy::client_unknown);
}

TEST(Policy, WithoutARuleAnyClientWillDo) {
    Situation situation;
    situation.key.has_address_rule = false;
    situation.request.client = host(3);
    expect_decision(situation, Code::valid);
    situation.request.client.reset();
    expect_decision(situation, Code::valid);
    situation.allowed.clear();
    expect_decision(situation, Code::valid);
}

TEST(Policy, AMappedClientIsItsIpv4Self) {
    Situation situation;
    Network client;
    client.family = Network::Family::ipv6;
    client.prefix_length = 128;
    client.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    situation.request.client = client;
    expect_decision(situation, Code::valid);
}

TEST(Policy, NoAcceptedEnvironmentsMeansAll) {
    Situation situation;
    situation.key.environment = "dev";
    expect_decision(situation, Code::forbidden, ForbiddenBy::environment);
    situation.environments.clear();
    expect_decision(situation, Code::valid);
}

TEST(Policy, EnvironmentsAreComparedWhole) {
    Situation situation;
    for (const char* environment : {"", "tes", "tests", "TEST"}) {
        situation.key.environment = environment;
        expect_decision(situation, Code::forbidden, ForbiddenBy::environment);
    }
}

}  // namespace
}  // namespace apikey::core
