#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/redis_error.h"
#include "core/redis_info.h"
#include "core/redis_slot.h"
#include "core/redis_url.h"

namespace {

using namespace apikey::core;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/** With an odd first byte the rest is taken as it is, else it chooses from pieces of which many URLs can be
 * made. */
std::string text_from(std::string_view input) {
    static constexpr std::string_view pieces[] = {
        "redis://", "rediss://", "unix://", "sentinel://", "cluster://", "clusters://", "host",  "[::1]", ":",
        "/",        ",",         "@",       "?db=",        "6379",       "0",           "65536", "a.b",   "%",
        "user",     "?"};
    if (input.empty() || input[0] % 2 != 0) {
        return std::string(input.substr(input.empty() ? 0 : 1));
    }
    std::string text;
    for (const char c : input.substr(1, 32)) {
        text += pieces[static_cast<unsigned char>(c) % std::size(pieces)];
    }
    return text;
}

/** A URL that says the same, but for the user. */
std::string text_of(const RedisUrl& url) {
    std::string text;
    switch (url.kind) {
        case RedisUrl::Kind::single:
            text = url.tls ? "rediss://" : "redis://";
            break;
        case RedisUrl::Kind::unix_socket:
            text = "unix://";
            break;
        case RedisUrl::Kind::sentinel:
            text = url.tls ? "sentinels://" : "sentinel://";
            break;
        case RedisUrl::Kind::cluster:
            text = url.tls ? "clusters://" : "cluster://";
            break;
    }
    for (const RedisEndpoint& endpoint : url.endpoints) {
        text += (&endpoint == url.endpoints.data() ? "" : ",") + to_text(endpoint);
    }
    text += url.path;
    if (!url.master_name.empty()) {
        text += "/" + url.master_name;
    }
    if (url.database != 0) {
        text += (url.path.empty() ? "/" : "?db=") + std::to_string(url.database);
    }
    return text;
}

void check_url(const std::string& text) {
    RedisUrl url;
    try {
        url = parse_redis_url(text);
    } catch (const InvalidArgument& error) {
        require(error.what()[0] != '\0');
        return;
    }
    require(url.endpoints.empty() == (url.kind == RedisUrl::Kind::unix_socket));
    require(url.path.empty() == (url.kind != RedisUrl::Kind::unix_socket) && url.path.size() < 108);
    require(url.master_name.empty() == (url.kind != RedisUrl::Kind::sentinel));
    require(url.database >= 0 && url.user.find(':') == std::string::npos);
    for (const RedisEndpoint& endpoint : url.endpoints) {
        require(endpoint.port != 0 && !endpoint.host.empty());
        require(make_redis_endpoint(endpoint.host, std::to_string(endpoint.port)) == endpoint);
    }
    RedisUrl again = parse_redis_url(text_of(url));
    again.user = url.user;
    require(again == url);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text = text_from({reinterpret_cast<const char*>(data), size});
    check_url(text);
    require(redis_slot(text) < redis_slots);
    // What a server says of itself and others.
    require(redis_error_kind(text) != RedisErrorKind::of_server || !explain_redis_error(text).empty());
    (void)redis_ask_target(text);
    (void)redis_info_field(text, "maxmemory");
    (void)redis_info_number(text, "maxmemory");
    return 0;
}
