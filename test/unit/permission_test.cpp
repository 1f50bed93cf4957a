#include "core/permission.h"

#include <algorithm>
#include <bitset>
#include <cstddef>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

using namespace std::string_literals;

TEST(Permission, ValidPermissions) {
    for (const char* text : {"a", "chat:read", "a:b:c:d", "a.b-c_d:0", "-", ".", "_:_"}) {
        EXPECT_TRUE(is_valid_permission(text)) << text;
        EXPECT_TRUE(is_valid_grant(text)) << text;
    }
}

TEST(Permission, InvalidPermissions) {
    for (const std::string& text : {""s, ":"s, ":a"s, "a:"s, "a::b"s, "A"s, "chat read"s, " a"s, "a\n"s,
                                    "a/b"s, "\xc3\xa4"s, "a\0"s, "a:\0"s, "`"s, "{"s}) {
        EXPECT_FALSE(is_valid_permission(text)) << text;
        EXPECT_FALSE(is_valid_grant(text)) << text;
    }
}

TEST(Permission, WildcardsAreForGrantsOnly) {
    for (const char* text : {"*", "chat:*", "*:read", "*:*", "a:*:c:*"}) {
        EXPECT_TRUE(is_valid_grant(text)) << text;
        EXPECT_FALSE(is_valid_permission(text)) << text;
    }
    for (const char* text : {"a*", "*a", "**", "chat:**", "chat:re*", "*:", ":*"}) {
        EXPECT_FALSE(is_valid_grant(text)) << text;
    }
}

TEST(Permission, LengthLimit) {
    EXPECT_TRUE(is_valid_permission(std::string(256, 'a')));
    EXPECT_FALSE(is_valid_permission(std::string(257, 'a')));
    EXPECT_TRUE(is_valid_grant(std::string(254, 'a') + ":*"));
    EXPECT_FALSE(is_valid_grant(std::string(255, 'a') + ":*"));
}

TEST(Permission, TrailingWildcardIsOneSegmentOrMore) {
    EXPECT_TRUE(grants("chat:*", "chat:read"));
    EXPECT_TRUE(grants("chat:*", "chat:read:own"));
    EXPECT_FALSE(grants("chat:*", "chat"));
    EXPECT_FALSE(grants("chat:*", "chats:read"));
    EXPECT_TRUE(grants("*", "chat"));
    EXPECT_TRUE(grants("*", "chat:read:own"));
}

TEST(Permission, InnerWildcardIsExactlyOneSegment) {
    EXPECT_TRUE(grants("*:read", "chat:read"));
    EXPECT_FALSE(grants("*:read", "read"));
    EXPECT_FALSE(grants("*:read", "chat:room:read"));
    EXPECT_TRUE(grants("*:*", "a:b"));
    EXPECT_FALSE(grants("*:*", "a"));
}

TEST(Permission, IntersectionExamples) {
    EXPECT_EQ(intersect("chat:*", "*:read"), "chat:read");
    EXPECT_EQ(intersect("*", "chat:read"), "chat:read");
    EXPECT_EQ(intersect("x:*", "*:*:z"), "x:*:z");
    EXPECT_EQ(intersect("x:*", "*:*"), "x:*");
    EXPECT_EQ(intersect("x:*", "*:*:*"), "x:*:*");
    EXPECT_EQ(intersect("chat:*", "chat"), std::nullopt);
    EXPECT_EQ(intersect("chat:read", "chat:write"), std::nullopt);
}

// Each of the two is short enough; what both match is not a permission any more.
TEST(Permission, IntersectionIsNeverLongerThanAPermission) {
    const std::string head(127, 'a');
    EXPECT_EQ(intersect(head + ":*", "*:" + std::string(128, 'b')), head + ":" + std::string(128, 'b'));
    EXPECT_EQ(intersect(head + ":*", "*:" + std::string(129, 'b')), std::nullopt);
}

/** Every text of up to `longest` of the given segments. */
std::vector<std::string> all_texts(const std::vector<std::string>& segments, int longest) {
    std::vector<std::string> texts = segments;
    std::size_t begin = 0;
    for (int length = 2; length <= longest; ++length) {
        const std::size_t end = texts.size();
        for (; begin < end; ++begin) {
            for (const std::string& segment : segments) {
                texts.push_back(texts[begin] + ":" + segment);
            }
        }
    }
    return texts;
}

/** Permissions one segment longer than the longest pattern, so that every difference of two patterns shows in
 * a matched set. */
class SmallUniverse : public testing::Test {
  protected:
    static constexpr int longest_pattern = 4;
    using Matched = std::bitset<62>;

    SmallUniverse()
        : permissions_(all_texts({"a", "b"}, longest_pattern + 1)),
          patterns_(all_texts({"a", "b", "*"}, longest_pattern)) {
        for (const std::string& pattern : patterns_) {
            mark_instances(pattern, matched_[pattern]);
        }
    }

