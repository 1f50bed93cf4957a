-- What admins and auditors look at: status() and the view keys.
\set start_database :DBNAME
CREATE DATABASE regress_apikey_views;
\c regress_apikey_views
CREATE EXTENSION apikey;

-- Before the first key: everything is in order but the signing key, which the first issue makes.
SELECT component, state FROM apikey.status() WHERE component NOT IN ('master_key') ORDER BY component;
SELECT * FROM apikey.issue('views', name => 'one', metadata => '{"a": 1}') \gset one_
SELECT component, state FROM apikey.status() ORDER BY component;
SELECT detail ->> 'extension_version' = extversion AS extension, detail ->> 'library_version' = extversion AS library
  FROM apikey.status(), pg_extension WHERE component = 'extension' AND extname = 'apikey';
SELECT detail ->> 'shared_preload_libraries' = current_setting('shared_preload_libraries') AS preload FROM apikey.status() WHERE component = 'preload';
SELECT detail FROM apikey.status() WHERE component IN ('server', 'master_key') ORDER BY component;

-- Signing keys by state, without the retired ones.
SELECT kid AS first FROM apikey.signing_key \gset
SELECT apikey.rotate_signing_key() AS second \gset
SELECT apikey.stage_signing_key() AS third \gset
SELECT state, detail = jsonb_build_object(:'first', 'verify_only', :'second', 'active', :'third', 'pending') AS detail FROM apikey.status() WHERE component = 'signing_key';
UPDATE apikey.signing_key SET state = 'retired' WHERE kid = :'third';
SELECT detail ? :'third' AS third FROM apikey.status() WHERE component = 'signing_key';
BEGIN;
UPDATE apikey.signing_key SET state = 'verify_only' WHERE kid = :'second';
SELECT state FROM apikey.status() WHERE component = 'signing_key';
ROLLBACK;

-- Keys by state: expired is told from active, and only from active.
SELECT detail FROM apikey.status() WHERE component = 'keys';
SELECT * FROM apikey.issue('views', name => 'two') \gset two_
SELECT * FROM apikey.issue('views', name => 'three') \gset three_
SELECT * FROM apikey.issue('views', name => 'four') \gset four_
SELECT key_id AS five_key_id FROM apikey.issue('views', name => 'five', format => 'opaque', permissions => '{chat:read}', allowed_cidrs => '{10.0.0.0/8}') \gset
SELECT already FROM apikey.revoke(:'two_key_id', 'KEY_COMPROMISE');
SELECT apikey.disable(:'three_key_id', 'leaked?');
UPDATE apikey.key SET expires_at = now() WHERE name IN ('two', 'three', 'four');
SELECT detail FROM apikey.status() WHERE component = 'keys';
SELECT name, state, format, kid IS NOT NULL AS kid, permissions, allowed_cidrs, metadata, revoked_at IS NOT NULL AS revoked_at, revocation_reason,
       disabled_at IS NOT NULL AS disabled_at, disabled_reason
  FROM apikey.keys ORDER BY issued_at;
-- What issue() said, the view says as well.
SELECT k.key_id = :'one_key_id' AND k.generation = 1 AND k.owner = 'views' AND k.role = 'basic' AND k.issued_at = :'one_issued_at'
       AND k.refresh_after = :'one_refresh_after' AND k.expires_at = :'one_expires_at' AS same, created_by = session_user AS created_by,
       created_at <= issued_at AS created_at, environment, previous_valid_until
  FROM apikey.keys k WHERE name = 'one';
UPDATE apikey.key SET expires_at = now() + interval '1 hour' WHERE name = 'one';
SELECT refresh_after = issued_at AS never_before_its_issue FROM apikey.keys WHERE name = 'one';
SELECT generation FROM apikey.refresh(:'one_token');
SELECT generation, previous_valid_until - issued_at AS grace FROM apikey.keys WHERE name = 'one';

-- No hash, salt, tag or fingerprint is in the view: these columns of the table are not, and all others are.
SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = 'apikey.keys'::regclass AND a.attnum > 0;
SELECT a.attname FROM pg_attribute a
 WHERE a.attrelid = 'apikey.key'::regclass AND a.attnum > 0
   AND NOT EXISTS (SELECT FROM pg_attribute v WHERE v.attrelid = 'apikey.keys'::regclass AND v.attname = a.attname)
 ORDER BY a.attnum;
SELECT count(*) AS bytea_columns FROM pg_attribute a WHERE a.attrelid = 'apikey.keys'::regclass AND a.atttypid = 'bytea'::regtype;

-- An auditor reads them, and nothing that could help to forge or to guess.
CREATE ROLE regress_apikey_auditor;
SELECT apikey.grant_access('regress_apikey_auditor', 'auditor');
SET ROLE regress_apikey_auditor;
SELECT count(*) FROM apikey.keys;
SELECT count(*) AS components FROM apikey.status();
SELECT count(*) > 0 AS events FROM apikey.audit_event;
SELECT count(*) FROM apikey.key;
SELECT count(*) FROM apikey.signing_key;
RESET ROLE;

\c :start_database
DROP DATABASE regress_apikey_views;
DROP ROLE regress_apikey_auditor;
