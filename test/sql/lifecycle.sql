-- The life of a key from issue to revocation, in both formats and all algorithms. Time passes by edits of the row: a test never waits.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET TIME ZONE 'UTC';
SELECT apikey.rotate_signing_key() AS kid \gset

--
-- Issue, with nothing but an owner
--
SELECT * FROM apikey.issue('life') \gset jwt_
SELECT :'jwt_generation' AS generation, :'jwt_owner' AS owner, :'jwt_role' AS role,
       :'jwt_issued_at'::timestamptz BETWEEN now() - interval '1 minute' AND now() AS issued_now,
       :'jwt_expires_at'::timestamptz - :'jwt_issued_at' AS ttl,
       :'jwt_expires_at'::timestamptz - :'jwt_refresh_after' AS refresh_window,
       substr(:'jwt_key_id', 15, 1) AS uuid_version;

-- The token: header in its fixed order, claims of the key and no others, times in whole seconds.
SELECT pg_temp.jwt_part(:'jwt_token', 1) = format('{"typ":"apikey+jwt","alg":"EdDSA","kid":"%s"}', :'kid') AS header,
       left(:'jwt_token', 24) AS beginning;
SELECT key AS claim, CASE key
           WHEN 'jti' THEN to_jsonb(value #>> '{}' = :'jwt_key_id' || '.1')
           WHEN 'iat' THEN to_jsonb(value::text::bigint = floor(extract(epoch FROM :'jwt_issued_at'::timestamptz)))
           WHEN 'exp' THEN to_jsonb(value::text::bigint = floor(extract(epoch FROM :'jwt_expires_at'::timestamptz)))
           WHEN 'nonce' THEN to_jsonb(value #>> '{}' ~ '^[A-Za-z0-9_-]{22}$')
           ELSE value::jsonb END AS value_or_is_right
  FROM json_each(pg_temp.jwt_part(:'jwt_token', 2)::json) WITH ORDINALITY ORDER BY ordinality;

-- The verdict: every column.
SELECT valid, code, http_status, message, key_id = :'jwt_key_id' AS key_id, generation, owner, role, permissions
  FROM apikey.validate(:'jwt_token');
SELECT environment, metadata, expires_at = :'jwt_expires_at' AS expires_at, refresh_due,
       num_nulls(rate_limit, rate_remaining, rate_reset, retry_after, detail) AS nulls
  FROM apikey.validate(:'jwt_token');
SELECT apikey.check_token(:'jwt_token') AS checked,
       (SELECT to_jsonb(r) - '{rate_remaining,rate_reset}'::text[] FROM apikey.require(:'jwt_token') r)
     = (SELECT to_jsonb(v) - '{rate_remaining,rate_reset}'::text[] FROM apikey.validate(:'jwt_token') v) AS require_returns_the_verdict;

--
-- Issue, with everything said
--
SELECT * FROM apikey.issue('life', 'Node-Operator', name => 'ci', ttl => '36 hours', permissions => '{chat:read,node:*}', environment => 'test',
    format => 'opaque', allowed_cidrs => '{10.0.0.0/8,::1}', metadata => '{"team": "search"}') \gset full_
SELECT :'full_token' ~ '^ak_test_[0-9A-Za-z]{27}_[0-9A-Za-z]{49}$' AS token, :'full_role' AS role,
       :'full_expires_at'::timestamptz - :'full_issued_at' AS ttl, :'full_expires_at'::timestamptz - :'full_refresh_after' AS refresh_window;
SELECT code, generation, owner, role, permissions, environment, metadata FROM apikey.validate(:'full_token', 'node:start', '10.1.2.3');
SELECT name, state, format, environment, permissions, allowed_cidrs, metadata, kid, generation FROM apikey.keys WHERE key_id = :'full_key_id';

-- In a JWT the narrowing, the audience and the issuer are claims too.
SET apikey.issuer = 'https://keys.example';
SET apikey.audience = 'gateways';
SELECT * FROM apikey.issue('life', permissions => '{chat:read}', environment => 'test') \gset
RESET apikey.issuer;
RESET apikey.audience;
SELECT (claims::jsonb - '{jti,iat,exp,nonce}'::text[]) AS claims FROM pg_temp.jwt_part(:'token', 2) claims;
SELECT code FROM apikey.validate(:'token');

-- A window that is longer than the key's life opens at its issue.
SELECT refresh_after = issued_at AS at_once FROM apikey.issue('life', ttl => '1 hour');

-- The format is the role's where none is asked for, and a NULL format is the role's as well.
INSERT INTO apikey.role (name, ttl, refresh_window, permissions, format) VALUES ('life_role', '10 days', '1 hour', '{chat:read}', 'opaque');
SELECT left(a.token, 8) AS by_role, left(b.token, 8) AS by_null, left(c.token, 8) AS by_argument
  FROM apikey.issue('life', 'life_role') a, apikey.issue('life', 'life_role', format => NULL) b, apikey.issue('life', 'life_role', format => 'jwt') c;

--
-- The refresh window
--
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'jwt_token'));
SELECT detail - 'key_id' - 'refresh_after' - 'expires_at' AS detail, detail ->> 'key_id' = :'jwt_key_id' AS key_id,
       (detail ->> 'refresh_after')::timestamptz = :'jwt_refresh_after' AS refresh_after,
       (detail ->> 'expires_at')::timestamptz = :'jwt_expires_at' AS expires_at
  FROM pg_temp.attempt_detail(format('SELECT apikey.refresh(%L)', :'jwt_token')) detail;
