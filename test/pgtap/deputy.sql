-- A superuser cannot be made somebody's deputy: what a database role may not do, it may not do through code that a superuser's command
-- happens to run as that role either. And grant_access() gives to whom it may only.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT plan(47);

CREATE ROLE ak_issuer;
CREATE ROLE ak_application;
CREATE ROLE ak_admin;
CREATE ROLE ak_login;
CREATE ROLE ak_super SUPERUSER;
GRANT ak_issuer TO ak_login;
SELECT apikey.grant_access(grantee, kind) FROM (VALUES ('ak_issuer'::name, 'issuer'), ('ak_application', 'application'), ('ak_admin', 'admin')) g(grantee, kind) \g /dev/null

CREATE SCHEMA trap;
GRANT ALL ON SCHEMA trap TO ak_issuer, ak_application;
CREATE TABLE trap.bait (id integer PRIMARY KEY);
GRANT REFERENCES ON trap.bait TO ak_issuer;
INSERT INTO trap.bait VALUES (1), (2);

-- The trap asks for whatever trap.wish names: first for a role that its owner may have keys of, which proves that the trap works.
SET LOCAL SESSION AUTHORIZATION ak_issuer;
CREATE TABLE trap.wish (role text);
INSERT INTO trap.wish VALUES ('basic');
CREATE FUNCTION trap.wish() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM apikey.issue('trap', w.role) FROM trap.wish w; END $$;
CREATE FUNCTION trap.sprung(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN n; END $$;
CREATE TABLE trap.indexed (n integer);
INSERT INTO trap.indexed VALUES (1), (2);
CREATE INDEX indexed_sprung ON trap.indexed (trap.sprung(n));
CREATE MATERIALIZED VIEW trap.view AS SELECT trap.sprung(n) FROM trap.indexed WITH NO DATA;
CREATE TABLE trap.child (id integer REFERENCES trap.bait ON DELETE CASCADE);
INSERT INTO trap.child VALUES (1), (2);
CREATE FUNCTION trap.child_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.wish(); RETURN OLD; END $$;
CREATE TRIGGER deleted BEFORE DELETE ON trap.child FOR EACH ROW EXECUTE FUNCTION trap.child_deleted();
CREATE FUNCTION trap.definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT trap.wish()';
CREATE OR REPLACE FUNCTION trap.sprung(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM trap.wish(); RETURN n; END $$;
RESET SESSION AUTHORIZATION;

CREATE TEMP VIEW trapped AS SELECT count(*) AS keys FROM apikey.key WHERE owner = 'trap';
SELECT lives_ok('DELETE FROM trap.bait WHERE id = 1', 'a cascading DELETE runs triggers as the owner of the other table');
SELECT lives_ok('SELECT trap.definer()', 'a SECURITY DEFINER function runs as its owner');
SELECT cmp_ok((SELECT keys FROM trapped), '>=', 2::bigint, 'each has been a way to issue(), for what its owner may have');
SELECT set_eq('SELECT DISTINCT event, actor::text, actor_role::text FROM apikey.audit_event WHERE owner = ''trap''',
    format('VALUES (%L, %L, %L)', 'issued', session_user, 'ak_issuer'), 'the audit trail has the user whose privileges were used beside the session''s');
UPDATE trap.wish SET role = 'admin';
SELECT throws_ok('DELETE FROM trap.bait WHERE id = 2', '42501', 'permission denied to issue keys of role "admin"', 'a cascading DELETE by a superuser mints no admin key');
SELECT throws_ok('SELECT trap.definer()', '42501', 'permission denied to issue keys of role "admin"', 'nor does a SECURITY DEFINER function');
SELECT is_empty('SELECT FROM apikey.key WHERE owner = ''trap'' AND role <> ''basic''', 'there is no such key');

-- In a security-restricted operation nothing is written at all: the session is not that of the user whose privileges are used.
UPDATE trap.wish SET role = 'basic';
SELECT throws_ok(command, '42501', 'cannot execute apikey.issue() within security-restricted operation', command || ' issues nothing')
  FROM unnest(ARRAY['ANALYZE trap.indexed', 'REINDEX TABLE trap.indexed', 'CLUSTER trap.indexed USING indexed_sprung',
                    'CREATE INDEX ON trap.indexed (trap.sprung(n))', 'REFRESH MATERIALIZED VIEW trap.view']) command;
CREATE TABLE trap.victim AS SELECT i.key_id, i.token FROM apikey.issue('victim') i;
CREATE TABLE trap.statement (statement text);
GRANT SELECT ON trap.victim, trap.statement TO ak_admin;
GRANT ALL ON SCHEMA trap TO ak_admin;
INSERT INTO trap.statement VALUES ('SELECT 1');
SET LOCAL SESSION AUTHORIZATION ak_admin;
CREATE TABLE trap.admins (n integer);
INSERT INTO trap.admins VALUES (1), (2);
CREATE FUNCTION trap.execute() RETURNS void LANGUAGE plpgsql AS $$
    BEGIN EXECUTE (SELECT s.statement FROM trap.statement s); END $$;
CREATE FUNCTION trap.execute(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN PERFORM trap.execute(); RETURN n; END $$;
CREATE INDEX ON trap.admins (trap.execute(n));
RESET SESSION AUTHORIZATION;
CREATE FUNCTION pg_temp.refused(statement text, action text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE trap.statement s SET statement = refused.statement;
    RETURN throws_ok('ANALYZE trap.admins', '42501', format('cannot %s within security-restricted operation', action), 'ANALYZE does not ' || statement);
END $$;
SELECT pg_temp.refused(s.statement, s.action)
  FROM (VALUES ('SELECT apikey.revoke(v.key_id) FROM trap.victim v', 'execute apikey.revoke()'),
               ('SELECT apikey.revoke(v.token) FROM trap.victim v', 'execute apikey.revoke()'),
               ('SELECT apikey.revoke_token(v.token) FROM trap.victim v', 'execute apikey.revoke_token()'),
               ('SELECT apikey.revoke_owner(''victim'')', 'execute apikey.revoke_owner()'),
               ('SELECT apikey.refresh(v.token) FROM trap.victim v', 'execute apikey.refresh()'),
               ('SELECT apikey.disable(v.key_id) FROM trap.victim v', 'execute apikey.disable()'),
               ('SELECT apikey.enable(v.key_id) FROM trap.victim v', 'execute apikey.enable()'),
               ('SELECT apikey.rotate_signing_key()', 'execute apikey.rotate_signing_key()'),
               ('SELECT apikey.stage_signing_key()', 'execute apikey.stage_signing_key()'),
               ('SELECT apikey.adopt_master_key()', 'execute apikey.adopt_master_key()'),
               ('SELECT apikey.mirror_resync()', 'execute apikey.mirror_resync()'),
               ('SELECT apikey.mirror_takeover()', 'execute apikey.mirror_takeover()'),
               ('SELECT apikey.grant_access(''ak_login'', ''admin'')', 'write to the audit trail'),
               ('SELECT apikey.revoke_access(''ak_issuer'')', 'write to the audit trail'),
               ('UPDATE apikey.key SET name = ''trap''', 'write to the audit trail'),
               ('UPDATE apikey.role SET description = ''trap''', 'write to the audit trail')) s(statement, action);
SELECT pg_temp.refused('DELETE FROM apikey.key', 'write to the audit trail');
UPDATE trap.statement SET statement = 'SELECT apikey.validate(v.token) FROM trap.victim v';
SELECT lives_ok('ANALYZE trap.admins', 'a validation writes nothing and goes on');
SELECT is((apikey.validate(token)).code, 'VALID', 'the victim is as it was') FROM trap.victim;

-- EXECUTE is checked against the same caller.
CREATE TEMP TABLE victim AS SELECT i.key_id, i.token FROM apikey.issue('victim') i;
CREATE FUNCTION trap.revoker() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN PERFORM apikey.revoke(k.key_id::text) FROM pg_temp.victim k; END $$;
ALTER FUNCTION trap.revoker() OWNER TO ak_application;
GRANT SELECT ON victim TO ak_application;
SELECT throws_ok('SELECT trap.revoker()', '42501', 'permission denied for function revoke', 'an application does not revoke by id through a superuser');
SELECT is((apikey.validate(token)).code, 'VALID', 'and has not') FROM victim;

-- Objects of the session do not get in the way of the functions: search_path and pg_temp are not looked at.
SET LOCAL SESSION AUTHORIZATION ak_issuer;
CREATE TEMP TABLE key AS SELECT 1 AS key_id;
CREATE TEMP TABLE role AS SELECT 'admin'::text AS name, NULL::name[] AS issuable_by;
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
SET LOCAL search_path TO pg_temp, public, pg_catalog;
SELECT throws_ok('SELECT apikey.issue(''x'', ''admin'')', '42501', NULL, 'a temporary table named role changes nothing');
SELECT lives_ok('SELECT apikey.issue(''hijack'')', 'neither does one named key, nor a function now()');
SELECT is(current_setting('search_path'), 'pg_temp, public, pg_catalog', 'and the caller''s search_path is as it was');
RESET SESSION AUTHORIZATION;
SET LOCAL search_path TO public, pg_catalog, pg_temp;

-- Who is recorded: who logged in, and the role that SET ROLE chose, not the owner of a function in between.
SET LOCAL SESSION AUTHORIZATION ak_login;
SET LOCAL ROLE ak_issuer;
SELECT lives_ok('SELECT apikey.issue(''set-role'')', 'a member issues after SET ROLE');
RESET ROLE;
RESET SESSION AUTHORIZATION;
SELECT set_eq('SELECT event, actor::text, actor_role::text FROM apikey.audit_event WHERE owner = ''set-role''',
    $$VALUES ('issued', 'ak_login', 'ak_issuer')$$, 'the audit trail has both');
SELECT set_eq('SELECT created_by::text FROM apikey.key WHERE owner = ''set-role''', $$VALUES ('ak_login')$$, 'the key has who logged in');
SET LOCAL SESSION AUTHORIZATION ak_admin;
SELECT lives_ok('SELECT apikey.grant_access(''ak_login'', ''auditor'')', 'an admin grants access, through a SECURITY DEFINER function');
RESET SESSION AUTHORIZATION;
SELECT set_eq($$SELECT actor::text, actor_role::text, detail FROM apikey.audit_event WHERE event = 'access_granted' AND detail ->> 'grantee' = 'ak_login'$$,
    $$VALUES ('ak_admin', 'ak_admin', '{"grantee": "ak_login", "kind": "auditor"}'::jsonb)$$, 'and is the one that is recorded');

-- Whom grant_access() refuses.
SELECT throws_ok('SELECT apikey.grant_access(''public'', ''application'')', '42704', 'database role "public" does not exist', 'PUBLIC gets no access');
SELECT throws_ok('SELECT apikey.grant_access(''ak_super'', ''application'')', '22023', 'database role "ak_super" is a superuser', 'a superuser needs none');
SELECT throws_ok('SELECT apikey.grant_access(''ak_no_such'', ''application'')', '42704', 'database role "ak_no_such" does not exist', 'an unknown role');
SELECT throws_ok('SELECT apikey.grant_access(''ak_login'', ''owner'')', '22023', 'unknown kind of access', 'an unknown kind');
SELECT throws_ok('SELECT apikey.grant_access(''ak_login'', ''Admin'')', '22023', 'unknown kind of access', 'kinds are written just so');
SELECT throws_ok('SELECT apikey.revoke_access(''ak_no_such'')', '42704', NULL, 'access of an unknown role cannot be taken back');

SELECT * FROM finish();
ROLLBACK;
