-- The audit trail: each action leaves its event exactly once, with who, which key and why; a repetition that changes nothing leaves none;
-- nobody can take anything back.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT plan(54);

CREATE ROLE ak_audited;
CREATE ROLE ak_acting;
CREATE ROLE ak_login;
GRANT ak_acting TO ak_login;
SELECT apikey.grant_access('ak_acting', 'admin') \g /dev/null

-- The events since the last look, as text: event, generation, owner, code, and which of the keys below it names.
CREATE TEMP TABLE named (key_id uuid PRIMARY KEY, name text NOT NULL);
CREATE TEMP TABLE seen AS SELECT event_id FROM apikey.audit_event;
CREATE FUNCTION pg_temp.news() RETURNS SETOF text LANGUAGE sql AS $$
    WITH fresh AS (INSERT INTO pg_temp.seen SELECT a.event_id FROM apikey.audit_event a WHERE a.event_id NOT IN (SELECT s.event_id FROM pg_temp.seen s)
                   RETURNING event_id)
    SELECT concat_ws(' ', a.event, coalesce(n.name, a.key_id::text), a.generation, a.owner, a.code)
      FROM fresh f JOIN apikey.audit_event a USING (event_id) LEFT JOIN pg_temp.named n USING (key_id) ORDER BY a.at
