#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/crypto.h"
#include "core/json_writer.h"
#include "core/verdict.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/log.h"
#include "pg/secret_file.h"
#include "pg/settings.h"
#include "pg/spi.h"
#include "store/master_key.h"

namespace apikey::store {
namespace {

/** What tells one state of a file from another. */
struct FileIdentity {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    mode_t mode = 0;
    timespec modified{};
    timespec changed{};

    static FileIdentity of(const std::string& path, const struct stat& status) {
        return {path,           status.st_dev,  status.st_ino, status.st_size,
                status.st_mode, status.st_mtim, status.st_ctim};
    }
    bool operator==(const FileIdentity& other) const {
        const auto same_time = [](const timespec& a, const timespec& b) {
            return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
        };
        return path == other.path && device == other.device && inode == other.inode && size == other.size &&
               mode == other.mode && same_time(modified, other.modified) && same_time(changed, other.changed);
    }
};

struct Session {
    std::optional<FileIdentity> identity;
    core::MasterKeys keys;
    MasterKeyResult result;
};

// Made on first use, in the process that uses it: a postmaster must not hold the key.
Session& session() {
    static Session the_session;
    return the_session;
}

std::string error_text(int error) {
    return std::generic_category().message(error);
}

void log_problem(const std::string& problem) {
    static TimestampTz last_logged = 0;
    static std::string last_problem;
    const TimestampTz now = GetCurrentTimestamp();
    if (problem == last_problem && now - last_logged < USECS_PER_MINUTE) {
        return;
    }
    last_problem = problem;
    last_logged = now;
    pg::log(LOG_SERVER_ONLY, "apikey: " + problem,
            {.hint = "Until this is put right, keys that need the master key get the verdict UNAVAILABLE and "
                     "none can be issued."});
}

void set_problem(MasterKeyState state, std::string problem) {
    auto& now = session();
    now.identity.reset();
    now.keys = core::MasterKeys();
    now.result.state = state;
    now.result.problem = std::move(problem);
    now.result.keys = nullptr;
}

/** Fills session().result; false when it is a problem. */
bool read_file() {
    pg::settings::require_preloaded("the master key");
    auto& now = session();
    const std::string path = pg::settings::master_key_file;
    const std::string named = "master key file \"" + path + "\" ";
    struct stat status {};
    if (now.identity && stat(path.c_str(), &status) == 0 && *now.identity == FileIdentity::of(path, status)) {
        return true;
    }
    const pg::SecretFile file(path);
    if (!file.problem().empty()) {
        set_problem(file.missing() ? MasterKeyState::missing : MasterKeyState::refused,
                    named + file.problem());
        return false;
    }
    status = file.status();
    if (status.st_size != static_cast<off_t>(core::master_key_size)) {
        set_problem(MasterKeyState::refused,
                    named + "must hold exactly 32 bytes, but holds " + std::to_string(status.st_size));
        return false;
    }
    core::SecretArray<core::master_key_size> master;
    if (read(file.descriptor(), master.data(), master.size()) != static_cast<ssize_t>(master.size())) {
        set_problem(MasterKeyState::refused, named + "could not be read whole");
        return false;
    }
    now.keys = core::derive_master_keys(master.view());
    now.identity = FileIdentity::of(path, status);
    now.result.state = MasterKeyState::ok;
    now.result.problem.clear();
    now.result.keys = &now.keys;
    return true;
}

bool database_holds_no_keys() {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT NOT EXISTS (SELECT FROM apikey.key)
               AND NOT EXISTS (SELECT FROM apikey.signing_key)
        )sql");
    statement.run({}, pg::Visibility::latest);
    return DatumGetBool(pg::result_value(0, 1).value_or(BoolGetDatum(false)));
}

/** The path is for the log; API clients may see the error. */
[[noreturn]] void fail_creation(const std::string& path, int error) {
    log_problem("could not create master key file \"" + path + "\": " + error_text(error));
    throw pg::Failure(
        ERRCODE_IO_ERROR, "could not create the master key file; the server log says why", {},
        "Make a file of 32 random bytes with mode 0600 that belongs to the server's user, and name it in "
        "apikey.master_key_file.");
}

void create_file() {
    const std::string path = pg::settings::master_key_file;
    const std::string temporary = path + ".new." + std::to_string(getpid());
    core::SecretArray<core::master_key_size> master;
    pg::random_bytes(master.span());
    unlink(temporary.c_str());  // left by a crash of a process that had this number
    {
        const pg::FileDescriptor file(
            open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
        if (!file) {
            fail_creation(path, errno);
        }
        if (write(file.get(), master.data(), master.size()) != static_cast<ssize_t>(master.size()) ||
            fsync(file.get()) != 0) {
            const int error = errno;
            unlink(temporary.c_str());
            fail_creation(path, error);
        }
    }
    // link, not rename: it never replaces the file that another session has just made.
    const int linked = link(temporary.c_str(), path.c_str());
    const int error = errno;
    unlink(temporary.c_str());
    if (linked != 0) {
        if (error == EEXIST) {
            return;
        }
        fail_creation(path, error);
    }
    const auto slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const pg::FileDescriptor handle(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!handle || fsync(handle.get()) != 0) {
        fail_creation(path, errno);
    }
    pg::log(LOG_SERVER_ONLY, "apikey: created master key file \"" + path + '"',
            {.hint = "Keep a copy somewhere safe: without it no key of this cluster can be validated."});
}

}  // namespace

const MasterKeyResult& load_master_key() {
    if (!read_file()) {
        log_problem(session().result.problem);
    }
    return session().result;
}

const core::MasterKeys* recent_master_key(TimestampTz now) {
    static TimestampTz looked_at = 0;
    // Also when somebody has set the clock back.
    if (now - looked_at >= USECS_PER_SEC || now < looked_at) {
        load_master_key();
        looked_at = now;
    }
    return session().result.keys;
}

const core::MasterKeys& require_master_key() {
    const MasterKeyResult& result = load_master_key();
    if (result.state != MasterKeyState::ok) {
        throw unavailable("The master key cannot be read.");
    }
    return *result.keys;
}

const core::MasterKeys& require_or_create_master_key() {
    if (read_file()) {
        return session().keys;
    }
    if (session().result.state == MasterKeyState::missing && !RecoveryInProgress() &&
        database_holds_no_keys()) {
        create_file();
    }
    return require_master_key();
}

Refusal unavailable(std::string_view message) {
    core::JsonWriter json;
    json.add("code", core::info(core::Code::unavailable).name).add("message", message);
    return {core::Code::unavailable, json.text(),
            "The server log says more, and apikey.status() tells it to admins and auditors."};
}

std::string describe_master_key_mismatch() {
    return "master key file \"" + std::string(pg::settings::master_key_file) +
           "\" is not the one that keys of this database were made under";
}

void log_master_key_mismatch() {
    log_problem(describe_master_key_mismatch());
}

}  // namespace apikey::store
