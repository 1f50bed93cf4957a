-- The kinds of access at work: what each role can really do when it is the one that is connected.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT plan(62);

CREATE ROLE ak_nobody;
CREATE ROLE ak_application;
CREATE ROLE ak_issuer;
CREATE ROLE ak_vip_issuer;
CREATE ROLE ak_auditor;
CREATE ROLE ak_admin;
CREATE ROLE ak_vips;
GRANT ak_vips TO ak_vip_issuer;
CREATE ROLE ak_noinherit_issuer NOINHERIT;
GRANT ak_vips TO ak_noinherit_issuer;
SELECT apikey.grant_access(grantee, kind)
  FROM (VALUES ('ak_application'::name, 'application'), ('ak_issuer', 'issuer'), ('ak_vip_issuer', 'issuer'), ('ak_noinherit_issuer', 'issuer'),
               ('ak_auditor', 'auditor'), ('ak_admin', 'admin')) g(grantee, kind) \g /dev/null
INSERT INTO apikey.role (name, ttl, refresh_window, permissions, issuable_by) VALUES
    ('vip', '1 day', '1 hour', '{chat:read}', '{ak_vips}'),
    ('ghost', '1 day', '1 hour', '{chat:read}', '{ak_there_is_no_such_role}'),
    ('sealed', '1 day', '1 hour', '{chat:read}', '{}');
CREATE TEMP TABLE held AS
    SELECT n.name, i.key_id, i.token FROM unnest('{one,two,three,four,five}'::text[]) n(name), apikey.issue('as-role', ttl => '1 hour', name => n.name) i;
GRANT SELECT ON held TO PUBLIC;

-- Nobody.
SET LOCAL SESSION AUTHORIZATION ak_nobody;
SELECT throws_ok('SELECT apikey.validate(''x'')', '42501', NULL, 'nobody cannot validate');
SELECT throws_ok('SELECT apikey.is_label(''x'')', '42501', NULL, 'nobody does not even see into the schema');
SELECT throws_ok('SELECT FROM apikey.keys', '42501', NULL, 'nobody reads no keys');
RESET SESSION AUTHORIZATION;

-- Application.
SET LOCAL SESSION AUTHORIZATION ak_application;
SELECT is((apikey.validate(token)).code, 'VALID', 'an application validates') FROM held WHERE name = 'one';
SELECT is((apikey.require(token, 'chat:read')).code, 'VALID', 'an application requires') FROM held WHERE name = 'one';
SELECT ok(apikey.check_token(token), 'an application checks') FROM held WHERE name = 'one';
SELECT is((apikey.refresh(token)).generation, 2, 'an application refreshes') FROM held WHERE name = 'one';
SELECT isnt(apikey.jwks(), NULL, 'an application reads the public keys');
SELECT throws_ok('SELECT apikey.issue(''x'')', '42501', NULL, 'an application cannot issue');
SELECT throws_ok(format('SELECT apikey.revoke(%L)', key_id), '42501', NULL, 'an application cannot revoke by id') FROM held WHERE name = 'two';
SELECT throws_ok(format('SELECT apikey.revoke(%L)', token), '42501', NULL, 'nor by token through revoke()') FROM held WHERE name = 'two';
SELECT throws_ok(format('SELECT apikey.revoke_token(%L)', key_id), 'PT401', 'MALFORMED', 'an id is no proof') FROM held WHERE name = 'two';
SELECT throws_ok(format('SELECT apikey.revoke_token(%L)', overlay(token PLACING 'AAAAAAAA' FROM length(token) - 20)), 'PT401', 'SIGNATURE_INVALID',
    'nor is an altered token') FROM held WHERE name = 'two';
SELECT is((apikey.validate(token)).code, 'VALID', 'none of this harmed the key') FROM held WHERE name = 'two';
SELECT ok(NOT (apikey.revoke_token(token)).already, 'an application revokes by proof of possession') FROM held WHERE name = 'two';
SELECT is((apikey.validate(token)).code, 'REVOKED', 'and the key is revoked') FROM held WHERE name = 'two';
SELECT throws_ok('SELECT apikey.revoke_owner(''as-role'')', '42501', NULL, 'an application cannot revoke an owner''s keys');
SELECT throws_ok(format('SELECT apikey.disable(%L)', key_id), '42501', NULL, 'an application cannot disable') FROM held WHERE name = 'three';
SELECT throws_ok('SELECT key_id FROM apikey.key', '42501', NULL, 'an application reads no table');
SELECT throws_ok('UPDATE apikey.key SET state = ''revoked''', '42501', NULL, 'nor writes one');
SELECT throws_ok('SELECT FROM apikey.audit_event', '42501', NULL, 'nor the audit trail');
SELECT throws_ok('SET apikey.refresh_grace = ''1 day''', '42501', NULL, 'an application cannot change a setting');
RESET SESSION AUTHORIZATION;