$$;
-- Runs a statement, then compares.
CREATE FUNCTION pg_temp.leaves(statement text, wanted text[], description text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN is(ARRAY(SELECT pg_temp.news()), wanted, description);
END
$$;
CREATE FUNCTION pg_temp.id(wanted text) RETURNS text LANGUAGE sql AS 'SELECT n.key_id::text FROM pg_temp.named n WHERE n.name = wanted';

-- A key's life.
SELECT apikey.rotate_signing_key() \g /dev/null
SELECT pg_temp.news() \g /dev/null
CREATE TEMP TABLE held AS
    SELECT n.name, i.* FROM (VALUES ('jwt', 'jwt'), ('opaque', 'opaque')) n(name, format), apikey.issue('acme', ttl => '1 hour', format => n.format) i;
INSERT INTO named SELECT key_id, name FROM held;
SELECT is(ARRAY(SELECT pg_temp.news() ORDER BY 1), ARRAY['issued jwt 1 acme', 'issued opaque 1 acme'], 'issue() leaves one event for each key');
SELECT results_eq('SELECT a.actor = session_user, a.actor_role = current_user, a.client IS NULL, a.at BETWEEN now() AND clock_timestamp() FROM apikey.audit_event a JOIN held USING (key_id)',
    'VALUES (true, true, true, true), (true, true, true, true)', 'with who, from where and when');
SELECT results_eq($$SELECT a.detail ->> 'role', a.detail ->> 'format', a.detail ->> 'environment', a.detail ->> 'kid' = k.kid, (a.detail ->> 'expires_at')::timestamptz = k.expires_at
    FROM apikey.audit_event a JOIN apikey.key k USING (key_id) JOIN held h USING (key_id) WHERE h.name = 'jwt'$$,
    $$VALUES ('basic', 'jwt', 'live', true, true)$$, 'and what was issued');
CREATE TEMP TABLE idempotent AS SELECT i.key_id FROM apikey.issue('idem', idempotency_key => 'k') i;
INSERT INTO named SELECT key_id, 'idempotent' FROM idempotent;
SELECT is(ARRAY(SELECT pg_temp.news()), ARRAY['issued idempotent 1 idem'], 'an idempotency key leaves one event');
SELECT pg_temp.leaves('SELECT apikey.issue(''idem'', idempotency_key => ''k'')', '{}', 'its repetition none');

SELECT pg_temp.leaves('SELECT apikey.refresh(token) FROM held WHERE name = ''jwt''', '{refreshed jwt 2 acme}', 'refresh() leaves one event, with the new generation');
SELECT pg_temp.leaves('SELECT apikey.refresh(token) FROM held WHERE name = ''jwt''', '{}', 'the same successor again leaves none');
SELECT results_eq($$SELECT (a.detail ->> 'expires_at')::timestamptz = k.expires_at, (a.detail ->> 'previous_valid_until')::timestamptz = k.previous_valid_until
    FROM apikey.audit_event a JOIN apikey.key k USING (key_id) WHERE a.event = 'refreshed' AND k.owner = 'acme'$$, 'VALUES (true, true)', 'and with the dates that follow');

SELECT pg_temp.leaves('SELECT apikey.disable(pg_temp.id(''jwt''), ''odd traffic'')', '{disabled jwt 2 acme}', 'disable() leaves one event');
SELECT results_eq($$SELECT detail FROM apikey.audit_event WHERE event = 'disabled'$$, $$VALUES ('{"reason": "odd traffic"}'::jsonb)$$, 'with its reason');
SELECT pg_temp.leaves('SELECT apikey.disable(pg_temp.id(''jwt''))', '{}', 'disabling again leaves none');
SELECT pg_temp.leaves('SELECT apikey.enable(pg_temp.id(''jwt''))', '{enabled jwt 2 acme}', 'enable() leaves one event');
SELECT pg_temp.leaves('SELECT apikey.enable(pg_temp.id(''jwt''))', '{}', 'enabling again leaves none');
SELECT pg_temp.leaves('SELECT apikey.revoke(pg_temp.id(''jwt''), ''KEY_COMPROMISE'')', '{revoked jwt 2 acme KEY_COMPROMISE}', 'revoke() leaves one event, with the reason as code');
SELECT pg_temp.leaves('SELECT apikey.revoke(pg_temp.id(''jwt''), ''SUPERSEDED'')', '{}', 'revoking again leaves none');
SELECT pg_temp.leaves('SELECT apikey.revoke_token(token) FROM held WHERE name = ''opaque''', '{revoked opaque 1 acme UNSPECIFIED}', 'revoke_token() leaves one event');
SELECT pg_temp.leaves('SELECT apikey.revoke_owner(''idem'', ''AFFILIATION_CHANGED'')', '{revoked idempotent 1 idem AFFILIATION_CHANGED}', 'revoke_owner() leaves one event for each key');
SELECT pg_temp.leaves('SELECT apikey.revoke_owner(''idem'', ''AFFILIATION_CHANGED'')', '{}', 'and none for those revoked before');

-- Plain SQL.
CREATE TEMP TABLE plain AS SELECT n.name, i.key_id FROM unnest('{p1,p2}'::text[]) n(name), apikey.issue('plain', name => n.name) i;
INSERT INTO named SELECT key_id, name FROM plain;
SELECT pg_temp.news() \g /dev/null
SELECT pg_temp.leaves('UPDATE apikey.key SET state = ''disabled'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{disabled p1 1 plain}', 'UPDATE to disabled is recorded');
SELECT pg_temp.leaves('UPDATE apikey.key SET state = ''active'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{enabled p1 1 plain}', 'UPDATE to active is recorded');
SELECT pg_temp.leaves('UPDATE apikey.key SET name = ''renamed'', metadata = ''{"a": 1}'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{changed p1 1 plain}', 'an edit is recorded once');
SELECT results_eq($$SELECT detail FROM apikey.audit_event WHERE event = 'changed' AND key_id = pg_temp.id('p1')::uuid$$,
    $$VALUES ('{"name": {"old": "p1", "new": "renamed"}, "metadata": {"old": {}, "new": {"a": 1}}}'::jsonb)$$, 'with what it changed');
SELECT pg_temp.leaves('UPDATE apikey.key SET name = ''renamed'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{}', 'an edit that changes nothing is not');
SELECT pg_temp.leaves('UPDATE apikey.key SET token_hash = token_salt || token_salt, token_salt = substr(token_hash, 1, 16), token_tag = ''exchange'', token_iterations = 1
        WHERE key_id = pg_temp.id(''p2'')::uuid', '{changed p2 1 plain}', 'an exchanged hash is recorded');
SELECT results_eq($$SELECT detail FROM apikey.audit_event WHERE event = 'changed' AND key_id = pg_temp.id('p2')::uuid$$,
    $$VALUES ('{"token_hash": "changed"}'::jsonb)$$, 'but neither it, nor its salt or tag, is repeated');
SELECT pg_temp.leaves('UPDATE apikey.key SET state = ''revoked'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{revoked p1 1 plain UNSPECIFIED}', 'UPDATE to revoked is recorded');
SELECT pg_temp.leaves('DELETE FROM apikey.key WHERE key_id = pg_temp.id(''p2'')::uuid', '{deleted p2 1 plain}', 'DELETE is recorded');
SELECT results_eq($$SELECT detail ->> 'role', detail ->> 'state' FROM apikey.audit_event WHERE event = 'deleted'$$, $$VALUES ('basic', 'active')$$, 'with what was deleted');
SET LOCAL session_replication_role = replica;
SELECT pg_temp.leaves('UPDATE apikey.key SET owner = ''moved'' WHERE key_id = pg_temp.id(''p1'')::uuid', '{changed p1 1 moved}', 'session_replication_role = replica passes nothing by');
RESET session_replication_role;

-- Roles.
SELECT pg_temp.leaves('INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES (''audited'', ''1 day'', ''1 hour'', ''{chat:read}'')', '{role_created}', 'a role is created');
SELECT pg_temp.leaves('UPDATE apikey.role SET permissions = ''{chat:*}'' WHERE name = ''audited''', '{role_changed}', 'and changed');
SELECT results_eq($$SELECT detail FROM apikey.audit_event WHERE event = 'role_changed'$$,
    $$VALUES ('{"role": "audited", "changes": {"permissions": {"old": ["chat:read"], "new": ["chat:*"]}}}'::jsonb)$$, 'with what was changed');
SELECT pg_temp.leaves('UPDATE apikey.role SET permissions = permissions WHERE name = ''audited''', '{}', 'an edit that changes nothing leaves no event');
SELECT pg_temp.leaves('DELETE FROM apikey.role WHERE name = ''audited''', '{role_deleted}', 'and deleted');
SELECT results_eq($$SELECT event, detail ->> 'name' FROM apikey.audit_event WHERE event IN ('role_created', 'role_deleted') ORDER BY event$$,
    $$VALUES ('role_created', 'audited'), ('role_deleted', 'audited')$$, 'each names the role');

-- Signing keys.
DELETE FROM apikey.key;
CREATE TEMP TABLE doomed AS SELECT i.key_id FROM apikey.issue('doomed') i;
INSERT INTO named SELECT key_id, 'doomed' FROM doomed;
SELECT pg_temp.news() \g /dev/null
CREATE TEMP TABLE old_key AS SELECT s.kid FROM apikey.signing_key s WHERE s.state = 'active';
SELECT pg_temp.leaves('SELECT apikey.stage_signing_key()', '{signing_key_created}', 'a staged signing key is created');
SELECT pg_temp.leaves('SELECT apikey.rotate_signing_key()', '{signing_key_verify_only,signing_key_active}', 'rotation puts it into use and the one before out of it');
SELECT pg_temp.leaves('SELECT apikey.rotate_signing_key(''ES256'')', '{signing_key_verify_only,signing_key_created}', 'rotation without a staged one creates it');
SELECT pg_temp.leaves('UPDATE apikey.signing_key SET state = state', '{}', 'an edit that changes nothing leaves no event');
SELECT pg_temp.leaves('SELECT apikey.retire_signing_key(kid) FROM old_key', '{}', 'asking what would die leaves no event');
SELECT pg_temp.leaves('SELECT apikey.retire_signing_key(kid, confirm => true) FROM old_key', '{signing_key_retired,revoked doomed 1 doomed UNSPECIFIED}',
    'retiring does, and so does each key that it revokes');
SELECT set_eq($$SELECT event, detail ->> 'kid' AS kid, detail ->> 'state' AS state FROM apikey.audit_event JOIN old_key o ON o.kid = detail ->> 'kid' WHERE event LIKE 'signing\_key\_%' AND event <> 'signing_key_created'$$,
    $$SELECT event, kid, state FROM old_key, (VALUES ('signing_key_verify_only', 'verify_only'), ('signing_key_retired', 'retired')) e(event, state)$$, 'each names the key');

-- Access.
SELECT pg_temp.leaves('SELECT apikey.grant_access(''ak_audited'', ''issuer'')', '{access_granted}', 'access is granted');
SELECT pg_temp.leaves('SELECT apikey.revoke_access(''ak_audited'')', '{access_revoked}', 'and revoked');
SELECT results_eq($$SELECT event, detail FROM apikey.audit_event WHERE detail ->> 'grantee' = 'ak_audited' ORDER BY event$$,
    $$VALUES ('access_granted', '{"grantee": "ak_audited", "kind": "issuer"}'::jsonb), ('access_revoked', '{"grantee": "ak_audited"}')$$, 'each names the grantee');

-- What did not happen is not recorded.
SAVEPOINT before;
SELECT apikey.issue('undone') \g /dev/null
ROLLBACK TO SAVEPOINT before;
SELECT is(ARRAY(SELECT pg_temp.news()), '{}', 'a rolled-back issue leaves no event');

-- Who did it, by whatever way.
SET LOCAL SESSION AUTHORIZATION ak_login;
SET LOCAL ROLE ak_acting;
SELECT apikey.issue('acting') \g /dev/null
UPDATE apikey.key SET state = 'revoked' WHERE owner = 'acting';
UPDATE apikey.role SET description = 'acting' WHERE name = 'basic';
SELECT apikey.stage_signing_key() \g /dev/null
RESET ROLE;
RESET SESSION AUTHORIZATION;
SELECT set_eq($$SELECT event, actor::text, actor_role::text FROM apikey.audit_event WHERE event_id NOT IN (SELECT event_id FROM seen)$$,
    $$VALUES ('issued', 'ak_login', 'ak_acting'), ('revoked', 'ak_login', 'ak_acting'), ('role_changed', 'ak_login', 'ak_acting'),
             ('signing_key_created', 'ak_login', 'ak_acting')$$, 'actor is who logged in, actor_role what SET ROLE chose');

-- Append-only, for a superuser, past the parent and in replica mode too.
SELECT throws_ok('UPDATE apikey.audit_event SET owner = ''somebody else''', '55000', 'UPDATE on apikey.audit_event_default is refused', 'no UPDATE');
SELECT throws_ok('DELETE FROM apikey.audit_event', '55000', 'DELETE on apikey.audit_event_default is refused', 'no DELETE');
SELECT throws_ok('DELETE FROM apikey.audit_event_default', '55000', 'DELETE on apikey.audit_event_default is refused', 'no DELETE of the partition');
SELECT throws_ok('TRUNCATE apikey.audit_event', '55000', 'TRUNCATE on apikey.audit_event is refused', 'no TRUNCATE');
SELECT throws_ok('TRUNCATE apikey.audit_event_default', '55000', 'TRUNCATE on apikey.audit_event_default is refused', 'no TRUNCATE of the partition');
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM apikey.audit_event', '55000', NULL, 'no DELETE in replica mode');
SELECT throws_ok('TRUNCATE apikey.audit_event', '55000', NULL, 'no TRUNCATE in replica mode');
RESET session_replication_role;

SELECT * FROM finish();
ROLLBACK;
