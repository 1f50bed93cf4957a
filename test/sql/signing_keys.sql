-- The life of a signing key: pending, active, verify_only, retired; what jwks() publishes of it; what dies with it.
\set start_database :DBNAME
CREATE DATABASE regress_apikey_signing;
\c regress_apikey_signing
CREATE EXTENSION apikey;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- The install script makes none. The first issue does.
SELECT apikey.jwks(), (SELECT count(*) FROM apikey.signing_key) AS keys;
SELECT * FROM apikey.issue('signing') \gset first_
SELECT kid AS first, algorithm, state, activated_at IS NOT NULL AS activated, verify_only_at, retired_at, octet_length(public_key) AS public_key,
       octet_length(private_key) AS nonce_sealed_and_tag FROM apikey.signing_key \gset k_
SELECT :'k_algorithm' AS algorithm, :'k_state' AS state, :'k_activated' AS activated, :'k_public_key' AS public_key, :'k_nonce_sealed_and_tag' AS nonce_sealed_and_tag;
-- Sealed under the master key that hashes are made under; not the seed itself, nor twice the same.
SELECT s.master_key_fingerprint = k.master_key_fingerprint AS same_master_key, position(s.public_key IN s.private_key) AS public_in_private
  FROM apikey.signing_key s, apikey.key k;

-- Rotation: the one before verifies on, and there is one active key at any time.
SELECT apikey.rotate_signing_key() AS second \gset
SELECT kid = :'k_first' AS first, kid = :'second' AS second, state, verify_only_at IS NOT NULL AS verify_only_at FROM apikey.signing_key ORDER BY created_at;
SELECT pg_temp.jwt_part(token, 1)::json ->> 'kid' = :'second' AS signed_by_second, v.code AS first_key FROM apikey.issue('signing'), apikey.validate(:'first_token') v;
SELECT pg_temp.attempt('INSERT INTO apikey.signing_key SELECT ''other'', algorithm, state, public_key, private_key, master_key_fingerprint FROM apikey.signing_key WHERE state = ''active''');

-- Staging: published before it is used, and used by the next rotation to its algorithm and no other.
SELECT apikey.stage_signing_key() AS staged \gset
SELECT state, activated_at FROM apikey.signing_key WHERE kid = :'staged';
SELECT jsonb_path_exists(apikey.jwks(), '$.keys[*] ? (@.kid == $kid)', jsonb_build_object('kid', :'staged')) AS published;
SELECT apikey.rotate_signing_key('ES256') AS es256 \gset
SELECT state FROM apikey.signing_key WHERE kid = :'staged';
SELECT apikey.rotate_signing_key() = :'staged' AS staged_is_used;
SELECT state, activated_at IS NOT NULL AS activated_at FROM apikey.signing_key WHERE kid = :'staged';
SELECT apikey.stage_signing_key('HS256') AS staged_hs256 \gset
SELECT apikey.rotate_signing_key('HS256') = :'staged_hs256' AS staged_is_used;
SELECT apikey.rotate_signing_key() AS last \gset

-- jwks(): public halves, newest first, of all but retired keys, and never HS256.
SELECT jwk - '{kid,x,y}'::text[] AS jwk, s.state, jwk ->> 'kid' = s.kid AS kid,
       jwk ->> 'x' = pg_temp.base64url(CASE s.algorithm WHEN 'ES256' THEN substr(s.public_key, 2, 32) ELSE s.public_key END) AS x,
       jwk ->> 'y' = pg_temp.base64url(CASE s.algorithm WHEN 'ES256' THEN substr(s.public_key, 34) END) AS y
  FROM jsonb_array_elements(apikey.jwks() -> 'keys') WITH ORDINALITY j(jwk, n) JOIN apikey.signing_key s ON s.kid = jwk ->> 'kid' ORDER BY n;
SELECT count(*) AS hs256, count(public_key) AS public FROM apikey.signing_key WHERE algorithm = 'HS256';

-- States go forward only. Each transition that is tried in turn, and whether it is refused.
CREATE PROCEDURE pg_temp.try(state text, wanted text) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE apikey.signing_key s SET state = wanted WHERE s.kid = (SELECT k.kid FROM apikey.signing_key k WHERE k.state = try.state LIMIT 1);
    IF NOT FOUND THEN
        RAISE 'there is no % key', state;
    END IF;
    RAISE NOTICE '% to %: done', state, wanted;
    RAISE SQLSTATE 'ZZ000';
EXCEPTION
    WHEN SQLSTATE 'ZZ000' THEN NULL;
    WHEN object_not_in_prerequisite_state THEN RAISE NOTICE '% to %: refused', state, wanted;
    WHEN unique_violation THEN RAISE NOTICE '% to %: there is one already', state, wanted;
END
$$;
SELECT kid AS spare FROM apikey.stage_signing_key() kid \gset
SELECT apikey.stage_signing_key() AS to_retire \gset
UPDATE apikey.signing_key SET state = 'retired' WHERE kid = :'to_retire';
SELECT format('CALL pg_temp.try(%L, %L)', state, wanted)
  FROM unnest('{pending,active,verify_only,retired}'::text[]) WITH ORDINALITY a(state, i), unnest('{pending,active,verify_only,retired,nonsense}'::text[]) WITH ORDINALITY b(wanted, j)
 WHERE state <> wanted ORDER BY i, j
\set ECHO none
\gexec
\set ECHO all
SELECT pg_temp.attempt('UPDATE apikey.signing_key SET state = ''verify_only'' WHERE state = ''retired''') LIKE '55000: signing key "%" cannot go from retired to verify\_only '
       '(The order is pending, active, verify_only, retired; rotate_signing_key() takes the active key out of use.)' AS says_the_order;

