#include "core/redis_url.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"

namespace apikey::core {
namespace {

constexpr std::uint16_t default_port = 6379;
constexpr std::uint16_t default_sentinel_port = 26379;
constexpr int max_database = 65535;
constexpr std::size_t max_host = 253;
constexpr std::size_t max_path = 107;  // what a socket address holds
constexpr std::size_t max_name = 255;
constexpr std::size_t max_endpoints = 64;

struct Scheme {
    std::string_view name;
    RedisUrl::Kind kind;
    bool tls;
};

constexpr std::array schemes = {
    Scheme{"redis", RedisUrl::Kind::single, false},      Scheme{"rediss", RedisUrl::Kind::single, true},
    Scheme{"unix", RedisUrl::Kind::unix_socket, false},  Scheme{"sentinel", RedisUrl::Kind::sentinel, false},
    Scheme{"sentinels", RedisUrl::Kind::sentinel, true}, Scheme{"cluster", RedisUrl::Kind::cluster, false},
    Scheme{"clusters", RedisUrl::Kind::cluster, true},
};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_alphanumeric(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/** Letters, digits and some of the other characters, at least one and at most so many. */
bool consists_of(std::string_view text, std::string_view others, std::size_t at_most) {
    return !text.empty() && text.size() <= at_most && std::all_of(text.begin(), text.end(), [others](char c) {
        return is_alphanumeric(c) || others.find(c) != std::string_view::npos;
    });
}

/** Decimal digits without sign or leading zero; -1 for anything else and what is greater. */
int parse_number(std::string_view digits, int at_most) {
    if (digits.empty() || digits.size() > 9 || !std::all_of(digits.begin(), digits.end(), is_digit) ||
        (digits.size() > 1 && digits.front() == '0')) {
        return -1;
    }
    int number = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return number <= at_most ? number : -1;
}

/** Takes from `rest` what is before the first of these characters, and leaves that one there. */
std::string_view take_until(std::string_view& rest, std::string_view any_of) {
    const std::string_view taken = rest.substr(0, rest.find_first_of(any_of));
    rest.remove_prefix(taken.size());
    return taken;
}

int parse_database(std::string_view digits) {
    const int database = parse_number(digits, max_database);
    if (database < 0) {
        throw InvalidArgument("The database of Redis is a number from 0 to 65535.");
    }
    return database;
}

RedisEndpoint parse_endpoint(std::string_view text, std::uint16_t port_otherwise) {
    RedisEndpoint endpoint;
    endpoint.port = port_otherwise;
    if (!text.empty() && text.front() == '[') {
        const auto close = text.find(']');
        if (close == std::string_view::npos || !consists_of(text.substr(1, close - 1), ":.%-_", max_host)) {
            throw InvalidArgument("An IPv6 address stands in brackets, as in redis://[::1]:6379.");
        }
        endpoint.host = text.substr(1, close - 1);
        text.remove_prefix(close + 1);
        if (endpoint.host.find(':') == std::string::npos) {
            throw InvalidArgument("Only an IPv6 address stands in brackets, as in redis://[::1]:6379.");
        }
    } else {
        endpoint.host = take_until(text, ":");
        if (!consists_of(endpoint.host, ".-_", max_host)) {
            throw InvalidArgument(
                "A host is a name, an IPv4 address, or an IPv6 address in brackets, and a port may follow "
                "after a "
                "colon.");
        }
    }
    if (!text.empty()) {
        const int port = text.front() == ':' ? parse_number(text.substr(1), 65535) : -1;
        if (port <= 0) {
            throw InvalidArgument("A port is a number from 1 to 65535, after a colon.");
        }
        endpoint.port = static_cast<std::uint16_t>(port);
    }
    return endpoint;
}

std::vector<RedisEndpoint> parse_endpoints(std::string_view list, std::uint16_t port_otherwise) {
    std::vector<RedisEndpoint> endpoints;
    for (;;) {
        endpoints.push_back(parse_endpoint(take_until(list, ","), port_otherwise));
        if (list.empty()) {
            return endpoints;
        }
        if (endpoints.size() == max_endpoints) {
            throw InvalidArgument("At most 64 hosts can be named.");
        }
        list.remove_prefix(1);
    }
}

/** Takes "user@" from the beginning, where it is. */
std::string take_user(std::string_view& rest) {
    const std::string_view authority = rest.substr(0, rest.find('/'));
    const auto at = authority.rfind('@');
    if (at == std::string_view::npos) {
        return {};
    }
    const std::string_view user = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    if (user.find(':') != std::string_view::npos) {
        throw InvalidArgument(
            "A password does not belong into the URL: put it into a file of its own and name that in "
            "apikey.redis_password_file.");
    }
    if (!consists_of(user, "._-+=", max_name)) {
        throw InvalidArgument(
            "The name of the user before the @ consists of letters, digits and any of ._-+=");
    }
    return std::string(user);
}

void parse_unix_socket(std::string_view rest, RedisUrl& url) {
    url.path = take_until(rest, "?");
    const bool printable =
        std::all_of(url.path.begin(), url.path.end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (url.path.size() < 2 || url.path.front() != '/' || url.path.size() > max_path || !printable ||
        url.path.find_first_of("#%") != std::string::npos) {
        throw InvalidArgument(
            "After unix:// there is the absolute path of a socket, of at most 107 bytes, without blanks, %, "
            "? or #.");
    }
    if (!rest.empty()) {
        constexpr std::string_view option = "?db=";
        if (rest.substr(0, option.size()) != option) {
            throw InvalidArgument(
                "After the path of the socket there may only be ?db= and the number of a database.");
        }
        url.database = parse_database(rest.substr(option.size()));
    }
}

void parse_hosts(std::string_view rest, RedisUrl& url) {
    const bool sentinel = url.kind == RedisUrl::Kind::sentinel;
    url.endpoints = parse_endpoints(take_until(rest, "/"), sentinel ? default_sentinel_port : default_port);
    if (!rest.empty()) {
        rest.remove_prefix(1);
    }
    switch (url.kind) {
        case RedisUrl::Kind::sentinel:
            url.master_name = take_until(rest, "/");
            if (!consists_of(url.master_name, "._-", max_name)) {
                throw InvalidArgument(
                    "After the sentinels there is the name of the master, as in "
                    "sentinel://host1,host2,host3/mymaster.");
            }
            if (!rest.empty()) {
                url.database = parse_database(rest.substr(1));
            }
            break;
        case RedisUrl::Kind::cluster:
            if (!rest.empty()) {
                throw InvalidArgument("A cluster has no databases: nothing comes after its hosts.");
            }
            break;
        default:
            if (url.endpoints.size() > 1) {
                throw InvalidArgument("More than one host is for sentinel:// and cluster://.");
            }
            if (!rest.empty()) {
                url.database = parse_database(rest);
            }
    }
}

}  // namespace

RedisUrl parse_redis_url(std::string_view text) {
    const auto colon = text.find("://");
    const std::string_view name = text.substr(0, colon);
    const auto* scheme = std::find_if(schemes.begin(), schemes.end(),
                                      [name](const Scheme& known) { return known.name == name; });
    if (colon == std::string_view::npos || scheme == schemes.end()) {
        throw InvalidArgument(
            "It begins with redis://, rediss://, unix://, sentinel://, sentinels://, cluster:// or "
            "clusters://.");
    }
    RedisUrl url;
    url.kind = scheme->kind;
    url.tls = scheme->tls;
    std::string_view rest = text.substr(colon + 3);
    url.user = take_user(rest);
    if (url.kind == RedisUrl::Kind::unix_socket) {
        parse_unix_socket(rest, url);
    } else {
        parse_hosts(rest, url);
    }
    return url;
}

RedisEndpoint parse_redis_endpoint(std::string_view text, std::uint16_t port_otherwise) {
    return parse_endpoint(text, port_otherwise);
}

std::string to_text(const RedisEndpoint& endpoint) {
    const bool brackets = endpoint.host.find(':') != std::string::npos;
    return (brackets ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

std::optional<RedisEndpoint> make_redis_endpoint(std::string_view host, std::string_view port) {
    const int number = parse_number(port, 65535);
    if (number <= 0 || !consists_of(host, ":.%-_", max_host)) {
        return std::nullopt;
    }
    return RedisEndpoint{std::string(host), static_cast<std::uint16_t>(number)};
}

bool is_valid_redis_namespace(std::string_view text) {
    return consists_of(text, "_.-", 64);
}

}  // namespace apikey::core