-- Issuer.
SET LOCAL SESSION AUTHORIZATION ak_issuer;
SELECT is((apikey.issue('as-role', 'contributor')).role, 'contributor', 'an issuer issues');
SELECT throws_ok('SELECT apikey.issue(''x'', ''admin'')', '42501', 'permission denied to issue keys of role "admin"', 'an issuer cannot mint admin');
SELECT throws_ok('SELECT apikey.issue(''x'', '' Admin '')', '42501', 'permission denied to issue keys of role "admin"', 'however it is spelt');
SELECT throws_ok('SELECT apikey.issue(''x'', ''vip'')', '42501', 'permission denied to issue keys of role "vip"', 'issuable_by names others');
SELECT throws_ok('SELECT apikey.issue(''x'', ''ghost'')', '42501', NULL, 'issuable_by names a role that does not exist');
SELECT throws_ok('SELECT apikey.issue(''x'', ''sealed'')', '42501', NULL, 'issuable_by is empty');
SELECT throws_ok('UPDATE apikey.role SET issuable_by = NULL WHERE name = ''admin''', '42501', NULL, 'an issuer cannot open a role');
SELECT throws_ok('INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES (''mine'', ''1 day'', ''1 hour'', ''{*}'')', '42501', NULL,
    'nor make one');
SELECT throws_ok('UPDATE apikey.key SET role = ''admin''', '42501', NULL, 'nor move a key to another');
SELECT throws_ok('SELECT apikey.enable(''x'')', '42501', NULL, 'an issuer cannot enable');
SELECT throws_ok('SELECT apikey.grant_access(''ak_issuer'', ''admin'')', '42501', NULL, 'nor make itself admin');
SELECT lives_ok(format('SELECT apikey.disable(%L)', key_id), 'an issuer disables by id') FROM held WHERE name = 'three';
SELECT lives_ok(format('SELECT apikey.revoke(%L)', key_id), 'an issuer revokes by id') FROM held WHERE name = 'three';
SET LOCAL SESSION AUTHORIZATION ak_vip_issuer;
SELECT is((apikey.issue('as-role', 'vip')).role, 'vip', 'a member of a role that issuable_by names issues');
SELECT throws_ok('SELECT apikey.issue(''x'', ''sealed'')', '42501', NULL, 'but no other');
SET LOCAL SESSION AUTHORIZATION ak_noinherit_issuer;
SELECT throws_ok('SELECT apikey.issue(''x'', ''vip'')', '42501', NULL, 'a member that does not inherit must SET ROLE first');
RESET SESSION AUTHORIZATION;

-- Auditor.
SET LOCAL SESSION AUTHORIZATION ak_auditor;
SELECT isnt_empty('SELECT FROM apikey.audit_event', 'an auditor reads the audit trail');
SELECT isnt_empty('SELECT FROM apikey.keys', 'an auditor reads the keys');
SELECT isnt_empty('SELECT FROM apikey.status()', 'an auditor reads the status');
SELECT throws_ok('SELECT apikey.validate(''x'')', '42501', NULL, 'an auditor cannot validate');
SELECT throws_ok('SELECT apikey.check_token(''x'')', '42501', NULL, 'an auditor cannot check');
SELECT throws_ok('SELECT key_id FROM apikey.key', '42501', NULL, 'an auditor does not read the table of keys');
SELECT throws_ok('INSERT INTO apikey.audit_event (event) VALUES (''forged'')', '42501', NULL, 'an auditor writes no audit events');
RESET SESSION AUTHORIZATION;

-- Admin.
SET LOCAL SESSION AUTHORIZATION ak_admin;
SELECT is((apikey.issue('as-role', 'admin')).role, 'admin', 'an admin issues admin keys');
SELECT is((apikey.issue('as-role', 'sealed')).role, 'sealed', 'and of roles that are nobody else''s');
SELECT lives_ok(format('UPDATE apikey.key SET state = ''revoked'' WHERE key_id = %L', key_id), 'an admin revokes with plain SQL') FROM held WHERE name = 'four';
SELECT is((apikey.validate(token)).code, 'REVOKED', 'and the key is revoked') FROM held WHERE name = 'four';
SELECT isnt_empty(format('SELECT FROM apikey.revocation WHERE key_id = %L AND generation IS NULL', key_id), 'the withdrawal is written') FROM held WHERE name = 'four';
SELECT lives_ok(format('DELETE FROM apikey.key WHERE key_id = %L', key_id), 'an admin deletes a key') FROM held WHERE name = 'five';
SELECT lives_ok('UPDATE apikey.role SET permissions = ''{chat:read}'' WHERE name = ''contributor''', 'an admin edits a role');
SELECT lives_ok('INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES (''mine'', ''1 day'', ''1 hour'', ''{chat:read}'')', 'adds one');
SELECT lives_ok('DELETE FROM apikey.role WHERE name = ''mine''', 'and deletes it');
SELECT throws_ok('SELECT token_hash FROM apikey.key', '42501', NULL, 'an admin reads no hash');
SELECT throws_ok('SELECT private_key FROM apikey.signing_key', '42501', NULL, 'and no private key');
SELECT throws_ok('UPDATE apikey.key SET owner = owner RETURNING token_hash', '42501', NULL, 'not by way of RETURNING either');
SELECT throws_ok('UPDATE apikey.key SET token_hash = token_salt', '42501', NULL, 'an admin writes no hash');
SELECT throws_ok('INSERT INTO apikey.revocation (key_id, until) VALUES (apikey.uuid_v7(), now())', '42501', NULL, 'withdrawals are written by triggers only');
SELECT throws_ok('DELETE FROM apikey.revocation', '42501', NULL, 'and not taken away');
SELECT throws_ok('INSERT INTO apikey.audit_event (event) VALUES (''forged'')', '42501', NULL, 'an admin writes no audit events');
SELECT lives_ok('SELECT apikey.grant_access(''ak_nobody'', ''auditor'')', 'an admin grants access');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
