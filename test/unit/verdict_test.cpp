#include "core/verdict.h"

#include <set>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

// Written out again on purpose: names and statuses are a contract with clients.
TEST(Verdict, CodesNamesAndStatuses) {
    const struct {
        Code code;
        std::string_view name;
        int http_status;
    } contract[] = {
        {Code::valid, "VALID", 200},
        {Code::missing, "MISSING", 401},
        {Code::malformed, "MALFORMED", 401},
        {Code::not_found, "NOT_FOUND", 401},
        {Code::signature_invalid, "SIGNATURE_INVALID", 401},
        {Code::revoked, "REVOKED", 401},
        {Code::disabled, "DISABLED", 403},
        {Code::expired, "EXPIRED", 401},
        {Code::superseded, "SUPERSEDED", 401},
        {Code::forbidden, "FORBIDDEN", 403},
        {Code::insufficient_permissions, "INSUFFICIENT_PERMISSIONS", 403},
        {Code::rate_limited, "RATE_LIMITED", 429},
        {Code::unavailable, "UNAVAILABLE", 503},
        {Code::refresh_too_early, "REFRESH_TOO_EARLY", 409},
        {Code::already_refreshed, "ALREADY_REFRESHED", 409},
    };
    EXPECT_EQ(std::size(contract), static_cast<std::size_t>(code_count));
    for (const auto& [code, name, http_status] : contract) {
        EXPECT_EQ(info(code).code, code) << name;
        EXPECT_EQ(info(code).name, name);
        EXPECT_EQ(info(code).http_status, http_status) << name;
    }
}

// Written out again, too: what each flag means to metrics, the free tier and the audit trail.
TEST(Verdict, Flags) {
    using enum Code;
    const struct {
        CodeFlag flag;
        std::set<Code> codes;
    } contract[] = {
        {CodeFlag::for_keys,
         {valid, malformed, not_found, signature_invalid, revoked, disabled, expired, superseded, forbidden,
          insufficient_permissions, rate_limited, unavailable}},
        {CodeFlag::for_anonymous, {valid, missing, insufficient_permissions, rate_limited}},
        {CodeFlag::for_refresh,
         {missing, malformed, not_found, signature_invalid, revoked, disabled, expired, superseded, forbidden,
          unavailable, refresh_too_early, already_refreshed}},
        {CodeFlag::rescuable, {malformed, not_found, signature_invalid, expired, superseded}},
        {CodeFlag::key_exists,
         {valid, signature_invalid, revoked, disabled, expired, superseded, forbidden,
          insufficient_permissions, rate_limited, unavailable, refresh_too_early, already_refreshed}},
        {CodeFlag::generation_is_named,
         {valid, revoked, disabled, expired, superseded, forbidden, insufficient_permissions, rate_limited,
          unavailable, refresh_too_early, already_refreshed}},
    };
    for (const auto& [flag, codes] : contract) {
        for (int i = 0; i < code_count; ++i) {
            const Code code = static_cast<Code>(i);
            EXPECT_EQ(has(code, flag), codes.contains(code))
                << info(code).name << ' ' << static_cast<int>(flag);
        }
    }
}

TEST(Verdict, EveryCodeCanOccur) {
    for (int i = 0; i < code_count; ++i) {
        const Code code = static_cast<Code>(i);
        EXPECT_TRUE(has(code, CodeFlag::for_keys) || has(code, CodeFlag::for_anonymous) ||
                    has(code, CodeFlag::for_refresh))
            << info(code).name;
    }
}

TEST(Verdict, MessagesAreDistinctSentences) {
    std::set<std::string_view> seen;
    for (int i = 0; i < code_count; ++i) {
        const std::string_view message = info(static_cast<Code>(i)).message;
        ASSERT_FALSE(message.empty()) << i;
        EXPECT_EQ(message.find('.'), message.size() - 1) << message;
        EXPECT_TRUE(message.front() >= 'A' && message.front() <= 'Z') << message;
        EXPECT_TRUE(seen.insert(message).second) << message;
    }
}

TEST(Verdict, RevocationReasons) {
    for (const std::string_view reason :
         {"UNSPECIFIED", "KEY_COMPROMISE", "SUPERSEDED", "AFFILIATION_CHANGED", "PRIVILEGE_WITHDRAWN"}) {
        EXPECT_TRUE(is_revocation_reason(reason)) << reason;
    }
    for (const std::string_view reason :
         {"", "unspecified", "KEY_COMPROMISED", "KEY", " SUPERSEDED", "CA_COMPROMISE"}) {
        EXPECT_FALSE(is_revocation_reason(reason)) << reason;
    }
}

}  // namespace
}  // namespace apikey::core
