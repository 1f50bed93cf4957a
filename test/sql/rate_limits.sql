-- Rate limits of roles, keys and client addresses: what consumes, what does not, and what the verdict says of it. Windows are the longest
-- that there are, 31 days from a multiple of 31 days since 1970, so that none ends here; no output holds a time.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window)
VALUES ('limited', '7 days', '{chat:*}', 5, '31 days', '24 hours'), ('unlimited', '7 days', '{chat:*}', NULL, NULL, '24 hours');

-- What is left of a limit: a look consumes nothing.
CREATE FUNCTION pg_temp.left(token text, client inet DEFAULT NULL) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT rate_remaining FROM apikey.validate(token, NULL, client, 0)
$$;
CREATE FUNCTION pg_temp.microseconds(i interval) RETURNS numeric LANGUAGE sql RETURN trunc(extract(epoch FROM i) * 1000000);
CREATE FUNCTION pg_temp.microseconds(t timestamptz) RETURNS numeric LANGUAGE sql RETURN trunc(extract(epoch FROM t) * 1000000);
-- Does a window of this width end when the verdict says? It was made at some instant of the call; then the window's end is a multiple of its
-- width since 1970.
CREATE FUNCTION pg_temp.timed(token text, width interval, client inet DEFAULT NULL,
                              OUT code text, OUT reset_in_range boolean, OUT reset_exact boolean) LANGUAGE plpgsql AS $$
DECLARE
    earliest numeric; latest numeric; reset numeric; answer apikey.verdict;
BEGIN
    earliest := pg_temp.microseconds(clock_timestamp());
    answer := apikey.validate(token, NULL, client, 0);
    latest := pg_temp.microseconds(clock_timestamp());
    reset := pg_temp.microseconds(answer.rate_reset);
    code := answer.code;
    reset_in_range := answer.rate_reset > '0' AND answer.rate_reset <= width;
    reset_exact := div(latest + reset, pg_temp.microseconds(width)) * pg_temp.microseconds(width) >= earliest + reset;
END
$$;

--
-- A role's limit: five, then none; a denial consumes nothing.
--
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT n, code, http_status, rate_limit, rate_remaining, retry_after IS NOT NULL AS has_retry_after
  FROM generate_series(1, 7) n, LATERAL apikey.validate(:'token', 'chat:read', '10.0.0.1', 1 + 0 * n);
-- One request is allowed again when the window is over and the first microsecond of the next one has taken its share of the five.
SELECT code, message, valid, rate_reset > '0' AND rate_reset <= '31 days' AS reset_in_range,
       retry_after - rate_reset = '1 microsecond' AS retry_after_exact,
       detail - 'retry_after' AS detail, (detail ->> 'retry_after')::bigint = ceil(extract(epoch FROM retry_after)) AS detail_rounds_up
  FROM apikey.validate(:'token');
-- For three there must be room for three: two fifths of the next window later.
SELECT code, retry_after - rate_reset = interval '31 days' * 2 / 5 + interval '1 microsecond' AS retry_after_exact
  FROM apikey.validate(:'token', cost => 3);
SELECT code, retry_after - rate_reset = interval '31 days' * 4 / 5 + interval '1 microsecond' AS retry_after_exact
  FROM apikey.validate(:'token', cost => 5);
SELECT (pg_temp.timed(:'token', '31 days')).*;
-- The other functions say the same.
SELECT apikey.check_token(:'token');
SELECT pg_temp.attempt(format('SELECT apikey.require(%L)', :'token'));
SELECT detail - 'retry_after' - 'key_id' AS detail, detail ->> 'key_id' = :'key_id' AS of_key, (detail ->> 'retry_after')::bigint > 0 AS has_retry_after
  FROM pg_temp.attempt_detail(format('SELECT apikey.require(%L)', :'token')) detail;
-- It is the key's: another key of the role has its own.
SELECT token AS other_token FROM apikey.issue('limits', 'limited') \gset
SELECT pg_temp.left(:'other_token');

