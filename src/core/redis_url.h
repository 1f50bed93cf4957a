#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/**
 * Where the Redis mirror is:
 *
 *     redis://[user@]host[:port][/database]                   one server (rediss:// with TLS)
 *     unix://[user@]/path/of/socket[?db=database]             one server, by its socket
 *     sentinel://[user@]host[:port],…/name[/database]         the master that these sentinels know by that
 * name cluster://[user@]host[:port],…                          a cluster that these nodes belong to
 *
 * sentinels:// and clusters:// are the same with TLS. IPv6 addresses stand in brackets. A URL holds no
 * password: it can be read in pg_settings.
 */
namespace apikey::core {

struct RedisEndpoint {
    std::string host;  ///< a name, an IPv4 address, or an IPv6 address without brackets
    std::uint16_t port = 0;

    friend bool operator==(const RedisEndpoint&, const RedisEndpoint&) = default;
};

struct RedisUrl {
    enum class Kind { single, unix_socket, sentinel, cluster };

    Kind kind = Kind::single;
    bool tls = false;
    std::vector<RedisEndpoint> endpoints;  ///< one or more; none for unix_socket
    std::string path;                      ///< of unix_socket
    std::string master_name;               ///< of sentinel
    std::string user;                      ///< empty: Redis' default user
    int database = 0;

    friend bool operator==(const RedisUrl&, const RedisUrl&) = default;
};

/** Throws InvalidArgument, which says what would be right and quotes nothing back: who puts a password there
 * does not want to find it in a log. */
RedisUrl parse_redis_url(std::string_view text);

/** host, host:port or [address]:port. Throws InvalidArgument. */
RedisEndpoint parse_redis_endpoint(std::string_view text, std::uint16_t port_otherwise);

/** host:port, with brackets where they are needed. */
std::string to_text(const RedisEndpoint& endpoint);

/** What a server of Redis says of another; nothing when it is no host and port. */
std::optional<RedisEndpoint> make_redis_endpoint(std::string_view host, std::string_view port);

/** What separates the keys of several users of one Redis: 1 to 64 of letters, digits, dot, hyphen,
 * underscore. */
bool is_valid_redis_namespace(std::string_view text);

}  // namespace apikey::core
