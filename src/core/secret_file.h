#pragma once

#include <cstdint>
#include <string>

/** Who may have access to a file with a secret: the rule of PostgreSQL for ssl_key_file. */
namespace apikey::core {

struct FileAccess {
    bool regular = false;
    std::uint32_t owner = 0;  ///< user id
    std::uint32_t mode = 0;   ///< permission bits
};

/**
 * Empty for a regular file that the server's user owns, with mode 0600 or stricter, or root, with mode 0640
 * or stricter: the second is what a system's certificate store and a secret of Kubernetes are. For any other
 * file what is wrong and what is right, to follow the file's name: "has mode 0644; …".
 */
std::string secret_file_problem(const FileAccess& file, std::uint32_t server_user);

}  // namespace apikey::core
