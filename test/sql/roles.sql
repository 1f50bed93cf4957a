-- The table of roles: the single source of truth that admins edit with SQL, and that restores bring back.
\set start_database :DBNAME
CREATE DATABASE regress_apikey_roles;
\c regress_apikey_roles
SET client_min_messages TO warning;
CREATE EXTENSION apikey;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT name, ttl, permissions, rate_limit, rate_window, refresh_window, format, issuable_by, pristine FROM apikey.role ORDER BY rate_limit NULLS LAST;

-- One spelling is normal: case, hyphens and blanks do not matter.
SELECT s AS spelling, apikey.normalize_role(s) AS role
  FROM unnest(ARRAY['node_operator', 'Node-Operator', ' NODE  OPERATOR ', 'node - operator', E'node\toperator', 'Node__Operator', 'free', NULL]) s;
SELECT pg_temp.attempt(format('SELECT apikey.normalize_role(%L)', s)) FROM unnest(ARRAY['nodeoperator', '_basic', 'basic!', '']) s;

-- The roles that come with the extension stay, under their names.
SELECT name, pg_temp.attempt(format('DELETE FROM apikey.role WHERE name = %L', name)) = pg_temp.attempt(format('UPDATE apikey.role SET name = %L WHERE name = %L', name || '2', name)) AS both,
       pg_temp.attempt(format('DELETE FROM apikey.role WHERE name = %L', name)) AS "delete"
  FROM apikey.role ORDER BY name;
SELECT pg_temp.attempt('TRUNCATE apikey.role CASCADE');
SELECT count(*) FROM apikey.role;

-- Any edit of one clears pristine, which nobody can set again.
BEGIN;
UPDATE apikey.role SET ttl = '8 days' WHERE name = 'basic';
UPDATE apikey.role SET rate_limit = rate_limit WHERE name = 'free';
UPDATE apikey.role SET pristine = true WHERE name IN ('basic', 'contributor');
SELECT name, pristine FROM apikey.role ORDER BY name;
SELECT pg_temp.attempt('UPDATE apikey.role SET created_at = ''2020-01-01'', pristine = true WHERE name = ''basic''');
ROLLBACK;

-- A restore inserts the dump's rows over pristine ones: edited or not, they come out as they went in, once each and without an audit event.
BEGIN;
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window, format, issuable_by, description, pristine, created_at) VALUES
    ('basic', '9 days', '{chat:read}', NULL, NULL, '1 hour', 'opaque', '{}', 'edited', false, '2020-01-01'),
    ('contributor', '30 days', '{chat:*,dataset:*}', 3000, '1 minute', '24 hours', 'jwt', NULL, 'Chat and data sets', true, '2020-01-01'),
    ('added', '1 day', '{x:y}', NULL, NULL, '1 hour', 'jwt', NULL, '', false, '2020-01-01');
SELECT name, ttl, permissions, rate_limit, refresh_window, format, issuable_by, description, pristine, created_at = '2020-01-01' AS created_at FROM apikey.role ORDER BY name;
SELECT count(*) AS events FROM apikey.audit_event WHERE event LIKE 'role%' AND (detail ->> 'role' IN ('basic', 'contributor', 'added') OR detail ->> 'name' = 'added');
-- A second insert of what is not pristine any more is what it looks like.
SELECT pg_temp.attempt('INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES (''basic'', ''1 day'', ''1 hour'', ''{}'')');
ROLLBACK;

