#pragma once

#include "pg/prelude.h"

/** Configuration parameters (GUCs). No GUC is for every user to set: each could weaken somebody else's
 * security. */
namespace apikey::pg::settings {

inline constexpr int min_pbkdf2_iterations = 10000;
inline constexpr int max_pbkdf2_iterations = 10000000;

extern int pbkdf2_iterations;
extern char* master_key_file;
extern int refresh_grace;  ///< seconds
constexpr int default_revoke_wait = 2000;
extern int revoke_wait;  ///< milliseconds
extern char* issuer;
extern char* audience;
extern char* environments;  ///< comma-separated, checked when set; empty means all

extern char* databases;      ///< names of databases that get workers, as in search_path; checked when set
extern int usage_interval;   ///< seconds
extern int usage_retention;  ///< minutes; 0 for ever
extern int audit_retention;  ///< minutes; 0 for ever

extern char* redis_url;  ///< as core::parse_redis_url() takes it; empty for no Redis; checked when set
extern char* redis_password_file;           ///< empty for no password
extern char* redis_sentinel_user;           ///< empty: the default user
extern char* redis_sentinel_password_file;  ///< empty for no password
extern char* redis_masters;                 ///< as core::RedisMasters takes it; checked when set
extern char* redis_namespace;               ///< empty for the default; checked when set
extern char* redis_ca_file;                 ///< empty for the system's
extern char* redis_certificate_file;
extern char* redis_key_file;
extern int redis_connect_timeout;  ///< milliseconds
extern int redis_timeout;          ///< milliseconds, for a batch

extern char* rate_namespace;    ///< empty: as redis_namespace; checked when set
extern int rate_sync_interval;  ///< milliseconds
/** What a limit that is shared with other nodes is worth while their counts are not to be had. */
enum class RateOnStale { share, local, deny };
extern int rate_on_stale;  ///< a RateOnStale

extern bool free_tier;
extern bool free_tier_on_failure;

/** Sizes of shared memory; as they were when the server started, and 0 where the library was not preloaded.
 */
extern int cache_entries;
extern int rate_entries;
extern int event_entries;  ///< of each database
extern int max_databases;

/**
 * Throws Failure 55000 where the library was not preloaded. Until it is loaded its parameters are
 * placeholders, which anybody can set when he connects: that takes the place of what postgresql.conf says,
 * and stands as the default once the library refuses it. `what` depends on parameters.
 */
void require_preloaded(const char* what);
bool preloaded() noexcept;

/** Of apikey.databases, into palloc'd memory; for use inside pg::call(). */
List* raw_database_names();

/** Defines them all and reserves the prefix. Called once, from _PG_init. */
void define();

}  // namespace apikey::pg::settings
