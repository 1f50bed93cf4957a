/**
 * The link to Redis (redis/link.h) behind SQL functions, one link for each session: test/t/041_redis_link.pl
 * drives it through faults with them. For tests only.
 */
#include "pg/boundary.h"
#include "pg/datum.h"
#include "redis/link.h"
#include "redis/password.h"

using namespace apikey;

namespace {

std::unique_ptr<redis::Link>& current() {
    static std::unique_ptr<redis::Link> link;
    return link;
}

redis::Link& link() {
    if (!current()) {
        throw pg::Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "link_open() comes first");
    }
    return *current();
}

std::string text_argument(FunctionCallInfo fcinfo, int number) {
    return std::string(pg::text_argument(fcinfo, number).value_or(std::string_view()));
}

/** A session may be cancelled, which means nothing to a worker. */
bool session_must_stop() {
    return QueryCancelPending != 0 || ProcDiePending != 0;
}

/** What a worker would catch, as an error of SQL: 08006, so that tests see that it was the right exception.
 */
template <typename Body>
auto as_sql(Body&& body) {
    try {
        return body();
    } catch (const redis::LinkError& error) {
        throw pg::Failure(ERRCODE_CONNECTION_FAILURE, error.what());
    } catch (const redis::Stopped& error) {
        pg::throw_if_interrupted();
        throw pg::Failure(ERRCODE_QUERY_CANCELED, error.what());
    }
}

void append(std::string& to, const redis::Reply& reply) {
    switch (reply.type) {
        case redis::Reply::Type::nil:
            to += "nil";
            break;
        case redis::Reply::Type::text:
            to += reply.text;
            break;
        case redis::Reply::Type::integer:
            to += std::to_string(reply.integer);
            break;
        case redis::Reply::Type::error:
            to += "error: " + reply.text;
            break;
        case redis::Reply::Type::array:
            to += "[";
            for (const redis::Reply& element : reply.elements) {
                to += &element == reply.elements.data() ? "" : " ";
                append(to, element);
            }
            to += "]";
            break;
    }
}

/** Of the replies to a command that was repeated: one of each sort. */
std::string describe(const std::vector<redis::Reply>& replies) {
    std::string text;
    std::string last;
    for (const redis::Reply& reply : replies) {
        std::string one;
        append(one, reply);
        if (&reply == replies.data() || one != last) {
            text += (text.empty() ? "" : "\n") + one;
            last = std::move(one);
        }
    }
    return text;
}

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (!line.empty()) {
        const auto end = line.find(' ');
        if (end != 0) {
            words.push_back(line.substr(0, end));
        }
        line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
    }
    return words;
}

}  // namespace

/** link_open(url, password_file, ca_file, certificate_file, key_file text, connect_timeout, timeout integer,
 * routing_keys text[], sentinel_user, sentinel_password_file, masters text): connects. */
PG_ENTRY(link_open) {
    as_sql([fcinfo] {
        redis::LinkOptions options;
        options.url = core::parse_redis_url(text_argument(fcinfo, 0));
        options.password = redis::read_password(text_argument(fcinfo, 1));
        options.ca_file = text_argument(fcinfo, 2);
        options.certificate_file = text_argument(fcinfo, 3);
        options.key_file = text_argument(fcinfo, 4);
        options.connect_timeout_ms = PG_GETARG_INT32(5);
        options.reply_timeout_ms = PG_GETARG_INT32(6);
        options.must_stop = session_must_stop;
        for (const std::string_view key : pg::text_array(PG_GETARG_DATUM(7))) {
            options.routing_keys.emplace_back(key);
        }
        options.sentinel_user = text_argument(fcinfo, 8);
        options.sentinel_password = redis::read_password(text_argument(fcinfo, 9));
        options.masters = core::RedisMasters(text_argument(fcinfo, 10));
        current() = std::make_unique<redis::Link>(std::move(options));
        current()->connect();
    });
    PG_RETURN_VOID();
}

