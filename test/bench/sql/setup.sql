-- The database of the benchmarks: roles, tokens, and the loop that measures inside the server.

CREATE EXTENSION apikey;
CREATE EXTENSION pgcrypto;
CREATE SCHEMA bench;

-- A limit that is enforced and never reached, and none at all.
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES
    ('bench_limited', '30 days', '{chat:*,dataset:*}', 1000000000, '1 minute', '24 hours'),
    ('bench_unlimited', '30 days', '{chat:*,dataset:*}', NULL, NULL, '24 hours');

-- The module of the benchmarks: no-ops with the signatures of check_token and validate, and floors of cryptography.
\set module `pwd` '/bench/apikey_bench'
CREATE FUNCTION bench.nop_check(token text, permission text DEFAULT NULL, client inet DEFAULT NULL, cost integer DEFAULT 1)
    RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS :'module', 'bench_nop_check';
CREATE FUNCTION bench.nop_validate(token text, permission text DEFAULT NULL, client inet DEFAULT NULL, cost integer DEFAULT 1)
    RETURNS apikey.verdict LANGUAGE c VOLATILE PARALLEL UNSAFE AS :'module', 'bench_nop_validate';
CREATE FUNCTION bench.openssl_verify(public_key bytea, input bytea, signature bytea)
    RETURNS boolean LANGUAGE c STRICT AS :'module', 'bench_openssl_verify';
CREATE FUNCTION bench.openssl_sign(input bytea)
    RETURNS bytea LANGUAGE c STRICT AS :'module', 'bench_openssl_sign';
CREATE FUNCTION bench.openssl_pbkdf2(password bytea, salt bytea, iterations integer)
    RETURNS bytea LANGUAGE c STRICT AS :'module', 'bench_openssl_pbkdf2';
CREATE FUNCTION bench.own_pbkdf2(password bytea, salt bytea, iterations integer)
    RETURNS bytea LANGUAGE c STRICT AS :'module', 'bench_own_pbkdf2';

CREATE TABLE bench.token (
    kind text NOT NULL,
    n integer NOT NULL,
    token text NOT NULL,
    PRIMARY KEY (kind, n)
);

CREATE FUNCTION bench.issue_tokens(kind text, first integer, last integer) RETURNS void
    LANGUAGE sql
AS $$
    INSERT INTO bench.token
    SELECT issue_tokens.kind, n, i.token
      FROM generate_series(first, last) n,
           apikey.issue('bench owner ' || n, CASE WHEN issue_tokens.kind LIKE '%unlimited' THEN 'bench_unlimited' ELSE 'bench_limited' END,
                        format => CASE WHEN issue_tokens.kind LIKE 'opaque%' THEN 'opaque' ELSE 'jwt' END) i
$$;

-- Validates each once, and does not take a no.
CREATE FUNCTION bench.accept_tokens(kind text, first integer, last integer) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT (SELECT bool_and(apikey.check_token(t.token, 'chat:read'))
              FROM bench.token t WHERE t.kind = accept_tokens.kind AND t.n BETWEEN first AND last) THEN
        RAISE EXCEPTION 'a token of kind % is refused', kind;
    END IF;
END
$$;

\ir rounds.sql
