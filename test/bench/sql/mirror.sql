-- The database of the section mirror: keys that nobody has tokens of, to be revoked.

CREATE EXTENSION apikey;
CREATE SCHEMA bench;

INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES
    ('bench_limited', '400 days', '{chat:*,dataset:*}', 1000000000, '1 minute', '24 hours');

-- One key every second, in the order of their ids, as issue() leaves them; their hashes are made up. Without the triggers, which would
-- note what nobody asks for here.
ALTER TABLE apikey.key DISABLE TRIGGER USER;
CREATE FUNCTION bench.fill(low integer, high integer) RETURNS void
    LANGUAGE sql
AS $$
    INSERT INTO apikey.key (key_id, owner, role, issued_at, expires_at, format, environment, kid, token_hash, token_salt, token_iterations,
                            token_tag, master_key_fingerprint)
    SELECT overlay(overlay(lpad(to_hex((1000 * extract(epoch FROM at))::bigint), 12, '0') || left(md5(n::text), 20) PLACING '7' FROM 13) PLACING '8' FROM 17)::uuid,
           'owner ' || n % 100000, 'bench_limited', at, at + interval '400 days', 'jwt', 'live', 'a-kid-of-the-benchmarks-with-43-characters',
           sha256(n::text::bytea), substr(sha256(n::text::bytea), 1, 16), 10000, substr(sha256(n::text::bytea), 1, 8), '\x0000000000000000'
      FROM (SELECT n, date_trunc('day', now()) - interval '300 days' + n * interval '1 second' AS at FROM generate_series(low, high - 1) n) made
$$;

-- Which of them is revoked next. In no order: neighbours here are no neighbours in any index.
CREATE TABLE bench.victim (n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key_id uuid NOT NULL);
CREATE FUNCTION bench.filled() RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'apikey.key'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
    INSERT INTO bench.victim (key_id) SELECT key_id FROM apikey.key ORDER BY md5(key_id::text);
END
$$;
CREATE SEQUENCE bench.next_victim;

CREATE FUNCTION bench.revoke_next(OUT key_id text, OUT bucket text) LANGUAGE plpgsql
AS $$
DECLARE
    number CONSTANT bigint := nextval('bench.next_victim');
BEGIN
    SELECT v.key_id::text, to_hex(apikey.redis_bucket(v.key_id)) INTO STRICT revoke_next.key_id, bucket FROM bench.victim v WHERE v.n = number;
    PERFORM apikey.revoke(revoke_next.key_id);
END
$$;

-- The table that the relay empties.
CREATE TABLE bench.relay_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key_id uuid NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1);
CREATE FUNCTION bench.relay_next(OUT key_id text, OUT bucket text) LANGUAGE plpgsql
AS $$
BEGIN
    key_id := gen_random_uuid()::text;
    bucket := '';
    INSERT INTO bench.relay_outbox (key_id) VALUES (relay_next.key_id::uuid);
    NOTIFY bench_relay;
END
$$;

-- So many more withdrawals, as revoke() writes them, less the audit of each. Returns the receipt. Call it as a transaction of its own.
CREATE FUNCTION bench.withdraw(count integer) RETURNS xid8 LANGUAGE plpgsql
AS $$
DECLARE
    first CONSTANT bigint := nextval('bench.next_victim');
BEGIN
    PERFORM setval('bench.next_victim', first + count - 1);
    INSERT INTO apikey.revocation (key_id, until)
    SELECT k.key_id, k.expires_at FROM bench.victim v JOIN apikey.key k USING (key_id) WHERE v.n >= first AND v.n < first + count;
    RETURN pg_current_xact_id();
END
$$;