--
-- Cost.
--
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 0);
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 3);
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 3);
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 0);
-- Above the limit no wait helps.
SELECT code, rate_remaining, rate_reset IS NOT NULL AS has_reset, retry_after, detail FROM apikey.validate(:'token', cost => 6);
SELECT code, retry_after, detail FROM apikey.validate(:'token', cost => 2147483647);
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, cost => -1)', :'token'));
SELECT pg_temp.attempt(format('SELECT apikey.check_token(%L, cost => -1)', :'token'));
SELECT pg_temp.attempt(format('SELECT apikey.require(%L, cost => -2147483648)', :'token'));
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, cost => NULL)', :'token'));
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 2);
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 0);

--
-- Each function consumes; refresh() and the others do not; what was consumed stays so when the transaction rolls back.
--
SELECT * FROM apikey.issue('limits', 'limited', ttl => '1 hour') \gset
SELECT apikey.check_token(:'token');
SELECT pg_temp.left(:'token');
SELECT (apikey.require(:'token')).rate_remaining;
SELECT apikey.check_token(:'token', cost => 0), (apikey.require(:'token', cost => 0)).rate_remaining;
BEGIN;
SELECT rate_remaining FROM apikey.validate(:'token');
SAVEPOINT s;
SELECT rate_remaining FROM apikey.validate(:'token');
ROLLBACK TO s;
SELECT pg_temp.left(:'token');
ROLLBACK;
SELECT pg_temp.left(:'token');
-- Both generations of a key share its limit.
SELECT token AS next_token FROM apikey.refresh(:'token') \gset
SELECT pg_temp.left(:'token') AS previous, pg_temp.left(:'next_token') AS next;
SELECT code FROM apikey.validate(:'token');
SELECT code FROM apikey.validate(:'next_token');
SELECT generation FROM apikey.refresh(:'next_token');
SELECT apikey.disable(:'key_id'), apikey.enable(:'key_id');
SELECT pg_temp.left(:'next_token');

--
-- A denial at an earlier step consumes nothing, and says nothing of the limit.
--
SELECT * FROM apikey.issue('limits', 'limited', ttl => '1 hour', allowed_cidrs => '{10.0.0.0/8}') \gset
CREATE TEMP TABLE denied (n serial, code text, rate integer);
CREATE FUNCTION pg_temp.deny(token text, permission text DEFAULT NULL, client inet DEFAULT '10.0.0.1') RETURNS void LANGUAGE sql AS $$
    INSERT INTO denied (code, rate)
    SELECT code, num_nonnulls(rate_limit, rate_remaining, rate_reset, retry_after) FROM apikey.validate(token, permission, client);
    INSERT INTO denied (code) SELECT 'passed' WHERE apikey.check_token(token, permission, client)
$$;
SELECT pg_temp.deny(:'token', 'admin:all');
SELECT pg_temp.deny(:'token', client => '192.168.0.1');
SELECT pg_temp.deny(:'token', client => NULL);
SELECT pg_temp.deny(regexp_replace(:'token', '[^.]+$', repeat('A', 86)));
SET apikey.environments = 'test';
SELECT pg_temp.deny(:'token');
RESET apikey.environments;
SELECT apikey.disable(:'key_id');
SELECT pg_temp.deny(:'token');
SELECT apikey.enable(:'key_id');
SELECT expires_at AS expiry FROM apikey.key WHERE key_id = :'key_id' \gset
CALL pg_temp.expires_in(:'key_id', '0');
SELECT pg_temp.deny(:'token');
UPDATE apikey.key SET expires_at = :'expiry' WHERE key_id = :'key_id';
SELECT token AS next_token FROM apikey.refresh(:'token') \gset
CALL pg_temp.end_grace(:'key_id');
SELECT pg_temp.deny(:'token');
CREATE TEMP TABLE state AS SELECT pg_temp.left(:'next_token', '10.0.0.1') AS still;
SELECT already FROM apikey.revoke(:'key_id');
SELECT pg_temp.deny(:'next_token');
DELETE FROM apikey.key WHERE key_id = :'key_id';
SELECT pg_temp.deny(:'next_token');
SELECT code, rate FROM denied ORDER BY n;
TABLE state;

