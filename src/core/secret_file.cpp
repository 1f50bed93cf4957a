#include "core/secret_file.h"

#include <array>
#include <cstdio>

namespace apikey::core {
namespace {

constexpr std::uint32_t root = 0;
constexpr std::uint32_t not_for_owner = 0077;  // group and others: nothing
constexpr std::uint32_t not_for_root = 0037;   // group: reading; others: nothing

constexpr const char* rule =
    "it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does";

}  // namespace

std::string secret_file_problem(const FileAccess& file, std::uint32_t server_user) {
    if (!file.regular) {
        return "is not a regular file";
    }
    if (file.owner != server_user && file.owner != root) {
        return "belongs to user " + std::to_string(file.owner) +
               "; it must belong to the server's user or to root";
    }
    if ((file.mode & (file.owner == server_user ? not_for_owner : not_for_root)) != 0) {
        std::array<char, 16> mode;
        const int length = snprintf(mode.data(), mode.size(), "%04o", file.mode & 07777U);
        return "has mode " + std::string(mode.data(), static_cast<std::size_t>(length)) +
               (file.owner == server_user ? ", and the server's user owns it; " : ", and root owns it; ") +
               rule;
    }
    return {};
}

}  // namespace apikey::core
