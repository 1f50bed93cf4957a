-- What the extension leaves in the catalogs: everything described, nothing open to PUBLIC, definer functions pinned, tables dumped,
-- triggers that replication cannot pass by, settings that no ordinary user can change.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SELECT plan(24);

CREATE TEMP VIEW member AS
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
     WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
CREATE TEMP VIEW member_function AS
    SELECT p.* FROM member m JOIN pg_catalog.pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass;
CREATE TEMP VIEW member_relation AS
    SELECT c.* FROM member m JOIN pg_catalog.pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass;
CREATE TEMP VIEW member_trigger AS
    SELECT t.* FROM pg_catalog.pg_trigger t JOIN member_relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal;

-- The queries below find something to look at, and everything in the schema belongs to the extension.
SELECT set_has('SELECT relname::text FROM member_relation',
    $$VALUES ('role'), ('signing_key'), ('key'), ('revocation'), ('audit_event'), ('audit_event_default'), ('keys'), ('metrics'), ('metric_types')$$, 'the tables and views are members');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'apikey'::regnamespace
    EXCEPT SELECT f.oid::regprocedure FROM member_function f$$, 'every function in the schema is a member');
SELECT is_empty($$SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = 'apikey'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    EXCEPT SELECT r.relname FROM member_relation r$$, 'every table, view and sequence in the schema is a member');
SELECT is((SELECT nspname::text FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_extension e ON e.extnamespace = n.oid AND e.extname = 'apikey'),
    'apikey', 'the extension lives in schema apikey');
SELECT ok(NOT extrelocatable, 'the extension is not relocatable') FROM pg_catalog.pg_extension WHERE extname = 'apikey';

-- Descriptions.
SELECT is_empty('SELECT f.oid::regprocedure FROM member_function f WHERE obj_description(f.oid, ''pg_proc'') IS NULL',
    'every function has a comment');
SELECT is_empty('SELECT r.relname FROM member_relation r WHERE obj_description(r.oid, ''pg_class'') IS NULL',
    'every table, view and sequence has a comment');
SELECT is_empty($$SELECT t.typname FROM member m JOIN pg_catalog.pg_type t ON t.oid = m.objid
    WHERE m.classid = 'pg_type'::regclass AND t.typelem = 0 AND obj_description(t.oid, 'pg_type') IS NULL
      AND NOT EXISTS (SELECT FROM member_relation r WHERE r.reltype = t.oid AND r.relkind <> 'c')$$, 'every type has a comment');
SELECT isnt(obj_description('apikey'::regnamespace, 'pg_namespace'), NULL, 'the schema has a comment');
SELECT isnt((SELECT obj_description(oid, 'pg_extension') FROM pg_catalog.pg_extension WHERE extname = 'apikey'), NULL, 'the extension has a comment');

-- Columns whose name says it all, or whose neighbour's comment does; every other one of a table has a comment of its own.
SELECT is_empty($$
    SELECT r.relname, a.attname FROM member_relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition AND col_description(r.oid, a.attnum) IS NULL
    EXCEPT
    SELECT p.relation, unnest(p.columns) FROM (VALUES
        ('role'::name, '{name,rate_window,description,created_at}'::name[]),
        ('signing_key', '{kid,algorithm,created_at,activated_at,verify_only_at,retired_at}'),
        ('key', '{key_id,owner,name,role,format,environment,issued_at,expires_at,kid,token_salt,token_iterations,previous_kid,previous_hash,
                  previous_salt,previous_iterations,previous_tag,previous_expires_at,revoked_at,revocation_reason,disabled_at,disabled_reason,
                  created_at,created_by}'),
        ('revocation', '{key_id}'),
        ('outbox', '{id,key_id}'), ('mirror_epoch', '{epoch,made_at}'), ('mirror_unknown', '{member,until,seen_at}'),
        ('usage', '{key_id,count}'), ('key_usage', '{key_id,last_used_at}'), ('expiry_progress', '{expired_up_to}'),
        ('audit_event', '{event_id,at,generation,owner}')) p(relation, columns)$$,
    'every column whose name does not say it all has a comment');

-- Nothing is PUBLIC's. The helpers are evaluated by constraints and defaults with the rights of whoever writes the row.
SELECT set_eq($$
    SELECT f.oid::regprocedure::text FROM member_function f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
     WHERE a.grantee = 0$$,
    ARRAY['apikey.acting_user()', 'apikey.is_environment(text)', 'apikey.is_grant_list(text[])', 'apikey.is_label(text)', 'apikey.is_revocation_reason(text)',
          'apikey.is_role_name(text)', 'apikey.uuid_v7()'], 'PUBLIC may execute the harmless helpers only');
SELECT is_empty($$
    SELECT r.relname, a.privilege_type FROM member_relation r, aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) a WHERE a.grantee = 0
    UNION ALL
    SELECT r.relname, c.attname || a.privilege_type FROM member_relation r JOIN pg_catalog.pg_attribute c ON c.attrelid = r.oid, aclexplode(c.attacl) a
     WHERE a.grantee = 0$$, 'PUBLIC has no privilege on any table, view or column');
