#include <fcntl.h>
#include <sys/socket.h>

#include <charconv>

#include "redis/hiredis.h"

#include "pg/guard.h"
#include "redis/connection.h"

namespace apikey::redis {
namespace {

/** What hiredis holds to be written at a time: it moves the rest to the front after each write. */
constexpr std::size_t write_window = std::size_t{256} * 1024;

/** Of arrays in arrays: hiredis frees them by recursion. */
constexpr int max_depth = 8;

std::size_t digits(std::size_t number) {
    std::size_t count = 1;
    for (; number >= 10; number /= 10) {
        count++;
    }
    return count;
}

/** hiredis hands out what it has parsed as redisReply; null is what it makes of an allocation that failed. */
Reply convert(const redisReply& parsed) {
    Reply reply;
    switch (parsed.type) {
        case REDIS_REPLY_STATUS:
        case REDIS_REPLY_STRING:
            reply.type = Reply::Type::text;
            reply.text.assign(parsed.str, parsed.len);
            break;
        case REDIS_REPLY_ERROR:
            reply.type = Reply::Type::error;
            reply.text.assign(parsed.str, parsed.len);
            break;
        case REDIS_REPLY_INTEGER:
            reply.type = Reply::Type::integer;
            reply.integer = parsed.integer;
            break;
        case REDIS_REPLY_NIL:
            break;
        case REDIS_REPLY_ARRAY:
            reply.type = Reply::Type::array;
            reply.elements.reserve(parsed.elements);
            for (std::size_t i = 0; i < parsed.elements; i++) {
                reply.elements.push_back(convert(*parsed.element[i]));
            }
            break;
        default:
            throw LinkError("it speaks another version of the protocol than was asked for");
    }
    return reply;
}

/** Text of a server, or of hiredis about its bytes, for people to read. */
std::string printable(std::string_view text) {
    std::string result(text.substr(0, 200));
    std::replace_if(
        result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return result;
}

}  // namespace

/** All of hiredis' callbacks. `data` and `privdata` are the connection. */
struct Connection::Hooks {
    static Connection& of(void* data) { return *static_cast<Connection*>(data); }
    static Connection& of(const redisReadTask* task) { return of(task->privdata); }

    // Readiness that hiredis asks for. It always wants to read.
    static void add_write(void* data) { of(data).wants_to_write_ = true; }
    static void del_write(void* data) { of(data).wants_to_write_ = false; }
    static void ignore(void* /*data*/) {}

    static void connected(const redisAsyncContext* context, int status) {
        of(context->data).connected_ = status == REDIS_OK;
    }

    /** hiredis is about to free the context, after an error or because it was asked to. */
    static void cleanup(void* data) {
        Connection& connection = of(data);
        connection.blame_last_words();
        connection.blame(connection.context_->c.errstr);
        connection.context_ = nullptr;
    }

    static void reply(redisAsyncContext* context, void* parsed, void* data) {
        if (parsed == nullptr) {  // the connection ends
            return;
        }
        Connection& connection = of(data);
        const auto& answer = *static_cast<const redisReply*>(parsed);
        try {
            if (connection.replies_.size() == connection.fed_) {
                connection.blame(answer.type == REDIS_REPLY_ERROR
                                     ? std::string_view(answer.str, answer.len)
                                     : "it sent a reply that nobody had asked for");
                redisAsyncFree(context);
            } else if (connection.batch_bytes_ > max_batch_bytes) {
                connection.blame("its replies are longer than 64 MiB together");
                redisAsyncFree(context);
            } else {
                connection.replies_.push_back(convert(answer));
            }
        } catch (const std::exception& error) {
            connection.blame(error.what());
            redisAsyncFree(context);
        }
    }

    // What makes objects of what is parsed. Ours count, and leave the rest to hiredis' own.
    static redisReplyObjectFunctions original;
    static redisReplyObjectFunctions counting;

