-- Every code of a verdict that SQL can bring about, with its HTTP status, message and detail; and the order of the checks.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT apikey.rotate_signing_key() AS kid \gset
CREATE TEMP TABLE sample (n serial, name text, token text, permission text, client inet);

INSERT INTO sample (name, token, permission) SELECT 'valid', token, 'chat:read' FROM apikey.issue('codes');
INSERT INTO sample (name, token) VALUES ('no token', NULL), ('not a token', 'hunter2');

SELECT * FROM apikey.issue('codes') \gset
DELETE FROM apikey.key WHERE key_id = :'key_id';
INSERT INTO sample (name, token) VALUES ('unknown key', :'token');

SELECT * FROM apikey.issue('codes') \gset
INSERT INTO sample (name, token) VALUES ('other signature', regexp_replace(:'token', '[^.]+$', repeat('A', 86)));
SELECT * FROM apikey.issue('codes', format => 'opaque') \gset
INSERT INTO sample (name, token) VALUES ('other checksum', overlay(:'token' PLACING '000000' FROM length(:'token') - 5));

SELECT * FROM apikey.issue('codes') \gset
SELECT already FROM apikey.revoke(:'key_id', 'AFFILIATION_CHANGED');
INSERT INTO sample (name, token) VALUES ('revoked', :'token');

SELECT * FROM apikey.issue('codes') \gset
SELECT apikey.disable(:'key_id');
INSERT INTO sample (name, token) VALUES ('disabled', :'token');

SELECT * FROM apikey.issue('codes') \gset
CALL pg_temp.expires_in(:'key_id', '0');
INSERT INTO sample (name, token) VALUES ('expired', :'token');

SELECT * FROM apikey.issue('codes', ttl => '1 hour') \gset
SELECT generation FROM apikey.refresh(:'token');
CALL pg_temp.end_grace(:'key_id');
INSERT INTO sample (name, token) VALUES ('superseded', :'token');

INSERT INTO sample (name, token, client) SELECT 'other client', token, '10.0.1.1' FROM apikey.issue('codes', allowed_cidrs => '{10.0.0.0/24}');
INSERT INTO sample (name, token) SELECT 'client not told', token FROM apikey.issue('codes', allowed_cidrs => '{10.0.0.0/24}');
INSERT INTO sample (name, token) SELECT 'environment', token FROM apikey.issue('codes', environment => 'test');
SET apikey.environments = 'live, prod';

INSERT INTO sample (name, token, permission) SELECT 'permission', token, '(dataset:read | !chat:read) & chat:write' FROM apikey.issue('codes');

SELECT * FROM apikey.issue('codes') \gset
UPDATE apikey.key SET master_key_fingerprint = '\x0000000000000000' WHERE key_id = :'key_id';
INSERT INTO sample (name, token) VALUES ('other master key', :'token');

SELECT name, code, http_status, valid, message FROM sample, apikey.validate(token, permission, client) v ORDER BY n;
-- Detail says what a caller can act on; of times only that they are there.
SELECT name, (SELECT jsonb_object_agg(key, CASE WHEN key LIKE '%\_at' THEN to_jsonb(value #>> '{}' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$') ELSE value END)
                FROM jsonb_each(detail)) AS detail
  FROM sample, apikey.validate(token, permission, client) v ORDER BY n;
-- Only a token that has proven itself is told anything about its key.
SELECT name, num_nonnulls(key_id, generation, owner, role, permissions, environment, metadata, v.expires_at) AS known, refresh_due,
       num_nonnulls(rate_limit, rate_remaining, rate_reset, retry_after) AS rate
  FROM sample, apikey.validate(token, permission, client) v ORDER BY n;
-- check_token says the same; require raises PT and the status, with the code as message and the detail as JSON.
SELECT name, apikey.check_token(token, permission, client) AS checked,
       pg_temp.attempt(format('SELECT apikey.require(%L, %L, %L)', token, permission, client)) AS require
  FROM sample ORDER BY n;
SELECT name, pg_temp.attempt_detail(format('SELECT apikey.require(%L, %L, %L)', token, permission, client))
             = jsonb_build_object('code', code, 'message', message) || jsonb_strip_nulls(jsonb_build_object('key_id', v.key_id)) || coalesce(detail, '{}') AS detail
  FROM sample, apikey.validate(token, permission, client) v WHERE NOT valid ORDER BY n;

--
-- The order of checks. One more fault at each step, each one checked before all that were there already.
--
SET apikey.environments = '';
SELECT * FROM apikey.issue('codes', ttl => '1 hour', environment => 'test') \gset
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT code FROM apikey.validate(:'token', 'chat:read', '10.0.0.1');
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
SET apikey.environments = 'live';
SELECT code, detail ->> 'forbidden_by' AS by FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
UPDATE apikey.key SET allowed_cidrs = '{192.168.0.0/16}' WHERE key_id = :'key_id';
SELECT code, detail ->> 'forbidden_by' AS by FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
CALL pg_temp.end_grace(:'key_id');
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
UPDATE apikey.key SET previous_expires_at = now() WHERE key_id = :'key_id';
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
SELECT apikey.disable(:'key_id');
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
-- A signing key that is retired revokes what it signed and still lives. An expired key it leaves alone, so this one stays disabled.
CALL pg_temp.expires_in(:'key_id', '0');
SELECT apikey.rotate_signing_key() <> :'kid' AS rotated;
SELECT count(*) > 0 AS victims FROM apikey.retire_signing_key(:'kid', confirm => true);
SELECT state FROM apikey.key WHERE key_id = :'key_id';
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
SELECT already FROM apikey.revoke(:'key_id');
SELECT code FROM apikey.validate(:'token', 'admin:all', '10.0.0.1');
SELECT left(:'token', length(:'token') - 86) || repeat('A', 86) AS forged \gset
SELECT code FROM apikey.validate(:'forged', 'admin:all', '10.0.0.1');
-- Where the master key is another one, nothing can be proven either way.
BEGIN;
UPDATE apikey.key SET master_key_fingerprint = '\x0000000000000000' WHERE key_id = :'key_id';
SELECT code FROM apikey.validate(:'forged', 'admin:all', '10.0.0.1');
ROLLBACK;
DELETE FROM apikey.key WHERE key_id = :'key_id';
SELECT code FROM apikey.validate(:'forged', 'admin:all', '10.0.0.1');
SELECT code FROM apikey.validate(:'forged' || '.', 'admin:all', '10.0.0.1');
-- What the caller asks must make sense, however bad the token.
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, %L)', :'forged' || '.', 'not a permission'));
SELECT pg_temp.attempt(format('SELECT apikey.validate(NULL, cost => -1)'));

RESET apikey.environments;
DELETE FROM apikey.key WHERE owner = 'codes';
