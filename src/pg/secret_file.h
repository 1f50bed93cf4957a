#pragma once

#include <sys/stat.h>

#include <string>

/** Files with secrets: the master key, passwords, keys of TLS. */
namespace apikey::pg {

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor();
    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

  private:
    int fd_;
};

/**
 * A file with a secret, open for reading, if the rule of core/secret_file.h accepts it. Relative paths are
 * relative to the data directory. Never waits: not for the writer of a FIFO either.
 */
class SecretFile {
  public:
    explicit SecretFile(const std::string& path);

    /** What is wrong, and what would be right, to follow the file's name; empty when nothing is. */
    const std::string& problem() const noexcept { return problem_; }
    bool missing() const noexcept { return missing_; }

    // Where nothing is wrong.
    int descriptor() const noexcept { return file_.get(); }
    const struct stat& status() const noexcept { return status_; }

  private:
    FileDescriptor file_;
    struct stat status_ {};
    std::string problem_;
    bool missing_ = false;
};

}  // namespace apikey::pg
