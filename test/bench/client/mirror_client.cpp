// The client of the section mirror. Connects to PostgreSQL as libpq's environment says, and to Redis through
// a unix socket.
//
//   mirror_client latency SOCKET NAMESPACE COUNT    revokes COUNT keys, and in turn with them notes COUNT in
//   a table that a relay
//                                                   empties; a line "mirror" or "relay" and microseconds for
//                                                   each: from the moment at which the COMMIT has returned
//                                                   until Redis shows it
//   mirror_client floor SOCKET COUNT                COUNT times SET with an expiry and PUBLISH, in batches of
//   1024; "append" or
//                                                   "raw" and how many a second: by redisAppendCommand, and
//                                                   formatted beforehand

#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using Clock = std::chrono::steady_clock;
using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;
using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

constexpr const char* relayed = "bench:relayed";

class Postgres {
  public:
    Postgres() : connection_(PQconnectdb("dbname=bench_mirror"), PQfinish) {
        if (PQstatus(connection_.get()) != CONNECTION_OK) {
            throw std::runtime_error(PQerrorMessage(connection_.get()));
        }
    }

    /** Returns when the transaction has ended. */
    Result run(const char* sql) {
        Result result(PQexec(connection_.get(), sql), PQclear);
        const ExecStatusType status = PQresultStatus(result.get());
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
            throw std::runtime_error(PQerrorMessage(connection_.get()));
        }
        return result;
    }

    void await_notification() {
        for (;;) {
            if (PGnotify* notification = PQnotifies(connection_.get())) {
                do {
                    PQfreemem(notification);
                } while ((notification = PQnotifies(connection_.get())) != nullptr);
                return;
            }
            pollfd descriptor = {PQsocket(connection_.get()), POLLIN, 0};
            poll(&descriptor, 1, -1);
            if (PQconsumeInput(connection_.get()) == 0) {
                throw std::runtime_error(PQerrorMessage(connection_.get()));
            }
        }
    }

  private:
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
};

class Redis {
  public:
    explicit Redis(const char* socket) : context_(redisConnectUnix(socket), redisFree) {
        if (context_ == nullptr || context_->err != 0) {
            throw std::runtime_error(context_ == nullptr ? "out of memory" : context_->errstr);
        }
    }
    redisContext* get() { return context_.get(); }

    Reply reply() {
        void* parsed = nullptr;
        if (redisGetReply(context_.get(), &parsed) != REDIS_OK) {
            throw std::runtime_error(context_->errstr);
        }
        Reply reply(static_cast<redisReply*>(parsed), freeReplyObject);
        if (reply->type == REDIS_REPLY_ERROR) {
            throw std::runtime_error(reply->str);
        }
        return reply;
    }

    bool has(const std::string& key, const std::string& member) {
        redisAppendCommand(context_.get(), "ZSCORE %s %s", key.c_str(), member.c_str());
        return reply()->type == REDIS_REPLY_STRING;
    }

  private:
    std::unique_ptr<redisContext, decltype(&redisFree)> context_;
};

/** What a team would build: told by NOTIFY, takes the rows out of a table, and writes to Redis. */
void relay(const char* socket) {
    Postgres postgres;
    Redis redis(socket);
    postgres.run("LISTEN bench_relay");
    for (;;) {
        const Result rows = postgres.run("DELETE FROM bench.relay_outbox RETURNING key_id::text");
        const int count = PQntuples(rows.get());
        for (int i = 0; i < count; i++) {
            redisAppendCommand(redis.get(), "ZADD %s 1 %s", relayed, PQgetvalue(rows.get(), i, 0));
        }
        for (int i = 0; i < count; i++) {
            redis.reply();
        }
        postgres.await_notification();
    }
}

pid_t start_relay(const char* socket) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            try {
                relay(socket);
            } catch (const std::exception& error) {
                fprintf(stderr, "relay: %s\n", error.what());
            }
        }
        _exit(1);
    }
    return child;
}