-- Key material never changes.
SELECT c AS "column", pg_temp.attempt(format('UPDATE apikey.signing_key SET %I = %s WHERE kid = %L', c, v, :'spare'))
  FROM (VALUES ('kid', '''x'''), ('algorithm', '''ES256'''), ('public_key', '''\x00'''), ('private_key', '''\x00'''), ('master_key_fingerprint', '''\x0000000000000000'''),
        ('created_at', '''2020-01-01''')) u(c, v);
-- Only a retired key that signed nothing that is kept can be deleted; TRUNCATE never.
SELECT replace(pg_temp.attempt(format('DELETE FROM apikey.signing_key WHERE kid = %L', kid)), kid, '...') FROM apikey.signing_key WHERE state <> 'retired' GROUP BY 1 ORDER BY 1;
DELETE FROM apikey.signing_key WHERE kid = :'to_retire';
SELECT count(*) FROM apikey.signing_key WHERE kid = :'to_retire';
SET client_min_messages TO warning;
SELECT pg_temp.attempt('TRUNCATE apikey.signing_key CASCADE');
RESET client_min_messages;

--
-- Retiring
--
-- On the last key: one live key, one refreshed whose previous token is in its grace, one past its grace, one revoked, one expired, one opaque.
SELECT * FROM apikey.issue('live') \gset live_
SELECT * FROM apikey.issue('refreshed', ttl => '1 hour') \gset refreshed_
SELECT * FROM apikey.issue('past', ttl => '1 hour') \gset past_
SELECT * FROM apikey.issue('revoked') \gset revoked_
SELECT already FROM apikey.revoke(:'revoked_key_id', 'KEY_COMPROMISE');
SELECT * FROM apikey.issue('expired') \gset expired_
CALL pg_temp.expires_in(:'expired_key_id', '0');
SELECT * FROM apikey.issue('disabled') \gset disabled_
SELECT apikey.disable(:'disabled_key_id');
SELECT * FROM apikey.issue('opaque', format => 'opaque') \gset opaque_
SELECT replace(pg_temp.attempt(format('SELECT apikey.retire_signing_key(%L, confirm => true)', :'last')), :'last', '...');
SELECT apikey.rotate_signing_key() AS next \gset
SELECT * FROM apikey.refresh(:'refreshed_token') \gset successor_
SELECT generation FROM apikey.refresh(:'past_token');
CALL pg_temp.end_grace(:'past_key_id');

-- Without confirm it only lists what would die.
SELECT owner, generation, key_id IN (:'live_key_id', :'refreshed_key_id', :'disabled_key_id') AS key_id, expires_at > now() AS live FROM apikey.retire_signing_key(:'last') ORDER BY owner;
SELECT state FROM apikey.signing_key WHERE kid = :'last';
SELECT code FROM apikey.validate(:'live_token');
-- In an older snapshot it would miss what others have just issued.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.attempt(format('SELECT apikey.retire_signing_key(%L, confirm => true)', :'last'));
SELECT pg_temp.attempt(format('UPDATE apikey.signing_key SET state = ''retired'' WHERE kid = %L', :'last'));
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.attempt(format('SELECT apikey.retire_signing_key(%L, confirm => true)', :'last'));
SELECT count(*) AS listed FROM apikey.retire_signing_key(:'last');
ROLLBACK;

-- With it, the same list, and it is so: for the function as for an admin's UPDATE.
CREATE VIEW pg_temp.after AS
    SELECT n AS name, v.code, v.generation, v.detail ->> 'reason' AS reason FROM unnest(
        ARRAY['live', 'refreshed', 'its successor', 'past its grace', 'revoked', 'expired', 'disabled', 'opaque'],
        ARRAY[:'live_token', :'refreshed_token', :'successor_token', :'past_token', :'revoked_token', :'expired_token', :'disabled_token', :'opaque_token'])
        WITH ORDINALITY u(n, t, i), apikey.validate(t) v ORDER BY i;
SELECT * FROM pg_temp.after;
BEGIN;
UPDATE apikey.signing_key SET state = 'retired' WHERE kid = :'last';
SELECT * FROM pg_temp.after;
ROLLBACK;
SELECT * FROM pg_temp.after WHERE name = 'live';
SELECT owner, generation FROM apikey.retire_signing_key(:'last', confirm => true) ORDER BY owner;
SELECT * FROM pg_temp.after;
SELECT state, retired_at IS NOT NULL AS retired_at, jsonb_path_exists(apikey.jwks(), '$.keys[*] ? (@.kid == $kid)', jsonb_build_object('kid', :'last')) AS published
  FROM apikey.signing_key WHERE kid = :'last';
SELECT owner, k.state, revocation_reason FROM apikey.key k WHERE kid = :'last' OR previous_kid = :'last' ORDER BY owner;
SELECT owner, r.generation, kind, effective_at <= clock_timestamp() AS effective
  FROM apikey.revocation r JOIN apikey.key k USING (key_id) WHERE k.kid = :'last' OR k.previous_kid = :'last' ORDER BY owner;
-- Once more there is nothing left to list, and it stays as long as keys name it.
SELECT count(*) FROM apikey.retire_signing_key(:'last', confirm => true);
SELECT pg_temp.attempt(format('DELETE FROM apikey.signing_key WHERE kid = %L', :'last')) ~ '^23503' AS referenced;

-- What was written about it.
SELECT event, count(*) FROM apikey.audit_event WHERE event LIKE 'signing_key%' GROUP BY 1 ORDER BY 1;
SELECT event, detail - 'kid' AS detail FROM apikey.audit_event WHERE detail ->> 'kid' = :'last' AND event LIKE 'signing_key%' ORDER BY at;

\c :start_database
DROP DATABASE regress_apikey_signing;
