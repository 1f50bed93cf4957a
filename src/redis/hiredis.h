#pragma once

/**
 * The one place that includes hiredis, which must come before PostgreSQL's headers (pg/prelude.h): they
 * redefine printf and its family.
 */
#include <hiredis/async.h>
#include <hiredis/hiredis.h>

/** TLS came with hiredis 1.0, as a library of its own. */
#if HIREDIS_MAJOR >= 1 && __has_include(<hiredis/hiredis_ssl.h>)
#define APIKEY_REDIS_TLS 1
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <hiredis/hiredis_ssl.h>
#else
#define APIKEY_REDIS_TLS 0
#endif
