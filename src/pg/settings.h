#pragma once

/** Configuration parameters (GUCs). No GUC is for every user to set: each could weaken somebody else's
 * security. */
namespace apikey::pg::settings {

inline constexpr int min_pbkdf2_iterations = 10000;
inline constexpr int max_pbkdf2_iterations = 10000000;

extern int pbkdf2_iterations;
extern char* master_key_file;
extern int refresh_grace;  ///< seconds
extern char* issuer;
extern char* audience;
extern char* environments;  ///< comma-separated, checked when set; empty means all

extern char* databases;  ///< comma-separated names of databases that get workers
extern bool free_tier;
extern bool free_tier_on_failure;

/** Sizes of shared memory; as they were when the server started, and 0 where the library was not preloaded.
 */
extern int cache_entries;
extern int rate_entries;
extern int event_entries;  ///< of each database
extern int max_databases;

/** Defines them all and reserves the prefix. Called once, from _PG_init. */
void define();

}  // namespace apikey::pg::settings
