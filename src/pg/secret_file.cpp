#include "pg/secret_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/secret_file.h"

namespace apikey::pg {

FileDescriptor::~FileDescriptor() {
    if (fd_ >= 0) {
        close(fd_);
    }
}

SecretFile::SecretFile(const std::string& path)
    : file_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
    const auto failed = [](const char* what) {
        return what + (": " + std::generic_category().message(errno));
    };
    if (!file_) {
        missing_ = errno == ENOENT;
        problem_ = missing_ ? "does not exist" : failed("cannot be opened");
    } else if (fstat(file_.get(), &status_) != 0) {
        problem_ = failed("cannot be examined");
    } else {
        problem_ = core::secret_file_problem(
            {S_ISREG(status_.st_mode), status_.st_uid, status_.st_mode & 07777U}, geteuid());
    }
}

}  // namespace apikey::pg
