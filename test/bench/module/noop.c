/*
 * What the functions of the extension are compared with: the least that a C function of the same signature and result can be, and
 * OpenSSL's own verification and key derivation.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include <openssl/evp.h>

#include "floor.h"

#define BENCH_FUNCTION(name)                                                        \
    __attribute__((visibility("default"))) extern Datum name(PG_FUNCTION_ARGS);     \
    extern __attribute__((visibility("default"))) const Pg_finfo_record *pg_finfo_##name(void); \
    PG_FUNCTION_INFO_V1(name)

__attribute__((visibility("default"))) extern const Pg_magic_struct *Pg_magic_func(void);
PG_MODULE_MAGIC;

/* apikey.check_token(text, text, inet, integer) */
BENCH_FUNCTION(bench_nop_check);
Datum bench_nop_check(PG_FUNCTION_ARGS)
{
    (void) fcinfo;
    PG_RETURN_BOOL(true);
}

/* The columns of apikey.verdict. A VALID verdict says nothing in retry_after and detail; a key without a limit nothing in rate_*. */
enum { columns = 18, retry_after = 16, detail = 17 };

/* apikey.validate(text, text, inet, integer): each value is made anew, as any function that has something to say has to. */
BENCH_FUNCTION(bench_nop_validate);
Datum bench_nop_validate(PG_FUNCTION_ARGS)
{
    static const char metadata_text[] = "{}";
    TupleDesc shape;
    Datum values[columns] = {0};
    bool nulls[columns] = {false};
    Datum grants[2];
    pg_uuid_t *id = palloc0(sizeof *id);
    Interval *reset = palloc0(sizeof *reset);
    Jsonb *metadata;

    if (get_call_result_type(fcinfo, NULL, &shape) != TYPEFUNC_COMPOSITE || shape->natts != columns)
        elog(ERROR, "bench_nop_validate must return apikey.verdict");

    /* Parsed once for each call site, then copied: the extension finds it as a value in the key's row. */
    if (fcinfo->flinfo->fn_extra == NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

        fcinfo->flinfo->fn_extra = DatumGetPointer(DirectFunctionCall1(jsonb_in, CStringGetDatum(metadata_text)));
        MemoryContextSwitchTo(before);
    }
    metadata = (Jsonb *) DatumGetPointer(datumCopy(PointerGetDatum(fcinfo->flinfo->fn_extra), false, -1));

    memset(id, 0x5a, sizeof *id);
    reset->time = 30 * USECS_PER_SEC;
    grants[0] = CStringGetTextDatum("chat:*");
    grants[1] = CStringGetTextDatum("dataset:*");

    values[0] = BoolGetDatum(true);
    values[1] = CStringGetTextDatum("VALID");
    values[2] = Int32GetDatum(200);
    values[3] = CStringGetTextDatum("The key is valid.");
    values[4] = UUIDPGetDatum(id);
    values[5] = Int32GetDatum(1);
    values[6] = CStringGetTextDatum("bench owner 1");
    values[7] = CStringGetTextDatum("bench_limited");
    values[8] = PointerGetDatum(construct_array(grants, 2, TEXTOID, -1, false, TYPALIGN_INT));
    values[9] = CStringGetTextDatum("live");
    values[10] = PointerGetDatum(metadata);
    values[11] = TimestampTzGetDatum(INT64CONST(1000000000000000));
    values[12] = BoolGetDatum(false);
    values[13] = Int64GetDatum(INT64CONST(1000000000));
    values[14] = Int64GetDatum(INT64CONST(999999999));
    values[15] = IntervalPGetDatum(reset);
    nulls[retry_after] = true;
    nulls[detail] = true;
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(shape, values, nulls)));
}

/* bench.openssl_verify(public_key, input, signature): a bare Ed25519 verification. The key is made once for each public key. */
BENCH_FUNCTION(bench_openssl_verify);
Datum bench_openssl_verify(PG_FUNCTION_ARGS)
{
    static EVP_PKEY *key = NULL;
    static EVP_MD_CTX *context = NULL;
    static unsigned char key_bytes[32];
    bytea *public_key = PG_GETARG_BYTEA_PP(0);
    bytea *input = PG_GETARG_BYTEA_PP(1);
    bytea *signature = PG_GETARG_BYTEA_PP(2);

    if (VARSIZE_ANY_EXHDR(public_key) != sizeof key_bytes)
        elog(ERROR, "an Ed25519 public key has 32 bytes");
    if (context == NULL)
        context = EVP_MD_CTX_new();
    if (key == NULL || memcmp(key_bytes, VARDATA_ANY(public_key), sizeof key_bytes) != 0)
    {
        EVP_PKEY_free(key);
        memcpy(key_bytes, VARDATA_ANY(public_key), sizeof key_bytes);
        key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key_bytes, sizeof key_bytes);
    }
    EVP_MD_CTX_reset(context);
    if (key == NULL || context == NULL || EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1)
        elog(ERROR, "OpenSSL cannot verify");
    PG_RETURN_BOOL(EVP_DigestVerify(context, (const unsigned char *) VARDATA_ANY(signature), VARSIZE_ANY_EXHDR(signature),
                                    (const unsigned char *) VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)) == 1);
}

