-- A database of the section flat: keys that nobody has tokens of, around a few that are real.

CREATE EXTENSION apikey;
CREATE SCHEMA bench;
\set module `pwd` '/bench/apikey_bench'
CREATE FUNCTION bench.nop_check(token text, permission text DEFAULT NULL, client inet DEFAULT NULL, cost integer DEFAULT 1)
    RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS :'module', 'bench_nop_check';
\ir rounds.sql

INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES
    ('bench_limited', '30 days', '{chat:*,dataset:*}', 1000000000, '1 minute', '24 hours');
CREATE TABLE bench.source (token text NOT NULL);

CREATE FUNCTION bench.issue(tokens integer, copies integer) RETURNS void
    LANGUAGE sql
AS $$
    INSERT INTO bench.source
    SELECT token FROM (SELECT i.token FROM generate_series(1, tokens) n, apikey.issue('bench owner ' || n, 'bench_limited') i OFFSET 0) t,
                      generate_series(1, copies) copy
     ORDER BY random()
$$;

-- The rows of keys older than the real ones (half 0) or younger (half 1), one every two seconds, in the order of their ids, as issue()
-- leaves them. Their hashes are made up. Without the triggers, which would note what nobody asks for here, and without WAL.
ALTER TABLE apikey.key DISABLE TRIGGER USER;
ALTER TABLE apikey.key SET UNLOGGED;
CREATE FUNCTION bench.fill(half integer, low bigint, high bigint) RETURNS void
    LANGUAGE sql
AS $$
    INSERT INTO apikey.key (key_id, owner, role, issued_at, expires_at, format, environment, kid, token_hash, token_salt, token_iterations,
                            token_tag, master_key_fingerprint)
    SELECT overlay(overlay(lpad(to_hex((1000 * extract(epoch FROM at))::bigint), 12, '0') || left(md5(n::text), 20) PLACING '7' FROM 13) PLACING '8' FROM 17)::uuid,
           'owner ' || n % 100000, 'bench_limited', at, at + interval '400 days', 'jwt', 'live', 'a-kid-of-the-benchmarks-with-43-characters',
           sha256(n::text::bytea), substr(sha256(n::text::bytea), 1, 16), 10000, substr(sha256(n::text::bytea), 1, 8), '\x0000000000000000'
      FROM (SELECT n, now() + (half - 1) * interval '300 days' + n * interval '2 seconds' AS at FROM generate_series(low, high - 1) n) made
$$;