/** Microseconds until Redis has it. Between two questions there is a pause: who asks without one has Redis
 * answer him in turn with everybody else, and where processors are few, it is that which is measured. */
double visible_after(Redis& redis, const std::string& key, const std::string& member,
                     Clock::time_point since) {
    constexpr timespec pause = {0, 20'000};
    while (!redis.has(key, member)) {
        if (Clock::now() - since > std::chrono::seconds(10)) {
            throw std::runtime_error(member + " did not come to " + key);
        }
        ppoll(nullptr, 0, &pause, nullptr);
    }
    return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

void latency(const char* socket, const std::string& name_space, int count) {
    const pid_t child = start_relay(socket);
    prctl(PR_SET_TIMERSLACK, 1UL);
    Postgres postgres;
    Redis redis(socket);
    const auto measure = [&](const char* statement, bool mirrored) {
        const Result row = postgres.run(statement);
        const auto committed = Clock::now();
        const std::string key_id = PQgetvalue(row.get(), 0, 0);
        const std::string bucket = PQgetvalue(row.get(), 0, 1);
        const std::string key = mirrored ? "{ak:" + name_space + ":" + bucket + "}:rev" : relayed;
        return visible_after(redis, key, key_id, committed);
    };
    // The first ones pay for plans and connections.
    for (int i = -20; i < count; i++) {
        const double mirror_us = measure("SELECT key_id, bucket FROM bench.revoke_next()", true);
        const double relay_us = measure("SELECT key_id, bucket FROM bench.relay_next()", false);
        if (i >= 0) {
            printf("mirror %.1f\nrelay %.1f\n", mirror_us, relay_us);
        }
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
}

std::string identifier(int number) {
    char text[40];
    snprintf(text, sizeof text, "01890000-0000-7000-8000-%012x", static_cast<unsigned>(number));
    return text;
}

void append_bulk(std::string& to, std::string_view text) {
    to.append("$").append(std::to_string(text.size())).append("\r\n").append(text).append("\r\n");
}

/** `append` queues the commands for one identifier, two replies each. */
template <typename Append>
double push_rate(Redis& redis, int count, Append&& append) {
    constexpr int batch = 1024;
    const auto began = Clock::now();
    for (int first = 0; first < count; first += batch) {
        const int last = std::min(count, first + batch);
        for (int i = first; i < last; i++) {
            append(identifier(i));
        }
        for (int i = first; i < 2 * last - first; i++) {
            redis.reply();
        }
    }
    return count / std::chrono::duration<double>(Clock::now() - began).count();
}

void floor_of_pushing(const char* socket, int count) {
    Redis redis(socket);
    printf("append %.0f\n", push_rate(redis, count, [&](const std::string& id) {
               redisAppendCommand(redis.get(), "SET rev:%s 1 EX 2592000", id.c_str());
               redisAppendCommand(redis.get(), "PUBLISH revoked %s", id.c_str());
           }));
    std::string command;
    printf("raw %.0f\n", push_rate(redis, count, [&](const std::string& id) {
               command.assign("*5\r\n$3\r\nSET\r\n");
               append_bulk(command, "rev:" + id);
               command.append(
                   "$1\r\n1\r\n$2\r\nEX\r\n$7\r\n2592000\r\n*3\r\n$7\r\nPUBLISH\r\n$7\r\nrevoked\r\n");
               append_bulk(command, id);
               redisAppendFormattedCommand(redis.get(), command.data(), command.size());
           }));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string_view what = argc > 1 ? argv[1] : "";
        if (what == "latency" && argc == 5) {
            latency(argv[2], argv[3], std::atoi(argv[4]));
        } else if (what == "floor" && argc == 4) {
            floor_of_pushing(argv[2], std::atoi(argv[3]));
        } else {
            fputs("usage: mirror_client latency SOCKET NAMESPACE COUNT | floor SOCKET COUNT\n", stderr);
            return 2;
        }
    } catch (const std::exception& error) {
        fprintf(stderr, "mirror_client: %s\n", error.what());
        return 1;
    }
    return 0;
}