    /** False: that is too much. A null object makes hiredis give up. */
    static bool count(const redisReadTask* task, std::size_t bytes) {
        Connection& connection = of(task);
        connection.has_replied_ = true;
        if (task->parent == nullptr) {
            connection.reply_bytes_ = 0;
            connection.reply_elements_ = 0;
        }
        connection.reply_bytes_ += bytes;
        connection.batch_bytes_ += bytes;
        connection.traffic_.received += bytes;
        if (connection.reply_bytes_ > max_reply_bytes) {
            connection.blame("a reply is longer than 8 MiB");
            return false;
        }
        return true;
    }

    static void* create_string(const redisReadTask* task, char* text, std::size_t length) {
        const bool bulk = task->type == REDIS_REPLY_STRING;
        return count(task, length + 3 + (bulk ? digits(length) + 2 : 0))
                   ? original.createString(task, text, length)
                   : nullptr;
    }
    static void* create_integer(const redisReadTask* task, long long value) {
        const auto magnitude =
            value < 0 ? 0 - static_cast<std::size_t>(value) : static_cast<std::size_t>(value);
        return count(task, digits(magnitude) + (value < 0 ? 4 : 3)) ? original.createInteger(task, value)
                                                                    : nullptr;
    }
    static void* create_nil(const redisReadTask* task) {
        return count(task, 5) ? original.createNil(task) : nullptr;
    }

    /** The number of elements has another type since hiredis 1.0. */
    template <typename Count>
    static void* create_array(const redisReadTask* task, Count elements) {
        if (!count(task, digits(static_cast<std::size_t>(elements)) + 3)) {
            return nullptr;
        }
        Connection& connection = of(task);
        int depth = 0;
        for (const redisReadTask* outer = task->parent; outer != nullptr && depth <= max_depth;
             outer = outer->parent) {
            depth++;
        }
        connection.reply_elements_ += static_cast<std::size_t>(elements);
        if (connection.reply_elements_ > max_reply_elements || depth > max_depth) {
            connection.blame(depth > max_depth ? "a reply is nested too deeply"
                                               : "a reply has more than 100000 elements");
            return nullptr;
        }
        return original.createArray(task, elements);
    }

