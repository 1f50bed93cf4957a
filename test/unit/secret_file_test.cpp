#include "core/secret_file.h"

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

constexpr std::uint32_t server = 105;

std::string problem(std::uint32_t owner, std::uint32_t mode) {
    return secret_file_problem({true, owner, mode}, server);
}

TEST(SecretFile, OfTheServersUser) {
    for (const std::uint32_t mode : {0600U, 0400U, 0200U, 0700U, 0U}) {
        EXPECT_EQ(problem(server, mode), "") << mode;
    }
    for (const std::uint32_t mode : {0640U, 0620U, 0610U, 0604U, 0602U, 0601U, 0666U, 0777U}) {
        EXPECT_NE(problem(server, mode), "") << mode;
    }
    EXPECT_EQ(problem(server, 0640),
              "has mode 0640, and the server's user owns it; it must have mode 0600 or stricter where the "
              "server's user owns it, or 0640 or stricter where root does");
}

TEST(SecretFile, OfRoot) {
    for (const std::uint32_t mode : {0640U, 0600U, 0440U, 0400U, 0740U}) {
        EXPECT_EQ(problem(0, mode), "") << mode;
    }
    for (const std::uint32_t mode : {0660U, 0650U, 0644U, 0642U, 0641U, 0666U}) {
        EXPECT_NE(problem(0, mode), "") << mode;
    }
    EXPECT_EQ(problem(0, 0644),
              "has mode 0644, and root owns it; it must have mode 0600 or stricter where the server's user "
              "owns it, or 0640 or stricter where root does");
}

TEST(SecretFile, OfSomebodyElse) {
    EXPECT_EQ(problem(1000, 0600), "belongs to user 1000; it must belong to the server's user or to root");
    EXPECT_NE(problem(1000, 0400), "");
}

TEST(SecretFile, MustBeAFile) {
    EXPECT_EQ(secret_file_problem({false, server, 0600}, server), "is not a regular file");
    EXPECT_EQ(secret_file_problem({false, 0, 0400}, server), "is not a regular file");
}

}  // namespace
}  // namespace apikey::core
