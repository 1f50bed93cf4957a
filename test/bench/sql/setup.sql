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

CREATE FUNCTION bench.mint(master_key bytea, private_key bytea, kid text, key_id uuid, owner text, role text, issued_at timestamptz,
                           expires_at timestamptz, OUT token text, OUT hash bytea, OUT salt bytea, OUT tag bytea, OUT fingerprint bytea)
    LANGUAGE c VOLATILE AS :'module', 'bench_mint';

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

-- The same for very many: the slow hash has one iteration, which a token that was validated before shows nothing of. The rows look
-- restored, so that no audit event is written of them.
CREATE FUNCTION bench.mint_tokens(kind text, first integer, last integer) RETURNS void
    LANGUAGE sql
AS $$
    WITH minted AS MATERIALIZED (
        SELECT n, m.*, k.key_id, k.owner, k.issued_at, k.issued_at + interval '30 days' AS expires_at, s.kid
          FROM (SELECT n, apikey.uuid_v7() AS key_id, 'bench owner ' || n AS owner, date_trunc('second', now()) AS issued_at
                  FROM generate_series(first, last) n) k(n, key_id, owner, issued_at)
          LEFT JOIN apikey.signing_key s ON s.state = 'active' AND mint_tokens.kind = 'jwt',
               bench.mint(pg_read_binary_file(current_setting('apikey.master_key_file')), s.private_key, s.kid, k.key_id, k.owner,
                          'bench_limited', k.issued_at, k.issued_at + interval '30 days') m),
    stored AS (
        INSERT INTO apikey.key (key_id, owner, role, issued_at, expires_at, environment, format, kid, token_hash, token_salt, token_iterations,
                                token_tag, master_key_fingerprint, created_at)
        SELECT m.key_id, m.owner, 'bench_limited', m.issued_at, m.expires_at, 'live', mint_tokens.kind, m.kid, m.hash, m.salt, 1, m.tag,
               m.fingerprint, now() - interval '1 second' FROM minted m)
    INSERT INTO bench.token SELECT mint_tokens.kind, m.n, m.token FROM minted m
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
