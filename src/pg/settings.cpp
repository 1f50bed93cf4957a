#include "core/error.h"
#include "core/label.h"
#include "core/redis_masters.h"
#include "core/redis_url.h"
#include "core/token.h"
#include "pg/failure.h"
#include "pg/guard.h"
#include "pg/settings.h"

namespace apikey::pg::settings {

int pbkdf2_iterations = min_pbkdf2_iterations;
char* master_key_file = nullptr;
int refresh_grace = 300;
int revoke_wait = default_revoke_wait;
char* issuer = nullptr;
char* audience = nullptr;
char* environments = nullptr;
char* databases = nullptr;
int usage_interval = 10;
int usage_retention = 0;
int audit_retention = 0;
char* redis_url = nullptr;
char* redis_password_file = nullptr;
char* redis_sentinel_user = nullptr;
char* redis_sentinel_password_file = nullptr;
char* redis_masters = nullptr;
char* redis_namespace = nullptr;
char* redis_ca_file = nullptr;
char* redis_certificate_file = nullptr;
char* redis_key_file = nullptr;
int redis_connect_timeout = 1000;
int redis_timeout = 2000;
char* rate_namespace = nullptr;
int rate_sync_interval = 200;
int rate_on_stale = static_cast<int>(RateOnStale::share);
bool free_tier = false;
bool free_tier_on_failure = false;
int cache_entries = 0;
int rate_entries = 0;
int event_entries = 0;
int max_databases = 0;

namespace {

bool defined_in_postmaster = false;

/** Check hooks run outside any boundary: they allocate nothing in C++ and so cannot throw. */
extern "C" bool check_environments(char** value, void** /*extra*/, GucSource /*source*/) {
    std::string_view rest(*value);
    while (!rest.empty()) {
        const auto comma = rest.find(',');
        std::string_view name = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        while (!name.empty() && name.front() == ' ') {
            name.remove_prefix(1);
        }
        while (!name.empty() && name.back() == ' ') {
            name.remove_suffix(1);
        }
        if (!core::is_valid_environment(name)) {
            GUC_check_errdetail(
                "An environment is 1 to 16 characters of a-z and 0-9; several are separated by commas.");
            return false;
        }
    }
    return true;
}

extern "C" bool check_databases(char** value, void** /*extra*/, GucSource /*source*/) {
    char* names = pstrdup(*value);
    List* list = NIL;
    const bool good = SplitIdentifierString(names, ',', &list);
    if (!good) {
        GUC_check_errdetail(
            "Names of databases, separated by commas; in double quotes where they need them.");
    }
    list_free(list);
    pfree(names);
    return good;
}

extern "C" bool check_audience(char** value, void** /*extra*/, GucSource /*source*/) {
    if (**value != '\0' && !core::is_valid_label(*value)) {
        GUC_check_errdetail("At most 255 bytes, no control characters.");
        return false;
    }
    return true;
}

extern "C" bool check_issuer(char** value, void** /*extra*/, GucSource /*source*/) {
    if (!core::is_valid_label(*value)) {
        GUC_check_errdetail("1 to 255 bytes, no control characters.");
        return false;
    }
    return true;
}

/** Does the core take it? Parsing allocates and throws, so it is done with before PostgreSQL hears of it. */
template <typename Parse>
bool explain(Parse&& parse, std::span<char> why) noexcept {
    try {
        parse();
        return true;
    } catch (const std::exception& error) {
        why[std::string_view(error.what()).copy(why.data(), why.size() - 1)] = '\0';
        return false;
    }
}

/** The value is not quoted, as PostgreSQL would do: there may be a password in it. */
extern "C" bool check_redis_url(char** value, void** /*extra*/, GucSource /*source*/) {
    std::array<char, 256> why;
    if (**value == '\0' || explain([value] { core::parse_redis_url(*value); }, why)) {
        return true;
    }
    GUC_check_errmsg("invalid value for parameter \"apikey.redis_url\"");
    GUC_check_errdetail("%s", why.data());
    return false;
}

extern "C" bool check_redis_masters(char** value, void** /*extra*/, GucSource /*source*/) {
    std::array<char, 256> why;
    if (explain([value] { core::RedisMasters{*value}; }, why)) {
        return true;
    }
    GUC_check_errdetail("%s", why.data());
    return false;
}

extern "C" bool check_redis_namespace(char** value, void** /*extra*/, GucSource /*source*/) {
    if (**value != '\0' && !core::is_valid_redis_namespace(*value)) {
        GUC_check_errdetail("1 to 64 letters, digits, dots, hyphens and underscores.");
        return false;
    }
    return true;
}

/** Who the worker is to Redis, and whom it trusts. What names hosts and files is for superusers to see. */
void define_redis_trust() {
    DefineCustomStringVariable(
        "apikey.redis_password_file", "File with the password for Redis; empty for none.",
        "Its first line. Relative to the data directory. As with ssl_key_file, the server's user owns it and "
        "its mode is 0600 or stricter, or root does and it is 0640 or stricter. Sentinels never get this "
        "password.",
        &redis_password_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_sentinel_user", "User to log in to sentinels as; empty for their default user.",
        "For sentinels that want a password. The user in apikey.redis_url is that of the master.",
        &redis_sentinel_user, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_sentinel_password_file", "File with the password for sentinels; empty for none.",
        "A file as for apikey.redis_password_file, and another password: who has got hold of one sentinel "
        "learns it.",
        &redis_sentinel_password_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_masters",
        "Servers that sentinels or a cluster may name, separated by commas; empty for any.",
        "host, host:port, or networks as in 10.1.0.0/16. User and password are sent to whatever master a "
        "sentinel names: this list, or TLS with an authority of your own, keeps them from a false one.",
        &redis_masters, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_redis_masters, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_ca_file",
        "Certificates of those who may sign Redis' certificate; empty for the system's.",
        "PEM, relative to the data directory. For TLS only, where the server's certificate is always "
        "checked, and that "
        "it is for the host of that name or address.",
        &redis_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_certificate_file", "Certificate to show to Redis; empty for none.",
        "PEM, with those of intermediate authorities after it, relative to the data directory. "
        "For TLS only, where Redis asks for one.",
        &redis_certificate_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_key_file", "Private key of apikey.redis_certificate_file.",
        "PEM, not encrypted, relative to the data directory. As with ssl_key_file, the server's user owns it "
        "and its mode is 0600 or stricter, or root does and it is 0640 or stricter.",
        &redis_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
}

/** Where Redis is, and how to talk to it. */
void define_redis() {
    DefineCustomStringVariable(
        "apikey.redis_url", "The Redis that withdrawals are mirrored into; empty for none.",
        "redis://[user@]host[:port][/database], unix:///path[?db=database], "
        "sentinel://host,host/name[/database] or "
        "cluster://host,host; rediss, sentinels and clusters are the same with TLS. A password does not "
        "belong here, "
        "but into apikey.redis_password_file.",
        &redis_url, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_redis_url, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.redis_namespace", "What the names of this database's keys in Redis begin with.",
        "Empty stands for the cluster's system identifier and the database's OID, so that many databases can "
        "share one "
        "Redis. Two that have the same namespace would take each other's mirror for a broken one.",
        &redis_namespace, "", PGC_SIGHUP, 0, check_redis_namespace, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.redis_connect_timeout", "How long a server of Redis may take to be connected to.",
        "TLS included. The look-up of a host name is not: it takes as long as the system's "
        "resolver pleases.",
        &redis_connect_timeout, 1000, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.redis_timeout", "How long Redis may take to answer.",
        "For all commands that were sent together. A Redis that takes longer counts as lost.", &redis_timeout,
        2000, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("apikey.rate_namespace",
                               "What the names of the shared counts of rate limits in Redis begin with.",
                               "Servers and nodes with the same one share each key's limit. Empty: as "
                               "apikey.redis_namespace, which no "
                               "other server shares.",
                               &rate_namespace, "", PGC_SIGHUP, 0, check_redis_namespace, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.rate_sync_interval", "How often counts of rate limits are exchanged through Redis.",
        "Together the nodes may admit more than a limit by what they admit within twice this time.",
        &rate_sync_interval, 200, 20, 60000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    static const config_enum_entry policies[] = {
        {"share", static_cast<int>(RateOnStale::share), false},
        {"local", static_cast<int>(RateOnStale::local), false},
        {"deny", static_cast<int>(RateOnStale::deny), false},
        {nullptr, 0, false},
    };
    DefineCustomEnumVariable(
        "apikey.rate_on_stale",
        "What a limit is worth when no counts have come from Redis for three seconds.",
        "Or for twice apikey.rate_sync_interval, where that is longer. share: this server's equal part of it "
        "among the known nodes. local: all of it. deny: nothing.",
        &rate_on_stale, static_cast<int>(RateOnStale::share), policies, PGC_SIGHUP, 0, nullptr, nullptr,
        nullptr);
}

/** Shared memory is made once, so these are only there, and only mean something, in a preloaded library. */
void define_sizes() {
    DefineCustomIntVariable(
        "apikey.cache_entries", "Tokens whose proof is remembered in shared memory, 64 bytes each.",
        "A token that is remembered is validated in about a microsecond, any other in about a millisecond. "
        "Make it twice the number of tokens in use: below 60 % full hardly any entry has to make room.",
        &cache_entries, 131072, 1024, 64 * 1024 * 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.rate_entries",
        "Keys and client addresses whose requests are counted in shared memory, 192 bytes each.",
        "Where there are more at a time, the one with the least to remember makes room, and may use its rate "
        "limit again.",
        &rate_entries, 32768, 1024, 64 * 1024 * 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.event_entries",
        "Denials that wait in shared memory to be written to the audit trail, for each database.",
        "192 bytes each. When there is no room, denials are dropped and counted.", &event_entries, 4096, 64,
        1024 * 1024, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("apikey.max_databases",
                            "Databases that can use the extension's shared memory at the same time.",
                            "Each has its own counters and its own ring of events.", &max_databases, 8, 1,
                            256, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
}

}  // namespace

bool preloaded() noexcept {
    return defined_in_postmaster;
}

void require_preloaded(const char* what) {
    if (!defined_in_postmaster) {
        throw Failure(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                      std::string(what) + " depends on settings, and apikey was not preloaded",
                      "Who connects can take the place of what the server's configuration says.",
                      "Add apikey to shared_preload_libraries and restart the server.");
    }
}

List* raw_database_names() {
    List* names = NIL;
    SplitIdentifierString(pstrdup(databases), ',', &names);
    return names;
}

void define() {
    DefineCustomIntVariable("apikey.pbkdf2_iterations", "PBKDF2-HMAC-SHA256 iterations for new token hashes.",
                            "Kept with each row; a row below the setting is hashed anew when its key is "
                            "refreshed. Each validation costs this many iterations.",
                            &pbkdf2_iterations, min_pbkdf2_iterations, min_pbkdf2_iterations,
                            max_pbkdf2_iterations, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.master_key_file", "File with the 32 random bytes that all hashes and sealed keys depend on.",
        "Relative to the data directory. As with ssl_key_file, the server's user owns it and its mode is "
        "0600 "
        "or stricter, or root does and it is 0640 or stricter. Created by the first issue on a primary whose "
        "database holds no keys; keep it outside the data directory, and a copy somewhere "
        "safe.",
        &master_key_file, "apikey_master.key", PGC_SIGHUP, GUC_SUPERUSER_ONLY, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.refresh_grace", "How long the previous token still validates after a refresh.",
        "Long enough for a fleet to change over; 0 ends the previous token at the COMMIT of the refresh.",
        &refresh_grace, 300, 0, 86400, PGC_SUSET, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.revoke_wait", "How long a revocation waits for sessions that hold the key's row.",
        "Then revoke(), revoke_owner(), disable() and retire_signing_key() terminate them, "
        "and "
        "those that stand in line for the row. A refresh with a stolen token in a transaction that is left "
        "open "
        "must not keep the key in use. Plain UPDATE and DELETE wait as long as lock_timeout lets them.",
        &revoke_wait, default_revoke_wait, 0, 600000, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("apikey.issuer", "The iss claim of new JWTs.",
                               "RFC 7519 section 4.1.1: a name or URI of this issuer.", &issuer, "apikey",
                               PGC_SUSET, 0, check_issuer, nullptr, nullptr);
    DefineCustomStringVariable("apikey.audience", "The aud claim of new JWTs; empty for none.",
                               "RFC 7519 section 4.1.3: who the tokens are for.", &audience, "", PGC_SUSET, 0,
                               check_audience, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.environments",
        "Environments whose keys are accepted here, separated by commas; empty for all.",
        "A key of another environment gets the verdict FORBIDDEN, and cannot be issued here.", &environments,
        "", PGC_SUSET, 0, check_environments, nullptr, nullptr);
    DefineCustomBoolVariable("apikey.free_tier", "A request without a token is answered as role free.",
                             "Off, it is MISSING: a caller that forgets the token must not be let in. The "
                             "free tier is limited by client "
                             "address.",
                             &free_tier, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("apikey.free_tier_on_failure",
                             "A request whose token is refused is answered as role free.",
                             "For tokens that are MALFORMED, NOT_FOUND, SIGNATURE_INVALID, EXPIRED or "
                             "SUPERSEDED; one that was revoked or "
                             "disabled is refused all the same. The denial is recorded.",
                             &free_tier_on_failure, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable(
        "apikey.databases", "Databases that get background workers, separated by commas.",
        "The maintenance worker writes denials to the audit trail and uses to the usage tables, and expires, "
        "prunes and partitions. Where apikey.redis_url is set, the mirror worker keeps Redis up to date. "
        "Needs shared_preload_libraries.",
        &databases, "postgres", PGC_SIGHUP, 0, check_databases, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.usage_interval", "How often the maintenance worker writes down which keys have been used.",
        "Each key that was used since then costs one row in usage and one in key_usage to be written.",
        &usage_interval, 10, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    constexpr int minutes_per_day = 24 * 60;
    DefineCustomIntVariable(
        "apikey.usage_retention", "How long rows of usage are kept; 0 keeps them for ever.",
        "The maintenance worker deletes what is older.", &usage_retention, 90 * minutes_per_day, 0, INT_MAX,
        PGC_SIGHUP, GUC_UNIT_MIN, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "apikey.audit_retention", "How long the audit trail is kept; 0 keeps it for ever.",
        "The maintenance worker drops partitions of audit_event, a month each, once all of it is older.",
        &audit_retention, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN, nullptr, nullptr, nullptr);
    define_redis();
    define_redis_trust();
    if (process_shared_preload_libraries_in_progress) {
        defined_in_postmaster = true;
        define_sizes();
    }
    MarkGUCPrefixReserved("apikey");
}

}  // namespace apikey::pg::settings