-- A minute before it opens, and when it is just open: refresh_due says the same as refresh().
CALL pg_temp.expires_in(:'jwt_key_id', '24 hours 1 minute');
SELECT code, refresh_due FROM apikey.validate(:'jwt_token');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'jwt_token'));
CALL pg_temp.expires_in(:'jwt_key_id', '24 hours');
SELECT code, refresh_due FROM apikey.validate(:'jwt_token');
BEGIN;
SELECT generation FROM apikey.refresh(:'jwt_token');
ROLLBACK;
-- Just closed.
CALL pg_temp.expires_in(:'jwt_key_id', '0');
SELECT code, refresh_due FROM apikey.validate(:'jwt_token');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'jwt_token'));
SELECT detail ? 'expired_at' AS says_when FROM pg_temp.attempt_detail(format('SELECT apikey.refresh(%L)', :'jwt_token')) detail;

--
-- Refresh, the grace, and what comes after it
--
CALL pg_temp.expires_in(:'jwt_key_id', '1 hour');
SELECT * FROM apikey.refresh(:'jwt_token') \gset second_
SELECT :'second_key_id' = :'jwt_key_id' AS same_key, :'second_generation' AS generation, :'second_token' <> :'jwt_token' AS new_token,
       :'second_expires_at'::timestamptz - :'second_issued_at' AS ttl, :'second_owner' AS owner, :'second_role' AS role,
       :'second_expires_at'::timestamptz - :'second_refresh_after' AS refresh_window;
-- Both validate, each as its own generation; the one before does until the end of the grace and is told to change over.
SELECT code, generation, refresh_due, expires_at - :'second_issued_at' AS valid_for FROM apikey.validate(:'jwt_token');
SELECT code, generation, refresh_due, expires_at - :'second_issued_at' AS valid_for FROM apikey.validate(:'second_token');
-- Refreshing the previous token again gives the very same successor, and adds no generation.
SELECT token = :'second_token' AS same, generation, issued_at = :'second_issued_at' AS issued_at, expires_at = :'second_expires_at' AS expires_at,
       refresh_after = :'second_refresh_after' AS refresh_after
  FROM apikey.refresh(:'jwt_token');
SELECT generation FROM apikey.key WHERE key_id = :'jwt_key_id';
-- The new one has its own window.
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'second_token'));
-- The previous token never outlives its own expiry, however long the grace.
BEGIN;
UPDATE apikey.key SET previous_expires_at = now() WHERE key_id = :'jwt_key_id';
SELECT code FROM apikey.validate(:'jwt_token');
ROLLBACK;
-- After the grace.
CALL pg_temp.end_grace(:'jwt_key_id');
SELECT valid, code, http_status, generation, refresh_due, detail FROM apikey.validate(:'jwt_token');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'jwt_token'));
SELECT detail - 'key_id' AS detail FROM pg_temp.attempt_detail(format('SELECT apikey.refresh(%L)', :'jwt_token')) detail;
SELECT code FROM apikey.validate(:'second_token');

-- One more refresh: the first token is then two generations old, and proves itself by its signature alone.
CALL pg_temp.expires_in(:'jwt_key_id', '1 hour');
SELECT * FROM apikey.refresh(:'second_token') \gset third_
SELECT v.code, v.generation FROM unnest(ARRAY[:'jwt_token', :'second_token', :'third_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'jwt_token'));

-- With no grace at all the previous token ends with the refresh.
SET apikey.refresh_grace = 0;
CALL pg_temp.expires_in(:'jwt_key_id', '1 hour');
SELECT * FROM apikey.refresh(:'third_token') \gset fourth_
SELECT v.code, v.generation FROM unnest(ARRAY[:'third_token', :'fourth_token']) t, apikey.validate(t) v;
RESET apikey.refresh_grace;

-- A successor that cannot be made again, since the row was edited: the second caller is told which generation is in force.
CALL pg_temp.expires_in(:'jwt_key_id', '1 hour');
SELECT generation FROM apikey.refresh(:'fourth_token');
UPDATE apikey.key SET environment = 'other' WHERE key_id = :'jwt_key_id';
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'fourth_token'));
SELECT detail - 'key_id' AS detail FROM pg_temp.attempt_detail(format('SELECT apikey.refresh(%L)', :'fourth_token')) detail;

