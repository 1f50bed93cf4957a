#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/redis_masters.h"
#include "core/redis_url.h"
#include "core/secret.h"
#include "redis/errors.h"
#include "redis/pipeline.h"
#include "redis/reply.h"

/**
 * Talking to Redis from a background worker, which must not be kept from anything by it: the link waits in
 * PostgreSQL's own way (latch, death of the postmaster, sockets), serves interrupts meanwhile, and every wait
 * has a deadline. Only the look-up of a host name blocks: see core/host_resolver.h.
 *
 * Never inside a transaction: what is held there would be held as long as Redis pleases.
 */
namespace apikey::redis {

struct LinkOptions {
    core::RedisUrl url;
    core::SecretBytes password;  ///< of the servers that hold data; empty: none is sent
    /** For sentinels, which never get the other user and password. */
    std::string sentinel_user;
    core::SecretBytes sentinel_password;
    core::RedisMasters masters;  ///< servers that a sentinel or a cluster may name
    std::string ca_file;         ///< empty: the system's
    std::string certificate_file, key_file;
    int connect_timeout_ms = 1000;  ///< for each server until it can be talked to, TLS included
    int reply_timeout_ms = 2000;    ///< for each exchange() as a whole
    bool (*must_stop)() = nullptr;  ///< asked whenever the latch is set while the link waits
    /** In a cluster connect() connects to the masters of these keys; to others the link connects when it
     * needs them. */
    std::vector<std::string> routing_keys;
    /** Scripts that every server shall have for others, who may not load them: servers() sees to it. */
    std::vector<const Script*> resident_scripts;
};

/** What INFO says of a server, empty or 0 where it says nothing. */
struct ServerInfo {
    std::string address;
    std::string run_id;
    std::string replication_id;
    std::string role;     ///< master or slave
    std::string version;  ///< 7.0.15, or "valkey 8.0.1"
    std::string maxmemory_policy;
    std::uint64_t maxmemory = 0;
    std::uint64_t evicted_keys = 0;
};

/** Every function but the destructor and the counters throws LinkError, Stopped, or, for what an interrupt
 * made of it, pg::Error. After any of them the link is closed, and connect() starts anew. */
class Link {
  public:
    explicit Link(LinkOptions options);
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;
    ~Link();

    /** Finds the server or servers, connects, logs in, and sees that each is a master. May be called again
     * after an error: what was found out about addresses is remembered. */
    void connect();
    bool connected() const noexcept;

    /**
     * All replies, in the order of the commands. What a command or script has to complain of is a Reply of
     * type error; what says that this server is of no use now (READONLY, LOADING, NOAUTH, MOVED …) is a
     * LinkError.
     *
     * Redis runs the commands for one server in their order, with one exception: where a script turns out to
     * be unknown, it is sent and the command repeated after all others. What must not happen before another
     * command has happened belongs into the next exchange().
     *
     * After an error it is not known which of the commands were run.
     */
    std::vector<Reply> exchange(const Pipeline& pipeline);

    /** Of every server that it is connected to. Loads those of LinkOptions::resident_scripts that a server
     * does not have. */
    std::vector<ServerInfo> servers();

    std::uint64_t bytes_sent() const noexcept;
    std::uint64_t bytes_received() const noexcept;
    /** How often Redis did not know a script that it had been sent. */
    std::uint64_t script_reloads() const noexcept;

  private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace apikey::redis
