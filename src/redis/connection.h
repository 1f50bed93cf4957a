#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "redis/errors.h"
#include "redis/reply.h"

struct redisAsyncContext;

namespace apikey::redis {

/** How much went over the wire, over all connections of a link. */
struct Traffic {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
};

/**
 * One connection, kept by hiredis. It never waits: somebody else says when its socket is ready (waiter.h),
 * and handle() does what can be done then.
 *
 * A server may be broken, or not Redis at all. What hiredis would accept from it is bounded here: no reply of
 * more than 8 MiB or 100,000 elements, not more than 64 MiB of replies at a time, and none that nobody asked
 * for.
 *
 * hiredis is C. Its callbacks only store, neither throw nor call PostgreSQL; and PostgreSQL's errors, which
 * jump, are never raised below it.
 */
class Connection {
  public:
    static constexpr std::size_t max_reply_bytes = std::size_t{8} * 1024 * 1024;
    static constexpr std::size_t max_reply_elements = 100'000;
    static constexpr std::size_t max_batch_bytes = std::size_t{64} * 1024 * 1024;

    /** `name` is for messages. Throw LinkError. `numeric_host`: no name, which would have to be looked up. */
    static std::unique_ptr<Connection> over_tcp(std::string name, const std::string& numeric_host, int port,
                                                Traffic& traffic);
    static std::unique_ptr<Connection> over_unix_socket(const std::string& path, Traffic& traffic);

    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    /** Closes; sends nothing, waits for nothing. */
    ~Connection();

    const std::string& name() const noexcept { return name_; }
    int socket() const noexcept;
    /** Differs from that of every other connection of this process: sockets are numbers that come again. */
    std::uint64_t serial() const noexcept { return serial_; }
    bool connected() const noexcept { return connected_; }
    bool wants_to_write() const noexcept { return wants_to_write_ || !connected_; }

    /** To be called when the socket is ready. Throws LinkError. */
    void handle(bool readable, bool writable);

    /** A batch: commands, each encoded, with one reply each. They must stay where they are until it is
     * done(). Nothing may be left of the batch before. */
    void begin(std::span<const std::string_view> commands);
    /** Gives hiredis as much as is good for it; it copies. To be called before each wait. Throws LinkError.
     */
    void feed();
    bool done() const noexcept { return replies_.size() == commands_.size(); }
    /** Of the batch that is done, in order. */
    std::vector<Reply> take_replies() { return std::move(replies_); }

    /** For TLS. */
    redisAsyncContext* context() const noexcept { return context_; }
    [[noreturn]] void fail(std::string_view what) const;

  private:
    struct Hooks;  // what hiredis calls

    Connection(std::string name, Traffic& traffic);
    void adopt(redisAsyncContext* context);
    void check_unread() const;
    /** Notes what the server did wrong; the first such thing counts. Fit for callbacks. */
    void blame(std::string_view what) noexcept;
    void blame_last_words() noexcept;

    std::string name_;
    std::uint64_t serial_;
    Traffic& traffic_;
    redisAsyncContext* context_ = nullptr;  // hiredis frees it by itself after an error
    bool has_descriptor_ = false;
    bool connected_ = false;
    bool wants_to_write_ = false;
    bool has_replied_ = false;
    std::array<char, 256> failure_{};

    std::span<const std::string_view> commands_;
    std::size_t fed_ = 0;
    std::vector<Reply> replies_;
    std::size_t reply_bytes_ = 0;  // of the reply that is being read
    std::size_t reply_elements_ = 0;
    std::size_t batch_bytes_ = 0;
};

}  // namespace apikey::redis