-- Opaque: a fresh secret each time, so never the same successor twice; the grace works all the same.
SELECT * FROM apikey.issue('life', format => 'opaque') \gset opaque_
SELECT valid, code, generation, owner, role, permissions, environment, refresh_due FROM apikey.validate(:'opaque_token');
CALL pg_temp.expires_in(:'opaque_key_id', '1 hour');
SELECT * FROM apikey.refresh(:'opaque_token') \gset opaque2_
SELECT v.code, v.generation, v.refresh_due FROM unnest(ARRAY[:'opaque_token', :'opaque2_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'opaque_token'));
CALL pg_temp.end_grace(:'opaque_key_id');
SELECT code, detail FROM apikey.validate(:'opaque_token');
CALL pg_temp.expires_in(:'opaque_key_id', '1 hour');
SELECT * FROM apikey.refresh(:'opaque2_token') \gset opaque3_
-- Two generations old: no hash is left that could prove it.
SELECT v.code, v.generation, v.detail FROM unnest(ARRAY[:'opaque_token', :'opaque2_token', :'opaque3_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'opaque_token'));

-- The next generation lives as long as the key was asked to, else as long as its role says now.
SELECT * FROM apikey.issue('life', 'life_role', ttl => '2 days') \gset own_
SELECT * FROM apikey.issue('life', 'life_role') \gset role_
UPDATE apikey.role SET ttl = '20 days', refresh_window = '20 days' WHERE name = 'life_role';
SELECT expires_at - issued_at AS own_ttl FROM apikey.refresh(:'own_token');
SELECT expires_at - issued_at AS role_ttl FROM apikey.refresh(:'role_token');

-- The role itself may change under a live key: the verdict and the successor follow it.
SELECT * FROM apikey.issue('life', 'life_role', format => 'jwt') \gset
UPDATE apikey.key SET role = 'contributor' WHERE key_id = :'key_id';
SELECT role, permissions FROM apikey.validate(:'token');
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT role, expires_at - issued_at AS ttl, pg_temp.jwt_part(token, 2)::json ->> 'role' AS claim FROM apikey.refresh(:'token');

--
-- Hashes keep up with the setting
--
SELECT * FROM apikey.issue('life') \gset
SELECT token_iterations FROM apikey.key WHERE key_id = :'key_id';
ALTER SYSTEM SET apikey.pbkdf2_iterations = 12345;
SELECT pg_reload_conf();
\c -
\set ECHO none
\i :helpers
\set ECHO all
SET TIME ZONE 'UTC';
SHOW apikey.pbkdf2_iterations;
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT previous_iterations, token_iterations FROM apikey.key WHERE key_id = :'key_id';
SELECT v.code, v.generation FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
ALTER SYSTEM RESET apikey.pbkdf2_iterations;
SELECT pg_reload_conf();

--
-- Signing keys change in between
--
SELECT * FROM apikey.issue('life') \gset
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT apikey.rotate_signing_key() AS new_kid \gset
SELECT code AS of_the_old_key FROM apikey.validate(:'token');
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT pg_temp.jwt_part(:'token', 1)::json ->> 'kid' = :'kid' AS old_kid, pg_temp.jwt_part(:'next_token', 1)::json ->> 'kid' = :'new_kid' AS new_kid,
       kid = :'new_kid' AND previous_kid = :'kid' AS row FROM apikey.key WHERE key_id = :'key_id';
SELECT v.code, v.generation FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
-- A rotation after the refresh does not change what the successor is.
SELECT apikey.rotate_signing_key('ES256') AS es256 \gset
SELECT token = :'next_token' AS same FROM apikey.refresh(:'token');

-- ES256: valid, but signed anew each time, so that the successor cannot be made again.
SELECT * FROM apikey.issue('life') \gset
SELECT pg_temp.jwt_part(:'token', 1) = format('{"typ":"apikey+jwt","alg":"ES256","kid":"%s"}', :'es256') AS header, code FROM apikey.validate(:'token');
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT v.code, v.generation FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'token'));

-- HS256: deterministic, so the same successor.
SELECT apikey.rotate_signing_key('HS256') AS hs256 \gset
SELECT * FROM apikey.issue('life') \gset
SELECT pg_temp.jwt_part(:'token', 1) = format('{"typ":"apikey+jwt","alg":"HS256","kid":"%s"}', :'hs256') AS header, code FROM apikey.validate(:'token');
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT token = :'next_token' AS same FROM apikey.refresh(:'token');
SELECT v.code, v.generation FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
-- Two generations old, by an HMAC alone.
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT generation FROM apikey.refresh(:'next_token');
SELECT code, generation FROM apikey.validate(:'token');
SELECT apikey.rotate_signing_key() <> :'hs256' AS back_to_eddsa;

--
-- Disable, enable, revoke
--
SELECT * FROM apikey.issue('life') \gset
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset next_
SELECT apikey.disable(:'key_id', 'under suspicion');
SELECT v.code, v.http_status, v.detail ? 'disabled_at' AS says_when FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'token'));
SELECT state, disabled_at IS NOT NULL AS disabled_at, disabled_reason FROM apikey.keys WHERE key_id = :'key_id';
SELECT apikey.disable(:'key_id', 'again');
SELECT disabled_reason FROM apikey.keys WHERE key_id = :'key_id';
SELECT apikey.enable(:'token');
SELECT apikey.enable(:'key_id');
SELECT v.code FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
SELECT state, disabled_at, disabled_reason FROM apikey.keys WHERE key_id = :'key_id';