--
-- A key's own limit goes before its role's.
--
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT rate_remaining FROM apikey.validate(:'token');
UPDATE apikey.key SET rate_limit = 2 WHERE key_id = :'key_id';
-- The role's window, and so the count goes on.
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'token', cost => 0);
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'token');
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'token');
SELECT (pg_temp.timed(:'token', '31 days')).*;
-- A window of its own starts afresh.
UPDATE apikey.key SET rate_window = '7 days' WHERE key_id = :'key_id';
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'token');
SELECT (pg_temp.timed(:'token', '7 days')).*;
UPDATE apikey.key SET rate_window = '1 day 01:01:01.000001' WHERE key_id = :'key_id';
SELECT (pg_temp.timed(:'token', '1 day 01:01:01.000001')).*;
UPDATE apikey.key SET rate_window = '1 mon' WHERE key_id = :'key_id';
SELECT (pg_temp.timed(:'token', '30 days')).*;
UPDATE apikey.key SET rate_limit = NULL, rate_window = NULL WHERE key_id = :'key_id';
SELECT rate_limit FROM apikey.validate(:'token');
-- Where the role has no limit, a key can have one; where the role has no window either, that is a minute.
SELECT * FROM apikey.issue('limits', 'unlimited') \gset
SELECT code, num_nonnulls(rate_limit, rate_remaining, rate_reset, retry_after) FROM apikey.validate(:'token');
SELECT code, num_nonnulls(rate_limit, rate_remaining, rate_reset, retry_after) FROM apikey.validate(:'token', cost => 2147483647);
UPDATE apikey.key SET rate_limit = 1000 WHERE key_id = :'key_id';
SELECT rate_limit FROM apikey.validate(:'token');
SELECT (pg_temp.timed(:'token', '1 minute')).*;
UPDATE apikey.key SET rate_limit = 9223372036854775807, rate_window = '31 days' WHERE key_id = :'key_id';
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 2147483647);
SELECT code, rate_remaining FROM apikey.validate(:'token', cost => 2147483647);

--
-- An edit of the role counts at once.
--
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT rate_limit, rate_remaining FROM apikey.validate(:'token', cost => 4);
UPDATE apikey.role SET rate_limit = 10 WHERE name = 'limited';
SELECT rate_limit, rate_remaining FROM apikey.validate(:'token', cost => 0);
UPDATE apikey.role SET rate_limit = 3 WHERE name = 'limited';
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'token');
BEGIN;
UPDATE apikey.role SET rate_limit = NULL WHERE name = 'limited';
SELECT code, rate_limit FROM apikey.validate(:'token');
ROLLBACK;
SELECT code, rate_limit FROM apikey.validate(:'token');
UPDATE apikey.role SET rate_limit = 5 WHERE name = 'limited';
SELECT code, rate_remaining FROM apikey.validate(:'token');
SELECT code, rate_remaining FROM apikey.validate(:'token');

