#include "redis/password.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "pg/secret_file.h"
#include "redis/errors.h"

namespace apikey::redis {
namespace {

constexpr std::size_t max_password = 4096;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
    throw LinkError("the file with the password for Redis, \"" + path + "\", " + what);
}

}  // namespace

core::SecretBytes read_password(const std::string& path) {
    if (path.empty()) {
        return {};
    }
    const pg::SecretFile file(path);
    if (!file.problem().empty()) {
        refuse(path, file.problem());
    }
    core::SecretBytes password(max_password);
    const ssize_t length = read(file.descriptor(), password.data(), password.size());
    if (length < 0) {
        refuse(path, "cannot be read: " + std::generic_category().message(errno));
    }
    const auto end = password.begin() + length;
    const auto line_end =
        std::find_if(password.begin(), end, [](std::uint8_t c) { return c == '\n' || c == '\r'; });
    if (line_end == password.begin()) {
        refuse(path, "is empty");
    }
    if (line_end == password.end()) {
        refuse(path, "does not hold a password in one line");
    }
    password.erase(line_end, password.end());
    return password;
}

}  // namespace apikey::redis