SELECT key_id = :'key_id' AS key_id, revoked_at <= clock_timestamp() AS revoked_at, already, receipt = pg_current_xact_id() AS receipt
  FROM apikey.revoke(:'key_id', 'KEY_COMPROMISE');
SELECT v.valid, v.code, v.http_status, v.generation, v.detail - 'revoked_at' AS detail
  FROM unnest(ARRAY[:'token', :'next_token']) t, apikey.validate(t) v;
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', t)) FROM unnest(ARRAY[:'token', :'next_token']) t;
-- Again, with another reason: the first one stands, and the receipt is this transaction's.
SELECT already, r.revoked_at = k.revoked_at AS same_time, k.revocation_reason, receipt = pg_current_xact_id() AS receipt
  FROM apikey.revoke(upper(:'key_id'), 'SUPERSEDED') r JOIN apikey.key k USING (key_id);
SELECT already FROM apikey.revoke(:'token');

-- By a token: the current one, or one whose grace is over, of a key that has expired; but its signature alone is not proof enough.
SELECT * FROM apikey.issue('life') \gset
SELECT key_id = :'key_id' AS key_id, already FROM apikey.revoke(:'token');
SELECT code FROM apikey.validate(:'token');
SELECT * FROM apikey.issue('life') \gset
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset next_
CALL pg_temp.end_grace(:'key_id');
CALL pg_temp.expires_in(:'key_id', '0');
SELECT code FROM apikey.validate(:'token');
SELECT key_id = :'key_id' AS key_id, already FROM apikey.revoke_token(:'token', 'SUPERSEDED');
SELECT code, detail ->> 'reason' AS reason FROM apikey.validate(:'next_token');
SELECT pg_temp.attempt(format('SELECT apikey.revoke_token(%L)', :'jwt_token'));
SELECT state FROM apikey.keys WHERE key_id = :'jwt_key_id';

-- An owner's keys, all at once: those already revoked are not counted.
SELECT count(*) AS issued FROM generate_series(1, 3) n, apikey.issue('life owner', name => n::text);
SELECT already FROM apikey.keys k, apikey.revoke(k.key_id::text) WHERE k.owner = 'life owner' AND name = '1';
SELECT apikey.disable(key_id::text) FROM apikey.keys WHERE owner = 'life owner' AND name = '2';
SELECT apikey.revoke_owner('life owner', 'AFFILIATION_CHANGED') AS revoked, apikey.revoke_owner('life owner') AS again, apikey.revoke_owner('nobody') AS nobody;
SELECT name, state, revocation_reason FROM apikey.keys WHERE owner = 'life owner' ORDER BY name;

-- What the audit trail has of one key's life.
SELECT event, generation, code, detail - '{kid,expires_at,previous_valid_until}'::text[] AS detail
  FROM apikey.audit_event WHERE key_id = :'full_key_id' OR (key_id = :'opaque_key_id' AND event <> 'changed') ORDER BY key_id = :'full_key_id', at;

DELETE FROM apikey.key WHERE owner IN ('life', 'life owner');
DELETE FROM apikey.role WHERE name = 'life_role';
