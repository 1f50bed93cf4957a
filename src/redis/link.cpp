#include "redis/link.h"

#include <algorithm>

#include "core/redis_error.h"
#include "core/redis_info.h"
#include "redis/cluster.h"
#include "redis/sentinel.h"

namespace apikey::redis {
namespace {

/** A command is repeated that often at most, where the server says that it should be. */
constexpr int max_rounds = 3;

struct Server {
    core::RedisEndpoint endpoint;
    std::unique_ptr<Connection> connection;  // null: not connected to yet
    std::vector<std::string> scripts;        // that it has been sent, by their SHA-1

    // The batch that is under way: what is sent, and for which command of the pipeline, or no_command.
    std::vector<std::string_view> outgoing;
    std::vector<std::size_t> purpose;
};

constexpr std::size_t no_command = static_cast<std::size_t>(-1);

ServerInfo parse_info(std::string address, std::string_view info) {
    ServerInfo server;
    const auto text = [info](std::string_view field) {
        return std::string(core::redis_info_field(info, field));
    };
    server.address = std::move(address);
    server.run_id = text("run_id");
    server.replication_id = text("master_replid");
    server.role = text("role");
    server.version = text("redis_version");
    if (const std::string valkey = text("valkey_version"); !valkey.empty()) {
        server.version = "valkey " + valkey;
    }
    server.maxmemory_policy = text("maxmemory_policy");
    server.maxmemory = core::redis_info_number(info, "maxmemory");
    server.evicted_keys = core::redis_info_number(info, "evicted_keys");
    return server;
}

}  // namespace

class Link::Implementation {
  public:
    explicit Implementation(LinkOptions options) : transport_(std::move(options)) {}

    void connect();
    void close() noexcept {
        servers_.clear();
        owner_.clear();
    }
    bool connected() const noexcept { return !servers_.empty(); }
    std::vector<Reply> exchange(const Pipeline& pipeline);
    std::vector<ServerInfo> servers();

    const Traffic& traffic() noexcept { return transport_.traffic(); }
    std::uint64_t reloads = 0;

  private:
    void connect_to_cluster();
    void open(Server& server);
    Server& server_for(std::int32_t slot);
    Server& server_at(const core::RedisEndpoint& endpoint);

    void enqueue(Server& server, std::string_view encoded, std::size_t purpose);
    void enqueue_script(Server& server, const Script& script);
    void load_missing(Server& server, const Reply& exists);
    void run(Clock::time_point deadline, std::vector<Reply>& replies);
    void enqueue_again(const Pipeline& pipeline, std::size_t index, const Reply& reply, bool last_round);

