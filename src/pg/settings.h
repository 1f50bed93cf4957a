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

/** Defines them all and reserves the prefix. Called once, from _PG_init. */
void define();

}  // namespace apikey::pg::settings