/* bench.openssl_sign(input): one Ed25519 signature, by a key that is ready to use. */
BENCH_FUNCTION(bench_openssl_sign);
Datum bench_openssl_sign(PG_FUNCTION_ARGS)
{
    static const unsigned char key_bytes[32] = "no secret, but thirty-two bytes.";
    static EVP_PKEY *key = NULL;
    static EVP_MD_CTX *context = NULL;
    bytea *input = PG_GETARG_BYTEA_PP(0);
    bytea *signature = palloc(VARHDRSZ + 64);
    size_t size = 64;

    if (context == NULL)
        context = EVP_MD_CTX_new();
    if (key == NULL)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key_bytes, sizeof key_bytes);
    EVP_MD_CTX_reset(context);
    if (key == NULL || context == NULL || EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, (unsigned char *) VARDATA(signature), &size, (const unsigned char *) VARDATA_ANY(input),
                       VARSIZE_ANY_EXHDR(input)) != 1)
        elog(ERROR, "OpenSSL cannot sign");
    SET_VARSIZE(signature, VARHDRSZ + size);
    PG_RETURN_BYTEA_P(signature);
}

static bytea *new_hash(void)
{
    bytea *hash = palloc(VARHDRSZ + 32);

    SET_VARSIZE(hash, VARHDRSZ + 32);
    return hash;
}

/* bench.openssl_pbkdf2(password, salt, iterations): 32 bytes by OpenSSL's one call for it. */
BENCH_FUNCTION(bench_openssl_pbkdf2);
Datum bench_openssl_pbkdf2(PG_FUNCTION_ARGS)
{
    bytea *password = PG_GETARG_BYTEA_PP(0);
    bytea *salt = PG_GETARG_BYTEA_PP(1);
    bytea *hash = new_hash();

    if (PKCS5_PBKDF2_HMAC(VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password), (const unsigned char *) VARDATA_ANY(salt),
                          VARSIZE_ANY_EXHDR(salt), PG_GETARG_INT32(2), EVP_sha256(), 32, (unsigned char *) VARDATA(hash)) != 1)
        elog(ERROR, "OpenSSL cannot derive");
    PG_RETURN_BYTEA_P(hash);
}

/* bench.own_pbkdf2(password, salt, iterations): the same by the extension's code. */
BENCH_FUNCTION(bench_own_pbkdf2);
Datum bench_own_pbkdf2(PG_FUNCTION_ARGS)
{
    bytea *password = PG_GETARG_BYTEA_PP(0);
    bytea *salt = PG_GETARG_BYTEA_PP(1);
    bytea *hash = new_hash();

    if (!bench_core_pbkdf2((const unsigned char *) VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password),
                           (const unsigned char *) VARDATA_ANY(salt), VARSIZE_ANY_EXHDR(salt), PG_GETARG_INT32(2),
                           (unsigned char *) VARDATA(hash), 32))
        elog(ERROR, "the extension's code cannot derive");
    PG_RETURN_BYTEA_P(hash);
}

static Datum bytes_datum(const unsigned char *bytes, size_t size)
{
    bytea *value = palloc(VARHDRSZ + size);

    SET_VARSIZE(value, VARHDRSZ + size);
    memcpy(VARDATA(value), bytes, size);
    return PointerGetDatum(value);
}

/*
 * bench.mint(master_key, private_key, kid, key_id, owner, role, issued_at, expires_at): token, hash, salt, tag and fingerprint of a key, a
 * JWT where private_key is not NULL, else an opaque token.
 */
BENCH_FUNCTION(bench_mint);
Datum bench_mint(PG_FUNCTION_ARGS)
{
    enum { unix_to_postgres = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY };
    bytea *master = PG_GETARG_BYTEA_PP(0);
    bytea *sealed = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
    char *kid = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
    unsigned char random[16 + 32];
    struct bench_minted minted;
    TupleDesc row;
    Datum values[5];
    bool nulls[5] = {false};

    if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "a row was not asked for");
    if (!pg_strong_random(random, sizeof(random)) ||
        !bench_core_mint((const unsigned char *) VARDATA_ANY(master), VARSIZE_ANY_EXHDR(master),
                         sealed ? (const unsigned char *) VARDATA_ANY(sealed) : NULL, sealed ? VARSIZE_ANY_EXHDR(sealed) : 0, kid,
                         PG_GETARG_UUID_P(3)->data, text_to_cstring(PG_GETARG_TEXT_PP(4)), text_to_cstring(PG_GETARG_TEXT_PP(5)),
                         PG_GETARG_TIMESTAMPTZ(6) / USECS_PER_SEC + unix_to_postgres,
                         PG_GETARG_TIMESTAMPTZ(7) / USECS_PER_SEC + unix_to_postgres, random, &minted))
        elog(ERROR, "the extension's code cannot make a token");
    values[0] = PointerGetDatum(cstring_to_text_with_len(minted.token, (int) minted.token_size));
    values[1] = bytes_datum(minted.hash, sizeof(minted.hash));
    values[2] = bytes_datum(minted.salt, sizeof(minted.salt));
    values[3] = bytes_datum(minted.tag, sizeof(minted.tag));
    values[4] = bytes_datum(minted.fingerprint, sizeof(minted.fingerprint));
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}
