#include "core/role_name.h"

#include <cstddef>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

using namespace std::string_literals;

TEST(RoleName, Normalizes) {
    const struct {
        std::string given;
        std::string normal;
    } cases[] = {
        {"basic", "basic"},
        {"Node-Operator", "node_operator"},
        {"NODE OPERATOR", "node_operator"},
        {"node - _ operator", "node_operator"},
        {"node__operator", "node_operator"},
        {"  node\toperator\r\n", "node_operator"},
        {"\v\fa\v\fb", "a_b"},
        {"", ""},
        {" \t\n\v\f\r", ""},
        {"-", "_"},
        {"- a -", "_a_"},
        {" -a", "_a"},
        {"AZ09", "az09"},
        {"@[`{", "@[`{"},
        {"\xc3\x84", "\xc3\x84"},
        {"a\0B"s, "a\0b"s},
    };
    for (const auto& [given, normal] : cases) {
        EXPECT_EQ(normalize_role_name(given), normal) << given;
    }
}

TEST(RoleName, ValidNames) {
    for (const std::string& name :
         {"a"s, "basic"s, "node_operator"s, "a1"s, "a_1_b"s, "a_"s, std::string(63, 'a')}) {
        EXPECT_TRUE(is_valid_role_name(name)) << name;
    }
}

TEST(RoleName, InvalidNames) {
    for (const std::string& name : {""s, "1a"s, "_a"s, "A"s, "aB"s, "a-b"s, "a b"s, " a"s, "a "s, "a__b"s,
                                    "a__"s, "a.b"s, "a\0"s, "\xc3\xa4"s, std::string(64, 'a')}) {
        EXPECT_FALSE(is_valid_role_name(name)) << name;
    }
}

TEST(RoleName, EveryShortNameAgreesWithTheDefinition) {
    const auto has_shape = [](const std::string& name) {
        return !name.empty() && name[0] == 'a' && name.find_first_not_of("a0_") == std::string::npos;
    };
    std::vector<std::string> names = {""};
    for (std::size_t next = 0; next < names.size(); ++next) {
        const std::string name = names[next];
        const std::string normal = normalize_role_name(name);
        ASSERT_EQ(normalize_role_name(normal), normal) << "a normal form is its own: " << name;
        ASSERT_EQ(is_valid_role_name(name), has_shape(name) && normal == name) << name;
        if (name.size() < 5) {
            for (const char c : "aZ0_- "s) {
                names.push_back(name + c);
            }
        }
    }
    EXPECT_EQ(names.size(), 1U + 6 + 36 + 216 + 1296 + 7776);
}

}  // namespace
}  // namespace apikey::core