-- Nonsense is refused, by whichever constraint it breaks.
CREATE FUNCTION pg_temp.insert_role(columns text, "values" text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    violated text;
BEGIN
    EXECUTE format('INSERT INTO apikey.role (%s) VALUES (%s)', columns, "values");
    RETURN 'accepted';
EXCEPTION
    WHEN not_null_violation THEN
        RETURN 'may not be NULL';
    WHEN check_violation THEN
        GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
        RETURN violated;
END
$$;
SELECT n AS name, pg_temp.insert_role('name, ttl, refresh_window, permissions', format('%L, ''1 day'', ''1 hour'', ''{}''', n))
  FROM unnest(ARRAY['', 'Upper', '1st', 'a-b', 'a b', 'a__b', repeat('r', 64), NULL, 'fine_1']) n;
SELECT p AS permissions, pg_temp.insert_role('name, ttl, refresh_window, permissions', format('''r%s'', ''1 day'', ''1 hour'', %L', i, p))
  FROM unnest(ARRAY['{""}', '{Chat:read}', '{chat:}', '{:read}', '{a:b*}', '{a,a}', '{NULL}', '{{a},{b}}', NULL, '{*,a:*:b,a.b-c_d}']) WITH ORDINALITY u(p, i);
SELECT t AS ttl, pg_temp.insert_role('name, ttl, refresh_window, permissions', format('''t%s'', %L, %L, ''{}''', i, t, w)), w AS refresh_window
  FROM (VALUES (1, '0', '0'), (2, '-1 day', '0'), (3, '101 years', '0'), (4, '1 day', '-1 hour'), (5, '1 day', NULL), (6, NULL, '1 hour'), (7, '1 day', '101 years'), (8, '1 day', '0'),
        (9, NULL, NULL)) v(i, t, w);
SELECT l AS rate_limit, w AS rate_window, pg_temp.insert_role('name, permissions, rate_limit, rate_window', format('''l%s'', ''{}'', %L, %L', i, l, w))
  FROM (VALUES (1, 0, '1 minute'), (2, -1, '1 minute'), (3, 1, '999 milliseconds'), (4, 1, '32 days'), (5, 1, NULL), (6, NULL, NULL), (7, 1, '1 second')) v(i, l, w);
SELECT f AS format, pg_temp.insert_role('name, permissions, format', format('''f%s'', ''{}'', %L', i, f)) FROM unnest(ARRAY['JWT', '', 'legacy', NULL, 'opaque']) WITH ORDINALITY u(f, i);
DELETE FROM apikey.role WHERE name ~ '^(fine|.\d)';

-- A role of our own may have any format, be renamed while it has keys, and be deleted once it has none.
INSERT INTO apikey.role (name, ttl, refresh_window, permissions, format) VALUES ('tool', '1 day', '1 hour', '{x:y}', 'opaque');
SELECT token AS token, left(token, 3) AS format FROM apikey.issue('roles', 'Tool') \gset
SELECT :'format' AS format, pristine FROM apikey.role WHERE name = 'tool';
UPDATE apikey.role SET name = 'instrument' WHERE name = 'tool';
SELECT code, role FROM apikey.validate(:'token', 'x:y');
SELECT pg_temp.attempt('DELETE FROM apikey.role WHERE name = ''instrument''');
DELETE FROM apikey.key WHERE owner = 'roles';
DELETE FROM apikey.role WHERE name = 'instrument';
-- Without a ttl a role is anonymous.
INSERT INTO apikey.role (name, permissions) VALUES ('guest', '{x:y}');
SELECT pg_temp.attempt('SELECT apikey.issue(''roles'', ''guest'')');
SELECT apikey.normalize_role('Guest');

-- Who may issue. NULL: every issuer; a list: members of one of these database roles; an empty one: those with access kind admin.
CREATE ROLE regress_apikey_group;
CREATE ROLE regress_apikey_member IN ROLE regress_apikey_group;
CREATE ROLE regress_apikey_issuer;
CREATE ROLE regress_apikey_admin;
SELECT apikey.grant_access(r, 'issuer') FROM unnest('{regress_apikey_member,regress_apikey_issuer}'::name[]) r;
SELECT apikey.grant_access('regress_apikey_admin', 'admin');
INSERT INTO apikey.role (name, ttl, refresh_window, permissions, issuable_by) VALUES
    ('for_all', '1 day', '1 hour', '{}', NULL), ('for_group', '1 day', '1 hour', '{}', '{no_such_role,regress_apikey_group}'),
    ('for_ghosts', '1 day', '1 hour', '{}', '{no_such_role}'), ('for_admins', '1 day', '1 hour', '{}', '{}');
CREATE PROCEDURE pg_temp.issue_as(who name) LANGUAGE plpgsql AS $$
DECLARE
    r text;
    outcome text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    FOREACH r IN ARRAY '{for_all,for_group,for_ghosts,for_admins,admin}'::text[] LOOP
        BEGIN
            PERFORM apikey.issue('roles', r);
            outcome := 'issued';
        EXCEPTION WHEN insufficient_privilege THEN
            outcome := SQLERRM;
        END;
        RAISE NOTICE '%: %', who, outcome;
    END LOOP;
END
$$;
SET client_min_messages TO notice;
CALL pg_temp.issue_as('regress_apikey_issuer');
CALL pg_temp.issue_as('regress_apikey_member');
CALL pg_temp.issue_as('regress_apikey_admin');
SET client_min_messages TO warning;
SET ROLE regress_apikey_issuer;
SELECT apikey.issue('roles', 'admin');
RESET ROLE;
-- A key of a role that one may no longer issue stays what it is.
SELECT token FROM apikey.issue('roles', 'for_all') \gset
UPDATE apikey.role SET issuable_by = '{}' WHERE name = 'for_all';
SELECT code, role FROM apikey.validate(:'token');

-- Every edit is in the audit trail, with what it changed; one that changes nothing is not.
BEGIN;
INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES ('audited', '1 day', '1 hour', '{a}');
UPDATE apikey.role SET permissions = '{a,b}', rate_limit = 5 WHERE name = 'audited';
UPDATE apikey.role SET permissions = permissions WHERE name = 'audited';
DELETE FROM apikey.role WHERE name = 'audited';
SELECT event, actor = session_user AS actor, CASE event WHEN 'role_changed' THEN detail -> 'changes' ELSE detail - 'rate_window' END AS detail
  FROM apikey.audit_event WHERE coalesce(detail ->> 'role', detail ->> 'name') = 'audited' ORDER BY at;
ROLLBACK;

\c :start_database
DROP DATABASE regress_apikey_roles;
DROP ROLE regress_apikey_member, regress_apikey_group, regress_apikey_issuer, regress_apikey_admin;