--
-- The free tier: three requests for each client address, which nothing here must change for others.
--
BEGIN;
UPDATE apikey.role SET rate_limit = 3, rate_window = '31 days' WHERE name = 'free';
CREATE FUNCTION pg_temp.anonymous(client inet, permission text DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', code, rate_remaining, detail ->> 'degraded_from') FROM apikey.validate(token, permission, client)
$$;
-- Off, unless somebody turns it on.
SELECT code, role, rate_limit FROM apikey.validate(NULL, 'chat:read', '192.0.2.1');
SET LOCAL apikey.free_tier_on_failure = on;
SELECT code, role, rate_limit FROM apikey.validate(NULL, 'chat:read', '192.0.2.1');
SET LOCAL apikey.free_tier_on_failure = off;
SET LOCAL apikey.free_tier = on;
SELECT code, http_status, valid, key_id, generation, owner, role, permissions, environment, metadata, expires_at, refresh_due, rate_limit, rate_remaining, retry_after, detail
  FROM apikey.validate(NULL, 'chat:read', '192.0.2.1');
SELECT code, role, rate_remaining, detail FROM apikey.validate(NULL, 'chat:write', '192.0.2.1');
SELECT code, role FROM apikey.validate('hunter2', 'chat:read', '192.0.2.1');
SELECT apikey.check_token(NULL, 'chat:read', '192.0.2.1'), apikey.check_token('hunter2', 'chat:read', '192.0.2.1');
SELECT (apikey.require(NULL, NULL, '192.0.2.1')).rate_remaining;
SELECT code, http_status, role, rate_remaining, retry_after > rate_reset AS retry_after, detail - 'retry_after' AS detail FROM apikey.validate(NULL, NULL, '192.0.2.1');
SELECT pg_temp.attempt('SELECT apikey.require(NULL, NULL, ''192.0.2.1'')'), apikey.check_token(NULL, NULL, '192.0.2.1');
SELECT code, retry_after, detail FROM apikey.validate(NULL, NULL, '192.0.2.2', 4);
-- IPv4 by the address, whatever its netmask, and mapped into IPv6 or not.
SELECT pg_temp.anonymous(c) FROM unnest('{192.0.2.2,192.0.2.2/24,::ffff:192.0.2.2,192.0.2.3,192.0.2.2}'::inet[]) WITH ORDINALITY u (c, n) ORDER BY n;
-- Likewise what embeds an IPv4 address: each of these is the 192.0.2.9 of another way to translate or to tunnel.
SELECT pg_temp.anonymous(c) FROM unnest('{64:ff9b::192.0.2.9,64:ff9b:1::192.0.2.9,2002:c000:209:7::1,2001:0:4136:e378:8000:63bf:3fff:fdf6,192.0.2.9}'::inet[]) WITH ORDINALITY u (c, n) ORDER BY n;
SELECT pg_temp.anonymous(c) FROM unnest('{64:ff9b::192.0.2.10,64:ff9b:1::192.0.2.11,2002:c000:20c:7::1,2001:0:4136:e378:8000:63bf:3fff:fdf2}'::inet[]) WITH ORDINALITY u (c, n) ORDER BY n;
-- IPv6 by the /64.
SELECT pg_temp.anonymous(c) FROM unnest('{2001:db8::1,2001:db8::ffff:ffff:ffff:ffff,2001:db8:0:1::1,2001:db8::1/32,2001:db8::2}'::inet[]) WITH ORDINALITY u (c, n) ORDER BY n;
-- All that give no address share one bucket, which is none of the others: not 0.0.0.0, not ::.
SELECT pg_temp.anonymous(c) FROM unnest('{NULL,NULL,0.0.0.0,::,NULL,NULL}'::inet[]) WITH ORDINALITY u (c, n) ORDER BY n;
-- A key's limit and its client's are apart.
SELECT token AS keyed FROM apikey.issue('limits', 'limited') \gset
SELECT code, rate_limit, rate_remaining FROM apikey.validate(:'keyed', NULL, '192.0.2.1');
-- Without a limit it has none.
UPDATE apikey.role SET rate_limit = NULL WHERE name = 'free';
SELECT code, num_nonnulls(rate_limit, rate_remaining, rate_reset, retry_after) FROM apikey.validate(NULL, NULL, '192.0.2.1');
UPDATE apikey.role SET rate_limit = 3 WHERE name = 'free';
SELECT pg_temp.anonymous('192.0.2.1');

-- On failure: only what is no more than a bad token. A key that somebody has revoked or disabled stays out.
CREATE TEMP TABLE sample (n serial, name text, token text, permission text);
INSERT INTO sample (name, token) VALUES ('no token', NULL), ('not a token', 'hunter2');
SELECT * FROM apikey.issue('limits', 'limited') \gset
DELETE FROM apikey.key WHERE key_id = :'key_id';
INSERT INTO sample (name, token) VALUES ('unknown key', :'token');
SELECT * FROM apikey.issue('limits', 'limited') \gset
INSERT INTO sample (name, token) VALUES ('other signature', regexp_replace(:'token', '[^.]+$', repeat('A', 86)));
SELECT * FROM apikey.issue('limits', 'limited') \gset
CALL pg_temp.expires_in(:'key_id', '0');
INSERT INTO sample (name, token) VALUES ('expired', :'token');
SELECT * FROM apikey.issue('limits', 'limited', ttl => '1 hour') \gset
SELECT generation FROM apikey.refresh(:'token');
UPDATE apikey.key SET previous_valid_until = now() WHERE key_id = :'key_id';
INSERT INTO sample (name, token) VALUES ('superseded', :'token');
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT already FROM apikey.revoke(:'key_id');
INSERT INTO sample (name, token) VALUES ('revoked', :'token');
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT apikey.disable(:'key_id');
INSERT INTO sample (name, token) VALUES ('disabled', :'token');
INSERT INTO sample (name, token) SELECT 'other client', token FROM apikey.issue('limits', 'limited', allowed_cidrs => '{10.0.0.0/24}');
INSERT INTO sample (name, token, permission) SELECT 'permission', token, 'dataset:read' FROM apikey.issue('limits', 'limited');
SELECT * FROM apikey.issue('limits', 'limited') \gset
UPDATE apikey.key SET master_key_fingerprint = '\x0000000000000000' WHERE key_id = :'key_id';
INSERT INTO sample (name, token) VALUES ('other master key', :'token');
SELECT * FROM apikey.issue('limits', 'limited') \gset
SELECT code FROM apikey.validate(:'token', cost => 5);
INSERT INTO sample (name, token) VALUES ('rate limit', :'token');
SELECT name, code, role FROM sample, apikey.validate(token, coalesce(permission, 'chat:read'), ('198.51.100.' || n)::inet) ORDER BY n;
SET LOCAL apikey.free_tier_on_failure = on;
SELECT name, code, role, rate_remaining, detail ->> 'degraded_from' AS degraded_from, num_nonnulls(key_id, generation, owner, v.expires_at) AS of_key
  FROM sample, apikey.validate(token, coalesce(permission, 'chat:read'), ('198.51.100.' || n)::inet) v ORDER BY n;
SET LOCAL apikey.free_tier = off;
SELECT name, code, rate_remaining FROM sample, apikey.validate(token, coalesce(permission, 'chat:read'), ('198.51.100.' || n)::inet) ORDER BY n LIMIT 2;
-- The rescued are limited as any other: the verdict is about the address then, and keeps what is wrong with the token.
SELECT pg_temp.anonymous('198.51.100.2', 'chat:read', 'hunter2');
SELECT pg_temp.anonymous('198.51.100.2', 'chat:read', 'hunter2');
SELECT code, http_status, role, detail - 'retry_after' AS detail FROM apikey.validate('hunter2', 'chat:read', '198.51.100.2');
SELECT code, role, detail FROM apikey.validate('hunter2', 'chat:write', '198.51.100.99');
SELECT pg_temp.attempt_detail('SELECT apikey.require(''hunter2'', ''chat:read'', ''198.51.100.2'')') - 'retry_after' AS require;
ROLLBACK;
SHOW apikey.free_tier;
SELECT code FROM apikey.validate(NULL, NULL, '192.0.2.1');

DELETE FROM apikey.key WHERE owner = 'limits';
DELETE FROM apikey.role WHERE name IN ('limited', 'unlimited');
