#include "core/permission_expression.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace apikey::core {
namespace {

using namespace std::string_literals;
using Texts = std::vector<std::string>;

Requirement evaluate(std::string_view text, const std::set<std::string, std::less<>>& granted) {
    return PermissionExpression::parse(text).evaluate(
        [&](std::string_view p) { return granted.contains(p); });
}

/** The answers for each subset of a, b, c, d; bit 0 of the index is a. */
std::string truth_table(std::string_view text) {
    const PermissionExpression expression = PermissionExpression::parse(text);
    std::string table;
    for (int subset = 0; subset < 16; ++subset) {
        const Requirement result = expression.evaluate(
            [subset](std::string_view p) { return ((subset >> (p.front() - 'a')) & 1) != 0; });
        EXPECT_EQ(result.satisfied, result.missing.empty() && result.forbidden.empty()) << text;
        table += result.satisfied ? '1' : '0';
    }
    return table;
}

std::string error_of(std::string_view text) {
    try {
        PermissionExpression::parse(text);
    } catch (const InvalidArgument& error) {
        EXPECT_FALSE(error.hint().empty()) << text;
        return error.what();
    }
    return "no error";
}

std::string hint_of(std::string_view text) {
    try {
        PermissionExpression::parse(text);
    } catch (const InvalidArgument& error) {
        return error.hint();
    }
    return "no error";
}

std::string repeated(std::string_view text, int times) {
    std::string result;
    for (int i = 0; i < times; ++i) {
        result += text;
    }
    return result;
}

std::string any_of_terms(int count) {
    return "a" + repeated("|a", count - 1);
}

TEST(PermissionExpression, SinglePermission) {
    EXPECT_TRUE(evaluate("chat:read", {"chat:read"}).satisfied);
    const Requirement denied = evaluate("chat:read", {"chat:write"});
    EXPECT_FALSE(denied.satisfied);
    EXPECT_EQ(denied.missing, Texts{"chat:read"});
    EXPECT_EQ(denied.forbidden, Texts{});
}

TEST(PermissionExpression, Operators) {
    EXPECT_EQ(truth_table("a"), "0101010101010101");
    EXPECT_EQ(truth_table("!a"), "1010101010101010");
    EXPECT_EQ(truth_table("a & b"), "0001000100010001");
    EXPECT_EQ(truth_table("a | b"), "0111011101110111");
}

TEST(PermissionExpression, Precedence) {
    EXPECT_EQ(truth_table("a | b & c"), truth_table("a | (b & c)"));
    EXPECT_NE(truth_table("a | b & c"), truth_table("(a | b) & c"));
    EXPECT_EQ(truth_table("a & b | c"), truth_table("(a & b) | c"));
    EXPECT_EQ(truth_table("a & b | c & d"), truth_table("(a & b) | (c & d)"));
    EXPECT_EQ(truth_table("!a & b"), truth_table("(!a) & b"));
    EXPECT_NE(truth_table("!a & b"), truth_table("!(a & b)"));
    EXPECT_EQ(truth_table("!a | b"), truth_table("(!a) | b"));
    EXPECT_EQ(truth_table("a & !b | c"), truth_table("(a & (!b)) | c"));
}

TEST(PermissionExpression, Associativity) {
    for (const auto& op : {" & "s, " | "s}) {
        const std::string flat = "a" + op + "b" + op + "c";
        EXPECT_EQ(truth_table(flat), truth_table("(a" + op + "b)" + op + "c"));
        EXPECT_EQ(truth_table(flat), truth_table("a" + op + "(b" + op + "c)"));
    }
}

TEST(PermissionExpression, NestedNegationAndDeMorgan) {
    EXPECT_EQ(truth_table("!!a"), truth_table("a"));
    EXPECT_EQ(truth_table("!!!a"), truth_table("!a"));
    EXPECT_EQ(truth_table("! ( ! (a) )"), truth_table("a"));
    EXPECT_EQ(truth_table("!(a & b)"), truth_table("!a | !b"));
    EXPECT_EQ(truth_table("!(a | !(b & c))"), truth_table("!a & b & c"));
}

TEST(PermissionExpression, BlanksStandBetweenTokensOnly) {
    EXPECT_EQ(truth_table("a&(b|!c)"), truth_table(" \t\na \n&\t( b | ! c )\n "));
    EXPECT_EQ(error_of("a : b"),
              "permission expression: expected &, | or the end at position 3, found \":\"");
    EXPECT_EQ(error_of("a\r& b"),
              "permission expression: expected &, | or the end at position 2, found \"\\x0d\"");
}

TEST(PermissionExpression, ExplainsAFailedAnd) {
    EXPECT_EQ(evaluate("a & b & c", {"b"}).missing, (Texts{"a", "c"}));
    EXPECT_EQ(evaluate("c & a & c & a", {}).missing, (Texts{"a", "c"}));
    const Requirement mixed = evaluate("a & !b", {"b"});
    EXPECT_EQ(mixed.missing, Texts{"a"});
    EXPECT_EQ(mixed.forbidden, Texts{"b"});
}

TEST(PermissionExpression, ExplainsAFailedOrWithEveryWayOut) {
    EXPECT_EQ(evaluate("a | (b & c)", {"b"}).missing, (Texts{"a", "c"}));
    const Requirement mixed = evaluate("a | !b", {"b"});
    EXPECT_EQ(mixed.missing, Texts{"a"});
    EXPECT_EQ(mixed.forbidden, Texts{"b"});
}

TEST(PermissionExpression, ExplainsAFailedNegation) {
    EXPECT_EQ(evaluate("!a", {"a"}).forbidden, Texts{"a"});
    EXPECT_EQ(evaluate("!a", {"a"}).missing, Texts{});
    EXPECT_EQ(evaluate("!(c | b | a)", {"a", "c"}).forbidden, (Texts{"a", "c"}));
    EXPECT_EQ(evaluate("!(a & b)", {"a", "b"}).forbidden, (Texts{"a", "b"}));
}

TEST(PermissionExpression, NestedNegationFlipsTheExplanation) {
    const Requirement twice = evaluate("!!a", {});
    EXPECT_EQ(twice.missing, Texts{"a"});
    EXPECT_EQ(twice.forbidden, Texts{});
    EXPECT_EQ(evaluate("!!!a", {"a"}).forbidden, Texts{"a"});
    const Requirement mixed = evaluate("!(a & !b)", {"a"});
    EXPECT_EQ(mixed.missing, Texts{"b"});
    EXPECT_EQ(mixed.forbidden, Texts{"a"});
}

TEST(PermissionExpression, SatisfiedExplainsNothing) {
    for (const char* text : {"a | b", "a & !b", "!(b & c)", "!b", "!!a"}) {
        const Requirement result = evaluate(text, {"a"});
        EXPECT_TRUE(result.satisfied) << text;
        EXPECT_EQ(result.missing, Texts{}) << text;
        EXPECT_EQ(result.forbidden, Texts{}) << text;
    }
}

TEST(PermissionExpression, ContradictionsNameOneSide) {
    EXPECT_EQ(evaluate("a & !a", {"a"}).forbidden, Texts{"a"});
    EXPECT_EQ(evaluate("a & !a", {"a"}).missing, Texts{});
    EXPECT_EQ(evaluate("a & !a", {}).missing, Texts{"a"});
    EXPECT_EQ(evaluate("a & !a", {}).forbidden, Texts{});
}

TEST(PermissionExpression, Moves) {
    PermissionExpression first = PermissionExpression::parse("a");
    PermissionExpression second = PermissionExpression::parse("b");
    second = std::move(first);
    const PermissionExpression third = std::move(second);
    EXPECT_TRUE(third.evaluate([](std::string_view p) { return p == "a"; }).satisfied);
}

TEST(PermissionExpressionError, Empty) {
    for (const char* text : {"", " ", "\t\n "}) {
        EXPECT_EQ(error_of(text), "permission expression: empty");
    }
}

TEST(PermissionExpressionError, SaysWhereAndWhat) {
    const struct {
        std::string text;
        std::string error;
    } cases[] = {
        {"a & ", "expected a permission at position 5, found the end"},
        {"a &", "expected a permission at position 4, found the end"},
        {"chat:read & & x", "expected a permission at position 13, found \"&\""},
        {"a || b", "expected a permission at position 4, found \"|\""},
        {"& a", "expected a permission at position 1, found \"&\""},
        {"!", "expected a permission at position 2, found the end"},
        {"! & a", "expected a permission at position 3, found \"&\""},
        {"(", "expected a permission at position 2, found the end"},
        {"()", "expected a permission at position 2, found \")\""},
        {"a & )", "expected a permission at position 5, found \")\""},
        {"(a", "expected &, | or ) at position 3, found the end"},
        {"(a b)", "expected &, | or ) at position 4, found \"b\""},
        {"((a)", "expected &, | or ) at position 5, found the end"},
        {"a)", "expected &, | or the end at position 2, found \")\""},
        {"a b", "expected &, | or the end at position 3, found \"b\""},
        {"a(b)", "expected &, | or the end at position 2, found \"(\""},
        {"a ! b", "expected &, | or the end at position 3, found \"!\""},
        {"a, b", "expected &, | or the end at position 2, found \",\""},
        {"chat:Read", "expected a segment at position 6, found \"R\""},
        {"Chat:read", "expected a permission at position 1, found \"C\""},
        {":a", "expected a permission at position 1, found \":\""},
        {"a:", "expected a segment at position 3, found the end"},
        {"a::b", "expected a segment at position 3, found \":\""},
        {"a: b", "expected a segment at position 3, found \" \""},
        {"\""s, "expected a permission at position 1, found \"\"\""},
        {"a\0"s, "expected &, | or the end at position 2, found \"\\x00\""},
        {"a & \xc3\xa4", "expected a permission at position 5, found \"\\xc3\""},
        {"\x7f", "expected a permission at position 1, found \"\\x7f\""},
    };
    for (const auto& [text, error] : cases) {
        EXPECT_EQ(error_of(text), "permission expression: " + error) << text;
        EXPECT_NE(hint_of(text).find("chat:read & (dataset:write | admin:all) & !x:y"), std::string::npos)
            << text;
    }
}

TEST(PermissionExpressionError, AWildcardBelongsInAGrant) {
    EXPECT_EQ(error_of("*"), "permission expression: expected a permission at position 1, found \"*\"");
    EXPECT_EQ(error_of("chat:*"), "permission expression: expected a segment at position 6, found \"*\"");
    EXPECT_EQ(error_of("(chat:re*)"), "permission expression: expected &, | or ) at position 9, found \"*\"");
    for (const char* text : {"*", "chat:*", "*:read", "a & *", "chat:re*", "(a*)"}) {
        EXPECT_NE(hint_of(text).find("Wildcards belong in grants"), std::string::npos) << text;
    }
}

TEST(PermissionExpressionError, TheExampleInTheHintIsRight) {
    const std::string hint = hint_of("&");
    const std::string example = hint.substr(hint.find("example: ") + 9);
    EXPECT_TRUE(evaluate(example, {"chat:read", "admin:all"}).satisfied);
    const std::string wildcard_hint = hint_of("*");
    EXPECT_TRUE(evaluate(wildcard_hint.substr(wildcard_hint.find("example: ") + 9), {"chat:read"}).satisfied);
}

TEST(PermissionExpressionError, RepeatsNoMoreThanOneCharacterOfTheText) {
    for (const char* text : {"a SECRETSECRET", "a:SECRETSECRET", "secretsecret secretsecret", "SECRET"}) {
        const std::string error = error_of(text) + hint_of(text);
        EXPECT_EQ(error.find("SE"), std::string::npos) << text;
        EXPECT_EQ(error.find("secret"), std::string::npos) << text;
    }
}

TEST(PermissionExpressionLimit, Characters) {
    EXPECT_EQ(error_of("a" + std::string(4095, ' ')), "no error");
    EXPECT_EQ(error_of("a" + std::string(4096, ' ')), "permission expression: longer than 4096 characters");
    EXPECT_EQ(error_of(std::string(1 << 20, '(')), "permission expression: longer than 4096 characters");
}

TEST(PermissionExpressionLimit, Terms) {
    EXPECT_EQ(error_of(any_of_terms(100)), "no error");
    EXPECT_EQ(error_of(any_of_terms(101)),
              "permission expression: more than 100 permissions at position 201");
}

TEST(PermissionExpressionLimit, Levels) {
    const auto nested = [](const std::string& open, const std::string& close, int levels) {
        return repeated(open, levels) + "a" + repeated(close, levels);
    };
    EXPECT_EQ(error_of(nested("(", ")", 32)), "no error");
    EXPECT_EQ(error_of(nested("(", ")", 33)), "permission expression: more than 32 levels at position 33");
    EXPECT_EQ(error_of(nested("!", "", 32)), "no error");
    EXPECT_EQ(error_of(nested(" !", "", 33)), "permission expression: more than 32 levels at position 66");
    EXPECT_EQ(error_of(nested("!(", ")", 16)), "no error");
    EXPECT_EQ(error_of(nested("!(", ")", 17)), "permission expression: more than 32 levels at position 33");
    EXPECT_EQ(error_of(repeated("(a)|", 40) + "a"), "no error") << "side by side is not deeper";
}

TEST(PermissionExpressionLimit, LengthOfAPermission) {
    EXPECT_EQ(error_of("a|" + std::string(256, 'b')), "no error");
    EXPECT_EQ(error_of("a|" + std::string(257, 'b')),
              "permission expression: permission longer than 256 characters at position 3");
}

}  // namespace
}  // namespace apikey::core
