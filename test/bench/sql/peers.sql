-- What teams write for themselves, each in its good form.

-- API keys in plpgsql: a table of hashes with a unique index. SHA-256 and no slow hash is right for random secrets.
CREATE TABLE bench.api_key (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_hash bytea NOT NULL UNIQUE,
    owner text NOT NULL,
    permissions text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz
) WITH (fillfactor = 80);

CREATE FUNCTION bench.plpgsql_check(token text, permission text) RETURNS boolean
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    found_key bench.api_key;
BEGIN
    SELECT * INTO found_key FROM bench.api_key k WHERE k.key_hash = sha256(token::bytea);
    IF NOT FOUND OR found_key.revoked_at IS NOT NULL OR found_key.expires_at <= now() THEN
        RETURN false;
    END IF;
    RETURN permission = ANY (found_key.permissions);
END
$$;

-- The same, and it notes when the key was last used: in one statement.
CREATE FUNCTION bench.plpgsql_check_and_note(token text, permission text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE bench.api_key k
       SET last_used_at = now()
     WHERE k.key_hash = sha256(token::bytea) AND k.revoked_at IS NULL AND k.expires_at > now() AND permission = ANY (k.permissions);
    RETURN FOUND;
END
$$;

INSERT INTO bench.token
SELECT 'plpgsql', n, 'ak_live_' || left(translate(encode(gen_random_bytes(33), 'base64'), '+/', '-_'), 43) FROM generate_series(1, 10000) n;
INSERT INTO bench.api_key (key_hash, owner, permissions, expires_at)
SELECT sha256(t.token::bytea), 'bench owner ' || t.n, '{chat:read,chat:write}', now() + interval '30 days'
  FROM bench.token t WHERE t.kind = 'plpgsql';
VACUUM ANALYZE bench.token, bench.api_key;

-- A limiter with a row for each key: a fixed window, one UPDATE a request. No row comes back when the limit is reached.
CREATE TABLE bench.rate (
    key text PRIMARY KEY,
    window_start timestamptz NOT NULL,
    used bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO bench.rate SELECT 'key ' || n, now(), 0 FROM generate_series(1, 10000) n;
VACUUM ANALYZE bench.rate;

CREATE FUNCTION bench.sql_limit(key text, most bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE bench.rate r
       SET used = CASE WHEN r.window_start > now() - interval '1 minute' THEN r.used + 1 ELSE 1 END,
           window_start = CASE WHEN r.window_start > now() - interval '1 minute' THEN r.window_start ELSE now() END
     WHERE r.key = sql_limit.key AND (r.used < most OR r.window_start <= now() - interval '1 minute');
    RETURN FOUND;
END
$$;

-- bcrypt, as pgcrypto's manual has it.
CREATE TABLE bench.bcrypt (
    cost integer PRIMARY KEY,
    hash text NOT NULL
);
INSERT INTO bench.bcrypt SELECT c, crypt('a secret of the benchmarks', gen_salt('bf', c)) FROM (VALUES (8), (10)) v (c);