    static redisReplyObjectFunctions* functions(const redisReader& reader) {
        if (counting.createString == nullptr) {
            original = *reader.fn;
            counting = original;
            counting.createString = create_string;
            counting.createArray = create_array;
            counting.createInteger = create_integer;
            counting.createNil = create_nil;
        }
        return &counting;
    }
};

redisReplyObjectFunctions Connection::Hooks::original{};
redisReplyObjectFunctions Connection::Hooks::counting{};

Connection::Connection(std::string name, Traffic& traffic) : name_(std::move(name)), traffic_(traffic) {
    static std::uint64_t last_serial = 0;
    serial_ = ++last_serial;
    // PostgreSQL keeps count of descriptors that are not its own, so that there remain some for its files.
    has_descriptor_ = pg::call([] { return AcquireExternalFD(); });
    if (!has_descriptor_) {
        fail("too many files are open in this process");
    }
}

Connection::~Connection() {
    if (context_ != nullptr) {
        redisAsyncFree(context_);
    }
    if (has_descriptor_) {
        ReleaseExternalFD();
    }
}

std::unique_ptr<Connection> Connection::over_tcp(std::string name, const std::string& numeric_host, int port,
                                                 Traffic& traffic) {
    std::unique_ptr<Connection> connection(new Connection(std::move(name), traffic));
    connection->adopt(redisAsyncConnect(numeric_host.c_str(), port));
    return connection;
}

std::unique_ptr<Connection> Connection::over_unix_socket(const std::string& path, Traffic& traffic) {
    std::unique_ptr<Connection> connection(new Connection(path, traffic));
    connection->adopt(redisAsyncConnectUnix(path.c_str()));
    return connection;
}

void Connection::adopt(redisAsyncContext* context) {
    if (context == nullptr) {
        fail("out of memory");
    }
    context_ = context;
    context->data = this;
    context->ev.data = this;
    context->ev.addRead = Hooks::ignore;
    context->ev.delRead = Hooks::ignore;
    context->ev.addWrite = Hooks::add_write;
    context->ev.delWrite = Hooks::del_write;
    context->ev.cleanup = Hooks::cleanup;
    if (context->err != 0) {
        fail(context->c.errstr);
    }
    context->c.reader->fn = Hooks::functions(*context->c.reader);
    context->c.reader->privdata = this;
    fcntl(context->c.fd, F_SETFD, FD_CLOEXEC);
    redisAsyncSetConnectCallback(context, Hooks::connected);
    // One callback more than there are commands, always. A reply that nobody asked for would find none, which
    // is an assertion in hiredis: the server would have talked this process, and PostgreSQL with it, into a
    // crash. It must look like a command, of which nothing is sent.
    constexpr std::string_view nothing = "*1\r\n$4\r\nPING\r\n";
    if (redisAsyncFormattedCommand(context, Hooks::reply, this, nothing.data(), 0) != REDIS_OK) {
        fail("out of memory");
    }
}

int Connection::socket() const noexcept {
    return context_ == nullptr ? -1 : static_cast<int>(context_->c.fd);
}

void Connection::blame(std::string_view what) noexcept {
    if (failure_[0] == '\0') {
        failure_[what.copy(failure_.data(), failure_.size() - 1)] = '\0';
    }
}

/** A server that wants no connection (it has too many, or a mode that protects it) says so and closes. When
 * that comes before the first write, there is only a broken pipe to be seen, and the reason is still in the
 * socket. */
void Connection::blame_last_words() noexcept {
    const redisContext& context = context_->c;
    if (context.err != REDIS_ERR_IO || has_replied_) {
        return;
    }
    std::array<char, 200> text;
    const ssize_t length = recv(context.fd, text.data(), text.size(), MSG_DONTWAIT);
    const std::string_view said(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    if (said.starts_with('-')) {
        blame(said.substr(1, said.find_first_of("\r\n") - 1));
    }
}

void Connection::fail(std::string_view what) const {
    const std::string_view why = failure_[0] != '\0' ? std::string_view(failure_.data()) : what;
    throw LinkError("Redis at " + name_ + ": " + printable(why));
}

void Connection::handle(bool readable, bool writable) {
    if (context_ != nullptr && writable) {
        redisAsyncHandleWrite(context_);
    }
    if (context_ != nullptr && readable) {
        redisAsyncHandleRead(context_);
    }
    if (context_ == nullptr) {
        fail("the connection was lost");
    }
    check_unread();
}

/** hiredis keeps what it cannot parse yet, however much that becomes. */
void Connection::check_unread() const {
    const redisReader& reader = *context_->c.reader;
    const std::string_view unread(reader.buf + reader.pos, reader.len - reader.pos);
    if (unread.size() > max_reply_bytes) {
        fail("a reply is longer than 8 MiB");
    }
    // Of a line that is complete it leaves nothing, but for the length of a text that is not.
    std::size_t announced = 0;
    const char* const limit = unread.data() + unread.size();
    const auto [end, error] = std::from_chars(unread.data(), limit, announced);
    const bool too_long =
        error == std::errc::result_out_of_range || (error == std::errc() && announced > max_reply_bytes);
    if (too_long && limit - end >= 2 && end[0] == '\r' && end[1] == '\n') {
        fail("a reply is longer than 8 MiB");
    }
}

void Connection::begin(std::span<const std::string_view> commands) {
    commands_ = commands;
    fed_ = 0;
    replies_ = {};
    replies_.reserve(commands.size());
    batch_bytes_ = 0;
}

void Connection::feed() {
    if (context_ == nullptr) {
        fail("the connection was lost");
    }
    while (fed_ < commands_.size() && sdslen(context_->c.obuf) < write_window) {
        const std::string_view command = commands_[fed_];
        if (redisAsyncFormattedCommand(context_, Hooks::reply, this, command.data(), command.size()) !=
                REDIS_OK ||
            context_->c.err != 0) {
            fail("out of memory");
        }
        fed_++;
        traffic_.sent += command.size();
    }
}

}  // namespace apikey::redis