    template <typename Texts>
    Matched matched_by(const Texts& some_patterns) const {
        Matched matched;
        for (const auto& pattern : some_patterns) {
            matched |= matched_.at(std::string(pattern));
        }
        return matched;
    }

    std::vector<std::string> permissions_;
    std::vector<std::string> patterns_;
    std::map<std::string, Matched> matched_;

  private:
    /** Writes out what a pattern stands for, wildcard by wildcard, instead of matching: the oracle shares no
     * idea with the code. */
    void mark_instances(const std::string& pattern, Matched& matched) const {
        const std::size_t star = pattern.find('*');
        if (star == std::string::npos) {
            const auto found = std::find(permissions_.begin(), permissions_.end(), pattern);
            if (found != permissions_.end()) {
                matched.set(static_cast<std::size_t>(found - permissions_.begin()));
            }
            return;
        }
        const bool is_last = star + 1 == pattern.size();
        for (const std::string& filling : is_last ? permissions_ : std::vector<std::string>{"a", "b"}) {
            mark_instances(std::string(pattern).replace(star, 1, filling), matched);
        }
    }
};

TEST_F(SmallUniverse, IsComplete) {
    EXPECT_EQ(permissions_.size(), 62U);
    EXPECT_EQ(patterns_.size(), 120U);
}

TEST_F(SmallUniverse, GrantsExactlyTheInstances) {
    for (const std::string& pattern : patterns_) {
        for (std::size_t i = 0; i < permissions_.size(); ++i) {
            ASSERT_EQ(grants(pattern, permissions_[i]), matched_[pattern][i])
                << pattern << " " << permissions_[i];
        }
    }
}

TEST_F(SmallUniverse, CoversIsTheSubsetRelation) {
    for (const std::string& wider : patterns_) {
        for (const std::string& narrower : patterns_) {
            const bool is_subset = (matched_[narrower] & ~matched_[wider]).none();
            ASSERT_EQ(covers(wider, narrower), is_subset) << wider << " " << narrower;
        }
    }
}

TEST_F(SmallUniverse, IntersectIsTheIntersectionOfSets) {
    for (const std::string& a : patterns_) {
        for (const std::string& b : patterns_) {
            const Matched expected = matched_[a] & matched_[b];
            const auto both = intersect(a, b);
            ASSERT_EQ(both.has_value(), expected.any()) << a << " " << b;
            if (both) {
                ASSERT_TRUE(is_valid_grant(*both)) << *both;
                ASSERT_EQ(matched_.at(*both), expected) << a << " " << b << " " << *both;
            }
        }
    }
}

TEST_F(SmallUniverse, EffectivePermissionsGrantTheIntersectionMinimally) {
    std::mt19937 random(20240229);
    const auto draw = [&] {
        std::vector<std::string_view> chosen(random() % 5);
        for (std::string_view& pattern : chosen) {
            pattern = patterns_[random() % patterns_.size()];
        }
        return chosen;
    };
    for (int round = 0; round < 20000; ++round) {
        const auto role = draw();
        const auto narrowing = draw();
        const bool narrowed = round % 4 != 0;
        const auto result =
            narrowed ? effective_permissions(role, narrowing) : effective_permissions(role, std::nullopt);
        const Matched expected = narrowed ? matched_by(role) & matched_by(narrowing) : matched_by(role);
        ASSERT_EQ(matched_by(result), expected);
        for (std::size_t i = 0; i < result.size(); ++i) {
            ASSERT_TRUE(i == 0 || result[i - 1] < result[i]) << result[i];
            for (std::size_t j = 0; j < result.size(); ++j) {
                ASSERT_TRUE(i == j || !covers(result[i], result[j])) << result[i] << " " << result[j];
            }
        }
    }
}

using Texts = std::vector<std::string>;

TEST(EffectivePermissions, SortsByBytesAndDropsTheCovered) {
    const std::vector<std::string_view> role = {"chat:*", "a_b", "a-b", "chat:read",
                                                "a.b",    "a:b", "a-b", "a"};
    EXPECT_EQ(effective_permissions(role, std::nullopt), (Texts{"a", "a-b", "a.b", "a:b", "a_b", "chat:*"}));
}

TEST(EffectivePermissions, NarrowsTheRole) {
    const std::vector<std::string_view> role = {"chat:*", "dataset:*"};
    const std::vector<std::string_view> narrowing = {"*:read", "chat:write", "node:*"};
    EXPECT_EQ(effective_permissions(role, narrowing), (Texts{"chat:read", "chat:write", "dataset:read"}));
}

TEST(EffectivePermissions, AnEmptyNarrowingIsNotAnAbsentOne) {
    const std::vector<std::string_view> role = {"*"};
    EXPECT_EQ(effective_permissions(role, std::span<const std::string_view>{}), Texts{});
    EXPECT_EQ(effective_permissions(role, std::nullopt), Texts{"*"});
    EXPECT_EQ(effective_permissions({}, role), Texts{});
}

}  // namespace
}  // namespace apikey::core
