/* What the benchmarks take from the extension's core, for C. */
#ifndef APIKEY_BENCH_FLOOR_H
#define APIKEY_BENCH_FLOOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

/* PBKDF2-HMAC-SHA256 by src/core; false when it threw. */
bool bench_core_pbkdf2(const unsigned char* password, size_t password_size, const unsigned char* salt,
                       size_t salt_size, int iterations, unsigned char* out, size_t out_size);

/* What issue() makes of a key, but with one iteration of the slow hash: a million of them in minutes, not
 * hours. */
struct bench_minted {
    char token[2048];
    size_t token_size;
    unsigned char hash[32], salt[16], tag[8], fingerprint[8];
};

/* A JWT when there is a sealed signing key, else an opaque token. Times are Unix seconds. False when src/core
 * threw. */
bool bench_core_mint(const unsigned char* master, size_t master_size, const unsigned char* sealed,
                     size_t sealed_size, const char* kid, const unsigned char* key_id, const char* owner,
                     const char* role, long long issued_at, long long expires_at, const unsigned char* random,
                     struct bench_minted* minted);

#ifdef __cplusplus
}
#endif

#endif
