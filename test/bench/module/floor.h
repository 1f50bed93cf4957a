/* The extension's own key derivation, for C. */
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

#ifdef __cplusplus
}
#endif

#endif
