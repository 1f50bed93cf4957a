#include "redis/password.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "redis/errors.h"

namespace apikey::redis {
namespace {

constexpr std::size_t max_password = 4096;

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    int get() const noexcept { return fd_; }

  private:
    int fd_;
};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
    throw LinkError("the file with the password for Redis, \"" + path + "\", " + what);
}

[[noreturn]] void refuse(const std::string& path, const std::string& what, int error) {
    refuse(path, what + ": " + std::generic_category().message(error));
}

}  // namespace

core::SecretBytes read_password(const std::string& path) {
    if (path.empty()) {
        return {};
    }
    const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (file.get() < 0) {
        refuse(path, "cannot be opened", errno);
    }
    if (fstat(file.get(), &status) != 0) {
        refuse(path, "cannot be examined", errno);
    }
    if (!S_ISREG(status.st_mode)) {
        refuse(path, "is not a regular file");
    }
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        refuse(path, "is accessible by group or others; its mode should be 0600");
    }
    if (status.st_uid != geteuid() && status.st_uid != 0) {
        refuse(path, "belongs to another user than the server's");
    }
    core::SecretBytes password(max_password);
    const ssize_t length = read(file.get(), password.data(), password.size());
    if (length < 0) {
        refuse(path, "cannot be read", errno);
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