SELECT is_empty($$SELECT a.privilege_type FROM pg_catalog.pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE n.nspname = 'apikey' AND a.grantee = 0$$, 'PUBLIC may neither use the schema nor create in it');

-- What runs with its owner's rights finds its objects where the owner put them.
SELECT is_empty($$SELECT f.oid::regprocedure, f.proconfig FROM member_function f
    WHERE f.prosecdef AND 'search_path=pg_catalog, pg_temp' = ANY (f.proconfig) IS NOT TRUE$$,
    'every SECURITY DEFINER function pins search_path');
SELECT is_empty($$SELECT f.oid::regprocedure FROM member_function f JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    WHERE l.lanname NOT IN ('c', 'internal') AND 'search_path=pg_catalog, pg_temp' = ANY (f.proconfig) IS NOT TRUE$$,
    'so does every other function that is not C');
SELECT is_empty($$SELECT f.oid::regprocedure FROM member_function f JOIN pg_catalog.pg_language l ON l.oid = f.prolang
    WHERE l.lanname = 'c' AND f.prosecdef$$, 'no C function is SECURITY DEFINER: it could not tell who calls');

-- Dumps: whatever holds data that only this database knows.
SELECT set_eq($$SELECT unnest(extconfig)::regclass::text FROM pg_catalog.pg_extension WHERE extname = 'apikey'$$,
    $$SELECT r.oid::regclass::text FROM member_relation r WHERE r.relkind IN ('r', 'S')
         -- What a mirror has been told and has not is no longer true of a restored copy.
         AND r.relname NOT IN ('outbox', 'outbox_id_seq', 'mirror_epoch', 'mirror_unknown')$$,
    'every table that holds what only this database knows is dumped');
SELECT is_empty($$SELECT c FROM pg_catalog.pg_extension, unnest(extcondition) c WHERE extname = 'apikey' AND c <> ''$$, 'with all its rows');

-- Triggers.
SELECT isnt_empty('SELECT FROM member_trigger', 'there are triggers');
SELECT set_eq('SELECT t.tgname::text, t.tgenabled::text FROM member_trigger t WHERE t.tgenabled <> ''A''', $$VALUES ('revocation_before_insert', 'R'), ('outbox_skip_replicated', 'R'),
    ('usage_skip_replicated', 'R'), ('key_usage_skip_replicated', 'R'), ('mirror_epoch_skip_replicated', 'R'), ('mirror_unknown_skip_replicated', 'R')$$,
    'every trigger is ENABLE ALWAYS, but for those that are for replicas only: replication and session_replication_role pass none by');

-- Settings.
SELECT set_eq($$SELECT name, context FROM pg_catalog.pg_settings WHERE name LIKE 'apikey.%'$$,
    $$VALUES ('apikey.audience', 'superuser'), ('apikey.audit_retention', 'sighup'), ('apikey.cache_entries', 'postmaster'),
             ('apikey.databases', 'sighup'), ('apikey.usage_interval', 'sighup'), ('apikey.usage_retention', 'sighup'),
             ('apikey.environments', 'superuser'),
             ('apikey.event_entries', 'postmaster'), ('apikey.free_tier', 'superuser'), ('apikey.free_tier_on_failure', 'superuser'),
             ('apikey.issuer', 'superuser'), ('apikey.master_key_file', 'sighup'), ('apikey.max_databases', 'postmaster'),
             ('apikey.pbkdf2_iterations', 'sighup'), ('apikey.rate_entries', 'postmaster'), ('apikey.refresh_grace', 'superuser'), ('apikey.revoke_wait', 'sighup'),
             ('apikey.redis_url', 'sighup'), ('apikey.redis_password_file', 'sighup'), ('apikey.redis_namespace', 'sighup'),
             ('apikey.redis_sentinel_user', 'sighup'), ('apikey.redis_sentinel_password_file', 'sighup'), ('apikey.redis_masters', 'sighup'),
             ('apikey.redis_ca_file', 'sighup'), ('apikey.redis_certificate_file', 'sighup'), ('apikey.redis_key_file', 'sighup'),
             ('apikey.redis_connect_timeout', 'sighup'), ('apikey.redis_timeout', 'sighup'),
             ('apikey.rate_namespace', 'sighup'), ('apikey.rate_sync_interval', 'sighup'), ('apikey.rate_on_stale', 'sighup')$$,
    'these are the settings, and none is any user''s to change');
SELECT is_empty($$SELECT name FROM pg_catalog.pg_settings WHERE name LIKE 'apikey.%' AND (coalesce(short_desc, '') = '' OR coalesce(extra_desc, '') = '')$$,
    'every setting has a short and a long description');
SELECT throws_ok('SET apikey.no_such_setting = 1', '42602', NULL, 'the prefix is reserved: a misspelt setting is an error');

SELECT * FROM finish();
ROLLBACK;