/** link_reconnect() */
PG_ENTRY(link_reconnect) {
    as_sql([] { link().connect(); });
    PG_RETURN_VOID();
}

/** link_close() */
PG_ENTRY(link_close) {
    current().reset();
    PG_RETURN_VOID();
}

/** link_connected() boolean */
PG_ENTRY(link_connected) {
    PG_RETURN_BOOL(current() && current()->connected());
}

/** link_send(commands text, times integer) text: each line is a command, its words separated by blanks; the
 * second says where it goes. The replies, a line each, repeated ones once. */
PG_ENTRY(link_send) {
    return as_sql([fcinfo] {
        const std::string commands = text_argument(fcinfo, 0);
        redis::Pipeline pipeline;
        for (std::int32_t i = 0; i < PG_GETARG_INT32(1); i++) {
            for (std::string_view rest = commands; !rest.empty();) {
                const auto end = rest.find('\n');
                const auto words = words_of(rest.substr(0, end));
                pipeline.command(words.size() > 1 ? words[1] : std::string_view(), words);
                rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
            }
        }
        return pg::text_datum(describe(link().exchange(pipeline)));
    });
}

/** link_eval(source text, sha1 text, keys text[], arguments text[], times integer) text */
PG_ENTRY(link_eval) {
    return as_sql([fcinfo] {
        const std::string source = text_argument(fcinfo, 0);
        const std::string sha1 = text_argument(fcinfo, 1);
        const redis::Script script{"test", source, sha1};
        const auto keys = pg::text_array(PG_GETARG_DATUM(2));
        const auto arguments = pg::text_array(PG_GETARG_DATUM(3));
        redis::Pipeline pipeline;
        for (std::int32_t i = 0; i < PG_GETARG_INT32(4); i++) {
            pipeline.eval(script, keys, arguments);
        }
        return pg::text_datum(describe(link().exchange(pipeline)));
    });
}

/** link_echo(count integer, size integer) bigint: how many of so many texts of that size came back unchanged.
 */
PG_ENTRY(link_echo) {
    return as_sql([fcinfo] {
        const auto count = static_cast<std::size_t>(PG_GETARG_INT32(0));
        std::string payload(static_cast<std::size_t>(PG_GETARG_INT32(1)), 'x');
        redis::Pipeline pipeline;
        for (std::size_t i = 0; i < count; i++) {
            payload[0] = static_cast<char>('a' + i % 26);
            pipeline.command({}, {"ECHO", payload});
        }
        const auto replies = link().exchange(pipeline);
        std::int64_t unchanged = 0;
        for (std::size_t i = 0; i < replies.size(); i++) {
            payload[0] = static_cast<char>('a' + i % 26);
            unchanged += replies[i].is_text(payload) ? 1 : 0;
        }
        return Int64GetDatum(unchanged);
    });
}

/** link_servers() text: a line for each: address role version maxmemory policy evicted_keys run_id
 * replication_id */
PG_ENTRY(link_servers) {
    return as_sql([] {
        std::string payload;
        for (const redis::ServerInfo& server : link().servers()) {
            payload += (payload.empty() ? "" : "\n") + server.address + " " + server.role + " " +
                       server.version + " " + std::to_string(server.maxmemory) + " " +
                       server.maxmemory_policy + " " + std::to_string(server.evicted_keys) + " " +
                       server.run_id + " " + server.replication_id;
        }
        return pg::text_datum(payload);
    });
}

/** link_counters(OUT sent bigint, OUT received bigint, OUT reloads bigint) */
PG_ENTRY(link_counters) {
    std::array<Datum, 3> values = {Int64GetDatum(static_cast<std::int64_t>(link().bytes_sent())),
                                   Int64GetDatum(static_cast<std::int64_t>(link().bytes_received())),
                                   Int64GetDatum(static_cast<std::int64_t>(link().script_reloads()))};
    std::array<bool, 3> nulls{};
    return pg::make_composite(fcinfo, values, nulls, std::array<Oid, 3>{INT8OID, INT8OID, INT8OID});
}