    Transport transport_;
    Sentinels sentinels_;
    std::vector<std::unique_ptr<Server>> servers_;
    std::vector<std::int16_t> owner_;  // of each slot of a cluster, in servers_
    std::vector<std::unique_ptr<const std::string>>
        script_commands_;  // SCRIPT LOAD, of the batch that is under way
};

void Link::Implementation::connect() {
    close();
    const core::RedisUrl& url = transport_.options().url;
    if (url.kind == core::RedisUrl::Kind::cluster) {
        connect_to_cluster();
        return;
    }
    auto server = std::make_unique<Server>();
    if (url.kind == core::RedisUrl::Kind::sentinel) {
        server->connection = sentinels_.connect_to_master(transport_, server->endpoint);
    } else {
        if (url.kind == core::RedisUrl::Kind::unix_socket) {
            server->connection = transport_.open_unix_socket(url.path);
        } else {
            server->endpoint = url.endpoints.front();
            server->connection = transport_.open(server->endpoint);
        }
        transport_.log_in(*server->connection);
        transport_.require_master(*server->connection);
    }
    servers_.push_back(std::move(server));
}

void Link::Implementation::connect_to_cluster() {
    const ClusterMap map = read_cluster_map(transport_);
    if (map.masters.empty()) {
        throw LinkError("the Redis cluster has no slots yet");
    }
    for (const core::RedisEndpoint& master : map.masters) {
        transport_.require_allowed(master);
        servers_.push_back(std::make_unique<Server>());
        servers_.back()->endpoint = master;
    }
    owner_.assign(map.owner.begin(), map.owner.end());
    for (const std::string& key : transport_.options().routing_keys) {
        server_for(core::redis_slot(key));
    }
}

void Link::Implementation::open(Server& server) {
    if (server.connection == nullptr) {
        auto connection = transport_.open(server.endpoint);
        transport_.log_in(*connection);
        transport_.require_master(*connection);
        server.connection = std::move(connection);
    }
}

/** Of a cluster, the one that serves the slot; else the only one. */
Server& Link::Implementation::server_for(std::int32_t slot) {
    if (servers_.empty()) {
        throw LinkError("there is no connection to Redis");
    }
    std::size_t number = 0;
    if (!owner_.empty() && slot != Pipeline::any_slot) {
        const std::int16_t owner = owner_[static_cast<std::size_t>(slot)];
        if (owner == ClusterMap::nobody) {
            throw LinkError("the Redis cluster has nobody who serves slot " + std::to_string(slot));
        }
        number = static_cast<std::size_t>(owner);
    }
    open(*servers_[number]);
    return *servers_[number];
}

Server& Link::Implementation::server_at(const core::RedisEndpoint& endpoint) {
    const auto known = std::find_if(servers_.begin(), servers_.end(),
                                    [&](const auto& server) { return server->endpoint == endpoint; });
    if (known != servers_.end()) {
        open(**known);
        return **known;
    }
    transport_.require_allowed(endpoint);
    auto server = std::make_unique<Server>();
    server->endpoint = endpoint;
    open(*server);
    servers_.push_back(std::move(server));
    return *servers_.back();
}

void Link::Implementation::enqueue(Server& server, std::string_view encoded, std::size_t purpose) {
    server.outgoing.push_back(encoded);
    server.purpose.push_back(purpose);
}

/** Before the command that needs it, where this server has not been sent it yet. */
void Link::Implementation::enqueue_script(Server& server, const Script& script) {
    if (std::find(server.scripts.begin(), server.scripts.end(), script.sha1) != server.scripts.end()) {
        return;
    }
    const std::string_view command[] = {"SCRIPT", "LOAD", script.source};
    script_commands_.push_back(std::make_unique<const std::string>(encode(command)));
    enqueue(server, *script_commands_.back(), no_command);
    server.scripts.emplace_back(script.sha1);
}

/** Sends what is enqueued, and puts the replies where they belong. */
void Link::Implementation::run(Clock::time_point deadline, std::vector<Reply>& replies) {
    std::vector<Connection*> busy;
    for (const auto& server : servers_) {
        if (!server->outgoing.empty()) {
            server->connection->begin(server->outgoing);
            busy.push_back(server->connection.get());
        }
    }
    transport_.run(busy, deadline);
    for (const auto& server : servers_) {
        if (server->outgoing.empty()) {
            continue;
        }
        std::vector<Reply> answers = server->connection->take_replies();
        for (std::size_t i = 0; i < answers.size(); i++) {
            const bool ours = server->purpose[i] == no_command;
            Transport::refuse_error(*server->connection, answers[i], ours);
            if (!ours) {
                replies[server->purpose[i]] = std::move(answers[i]);
            }
        }
        server->outgoing.clear();
        server->purpose.clear();
    }
    script_commands_.clear();
}

/** Where the server said that it does not know the script, or that the slot is elsewhere. */
void Link::Implementation::enqueue_again(const Pipeline& pipeline, std::size_t index, const Reply& reply,
                                         bool last_round) {
    const Pipeline::Command& command = pipeline.at(index);
    if (last_round) {
        throw LinkError("Redis answers the same to a command that was repeated: " +
                        reply.text.substr(0, 200));
    }
    if (core::redis_error_kind(reply.text) == core::RedisErrorKind::no_script) {
        Server& server = server_for(command.slot);
        std::erase(server.scripts, command.script->sha1);
        reloads++;
        enqueue_script(server, *command.script);
        enqueue(server, pipeline.encoded(index), index);
        return;
    }
    static constexpr std::string_view asking = "*1\r\n$6\r\nASKING\r\n";
    auto target = core::redis_ask_target(reply.text);
    if (!target || owner_.empty()) {
        throw LinkError("Redis answers what makes no sense: " + reply.text.substr(0, 200));
    }
    if (target->host.empty()) {
        target->host = server_for(command.slot).endpoint.host;
    }
    Server& server = server_at(*target);
    if (command.script != nullptr) {
        enqueue_script(server, *command.script);
    }
    enqueue(server, asking, no_command);
    enqueue(server, pipeline.encoded(index), index);
}

std::vector<Reply> Link::Implementation::exchange(const Pipeline& pipeline) {
    std::vector<Reply> replies(pipeline.size());
    for (std::size_t i = 0; i < pipeline.size(); i++) {
        const Pipeline::Command& command = pipeline.at(i);
        Server& server = server_for(command.slot);
        if (command.script != nullptr) {
            enqueue_script(server, *command.script);
        }
        enqueue(server, pipeline.encoded(i), i);
    }
    const auto deadline = transport_.reply_deadline();
    for (int round = 1;; round++) {
        run(deadline, replies);
        bool again = false;
        for (std::size_t i = 0; i < replies.size(); i++) {
            if (!replies[i].is_error()) {
                continue;
            }
            const auto kind = core::redis_error_kind(replies[i].text);
            if (kind == core::RedisErrorKind::ask ||
                (kind == core::RedisErrorKind::no_script && pipeline.at(i).script != nullptr)) {
                enqueue_again(pipeline, i, replies[i], round == max_rounds);
                again = true;
            }
        }
        if (!again) {
            return replies;
        }
    }
}

/** `exists`: what the server answered to SCRIPT EXISTS. */
void Link::Implementation::load_missing(Server& server, const Reply& exists) {
    const auto& scripts = transport_.options().resident_scripts;
    if (!exists.is_array(scripts.size())) {
        server.connection->fail("it does not say which scripts it has");
    }
    std::vector<std::string> commands;
    for (std::size_t i = 0; i < scripts.size(); i++) {
        if (exists.elements[i].integer == 0) {
            const std::string_view command[] = {"SCRIPT", "LOAD", scripts[i]->source};
            commands.push_back(encode(command));
            reloads += std::erase(server.scripts, scripts[i]->sha1);
            server.scripts.emplace_back(scripts[i]->sha1);
        }
    }
    if (!commands.empty()) {
        for (const Reply& reply : transport_.send(*server.connection, commands)) {
            Transport::refuse_error(*server.connection, reply, true);
        }
    }
}

std::vector<ServerInfo> Link::Implementation::servers() {
    std::vector<ServerInfo> all;
    const auto& scripts = transport_.options().resident_scripts;
    std::vector<std::string_view> exist = {"SCRIPT", "EXISTS"};
    for (const Script* script : scripts) {
        exist.push_back(script->sha1);
    }
    constexpr std::string_view info[] = {"INFO"};
    std::vector<std::string> commands = {encode(info)};
    if (!scripts.empty()) {
        commands.push_back(encode(exist));
    }
    for (const auto& server : servers_) {
        if (server->connection != nullptr) {
            const std::vector<Reply> replies = transport_.send(*server->connection, commands);
            for (const Reply& reply : replies) {
                Transport::refuse_error(*server->connection, reply, true);
            }
            all.push_back(parse_info(server->connection->name(), replies[0].text));
            if (!scripts.empty()) {
                load_missing(*server, replies[1]);
            }
        }
    }
    return all;
}

namespace {

/** What was thrown leaves connections in the middle of something. */
template <typename Target, typename Body>
auto or_close(Target& target, Body&& body) {
    try {
        return body();
    } catch (...) {
        target.close();
        throw;
    }
}

}  // namespace

Link::Link(LinkOptions options) : implementation_(std::make_unique<Implementation>(std::move(options))) {}

Link::~Link() = default;

void Link::connect() {
    or_close(*implementation_, [this] { implementation_->connect(); });
}

bool Link::connected() const noexcept {
    return implementation_->connected();
}

std::vector<Reply> Link::exchange(const Pipeline& pipeline) {
    return or_close(*implementation_, [&] { return implementation_->exchange(pipeline); });
}

std::vector<ServerInfo> Link::servers() {
    return or_close(*implementation_, [this] { return implementation_->servers(); });
}

std::uint64_t Link::bytes_sent() const noexcept {
    return implementation_->traffic().sent;
}

std::uint64_t Link::bytes_received() const noexcept {
    return implementation_->traffic().received;
}

std::uint64_t Link::script_reloads() const noexcept {
    return implementation_->reloads;
}

}  // namespace apikey::redis
