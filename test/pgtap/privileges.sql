-- Who may do what: every function, table, view and column of the extension, for each kind of access. What is not listed here, or listed
-- otherwise than it is, fails.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SELECT plan(16);

CREATE ROLE ak_nobody;
CREATE ROLE ak_application;
CREATE ROLE ak_issuer;
CREATE ROLE ak_auditor;
CREATE ROLE ak_admin;
SELECT apikey.grant_access(('ak_' || kind)::name, kind) FROM unnest('{application,issuer,auditor,admin}'::text[]) kind \g /dev/null

CREATE TEMP VIEW kind AS
    SELECT n.position, ('ak_' || n.kind)::name AS role FROM unnest('{nobody,application,issuer,auditor,admin}'::text[]) WITH ORDINALITY n(kind, position);

-- Functions: nobody, application, issuer, auditor, admin.
CREATE TEMP TABLE expected_function (function text, may text);
INSERT INTO expected_function VALUES
    -- Helpers of constraints and defaults: anybody's, and of no use to anybody.
    ('apikey.is_environment(text)',                       'x x x x x'),
    ('apikey.is_grant_list(text[])',                      'x x x x x'),
    ('apikey.is_label(text)',                             'x x x x x'),
    ('apikey.is_revocation_reason(text)',                 'x x x x x'),
    ('apikey.is_role_name(text)',                         'x x x x x'),
    ('apikey.acting_user()',                              'x x x x x'),
    ('apikey.uuid_v7()',                                  'x x x x x'),
    -- Validation, and what the holder of a token may do with it.
    ('apikey.validate(text,text,inet,integer)',           '- x x - x'),
    ('apikey.check_token(text,text,inet,integer)',        '- x x - x'),
    ('apikey.require(text,text,inet,integer)',            '- x x - x'),
    ('apikey.refresh(text)',                              '- x x - x'),
    ('apikey.revoke_token(text,text)',                    '- x x - x'),
    ('apikey.normalize_role(text)',                       '- x x - x'),
    ('apikey.jwks()',                                     '- x x - x'),
    ('apikey.wait_mirrored(xid8,interval)',               '- x x - x'),
    -- Issuing, and withdrawing by id.
    ('apikey.issue(text,text,text,interval,text[],text,text,cidr[],jsonb,text)', '- - x - x'),
    ('apikey.revoke(text,text)',                          '- - x - x'),
    ('apikey.revoke(uuid,text)',                          '- - x - x'),
    ('apikey.revoke_owner(text,text)',                    '- - x - x'),
    ('apikey.disable(text,text)',                         '- - x - x'),
    ('apikey.disable(uuid,text)',                         '- - x - x'),
    -- Looking.
    ('apikey.status()',                                   '- - - x x'),
    ('apikey.counters()',                                 '- - - x x'),
    ('apikey.latency_histogram()',                        '- - - x x'),
    ('apikey.mirror_diff()',                              '- - - x x'),
    -- Administration.
    ('apikey.mirror_resync()',                            '- - - - x'),
    ('apikey.mirror_takeover()',                          '- - - - x'),
    ('apikey.enable(text)',                               '- - - - x'),
    ('apikey.enable(uuid)',                               '- - - - x'),
    ('apikey.rotate_signing_key(text)',                   '- - - - x'),
    ('apikey.stage_signing_key(text)',                    '- - - - x'),
    ('apikey.retire_signing_key(text,boolean)',           '- - - - x'),
    ('apikey.adopt_master_key()',                         '- - - - x'),
    ('apikey.grant_access(name,text)',                    '- - - - x'),
    ('apikey.revoke_access(name)',                        '- - - - x'),
    -- Only the extension's own.
    ('apikey.access_privileges(text)',                    '- - - - -'),
    ('apikey.force_sync_commit()',                        '- - - - -'),
    ('apikey.lock_signing_key(text)',                     '- - - - -'),
    ('apikey.jwk(text,bytea,text)',                       '- - - - -'),
    ('apikey.key_after_delete()',                         '- - - - -'),
    ('apikey.key_check_references()',                     '- - - - -'),
    ('apikey.key_after_insert()',                         '- - - - -'),
    ('apikey.key_after_update()',                         '- - - - -'),
    ('apikey.key_not_offline()',                          '- - - - -'),
    ('apikey.key_before_update()',                        '- - - - -'),
    ('apikey.library_version()',                          '- - - - -'),
    ('apikey.master_key_state()',                         '- - - - -'),
    ('apikey.mirror_state()',                             '- - - - -'),
    ('apikey.prune_outbox(integer)',                      '- - - - -'),
    ('apikey.redis_bucket(uuid)',                         '- - - - -'),
    ('apikey.revocation_to_outbox()',                     '- - - - -'),
    ('apikey.skip_replicated()',                          '- - - - -'),
    ('apikey.topic_to_outbox()',                          '- - - - -'),
    ('apikey.wake_mirror()',                              '- - - - -'),
    ('apikey.fill_withheld()',                            '- - - - -'),
    ('apikey.changed_members(jsonb,jsonb)',               '- - - - -'),
    ('apikey.refuse_change()',                            '- - - - -'),
    ('apikey.revocation_before_insert()',                 '- - - - -'),
    ('apikey.role_after_change()',                        '- - - - -'),
    ('apikey.role_before_change()',                       '- - - - -'),
    ('apikey.role_before_insert()',                       '- - - - -'),
    ('apikey.signing_key_after_change()',                 '- - - - -'),
    ('apikey.signing_key_before_change()',                '- - - - -'),
    ('apikey.analyze_audit_trail(boolean)',               '- - - - -'),
    ('apikey.audit_month_failure(text)',                  '- - - - -'),
    ('apikey.installed_columns()',                        '- - - - -'),
    ('apikey.is_audit_event_published()',                 '- - - - -'),
    ('apikey.is_audit_month_current(date)',               '- - - - -'),
    ('apikey.make_audit_month(date)',                     '- - - - -'),
    ('apikey.missing_audit_months()',                     '- - - - -'),
    ('apikey.audit_month_name(date)',                     '- - - - -'),
    ('apikey.drop_audit_month(interval)',                 '- - - - -'),
    ('apikey.prune_key_usage(uuid,integer)',              '- - - - -'),
    ('apikey.prune_revocations(integer)',                 '- - - - -'),
    ('apikey.prune_usage(interval,integer)',              '- - - - -'),
    ('apikey.record_expired(integer)',                    '- - - - -'),
    ('apikey.is_maintained()',                            '- - - - -'),
    ('apikey.worker_state(text)',                         '- - - - -'),
    ('apikey.withdraw(uuid,integer,text,timestamp with time zone,timestamp with time zone)', '- - - - -');

CREATE TEMP VIEW actual_function AS
    SELECT p.oid::regprocedure::text AS function,
           (SELECT string_agg(CASE WHEN has_function_privilege(k.role, p.oid, 'EXECUTE') THEN 'x' ELSE '-' END, ' ' ORDER BY k.position) FROM kind k) AS may
      FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'apikey'::regnamespace;
SELECT set_eq('TABLE actual_function', 'TABLE expected_function', 'each function may be executed by whom it is for');

-- Tables and views, whole: r(ead), a(dd), w(rite), d(elete), t(runcate), x (references), T(rigger); - is nothing.
CREATE TEMP TABLE expected_relation (relation text, may text);
INSERT INTO expected_relation VALUES
    ('audit_event',         '- - - r r'),
    ('audit_event_default', '- - - - -'),
    ('audit_months',        '- - - r r'),
    ('expiry_progress',     '- - - - -'),
    ('key',                 '- - - - d'),
    ('key_usage',           '- - - r r'),
    ('keys',                '- - - r r'),
    ('metric_types',        '- - - r r'),
    ('metrics',             '- - - r r'),
    ('mirror_epoch',        '- - - - -'),
    ('mirror_unknown',      '- - - - -'),
    ('outbox',              '- - - r r'),
    ('outbox_id_seq',       '- - - - -'),
    ('revocation',          '- - - - r'),
    ('role',                '- - - r rd'),
    ('signing_key',         '- - - - -'),
    ('usage',               '- - - r r');
CREATE TEMP VIEW actual_relation AS
    SELECT c.relname::text AS relation,
           (SELECT string_agg(coalesce(nullif(concat(
                       CASE WHEN has_table_privilege(k.role, c.oid, 'SELECT') THEN 'r' END, CASE WHEN has_table_privilege(k.role, c.oid, 'INSERT') THEN 'a' END,
                       CASE WHEN has_table_privilege(k.role, c.oid, 'UPDATE') THEN 'w' END, CASE WHEN has_table_privilege(k.role, c.oid, 'DELETE') THEN 'd' END,
                       CASE WHEN has_table_privilege(k.role, c.oid, 'TRUNCATE') THEN 't' END, CASE WHEN has_table_privilege(k.role, c.oid, 'REFERENCES') THEN 'x' END,
                       CASE WHEN has_table_privilege(k.role, c.oid, 'TRIGGER') THEN 'T' END), ''), '-'), ' ' ORDER BY k.position) FROM kind k) AS may
      FROM pg_catalog.pg_class c WHERE c.relnamespace = 'apikey'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f');
SELECT set_eq('TABLE actual_relation', 'TABLE expected_relation', 'each table and view may be used as a whole by whom it is for');

-- Columns, where a kind of access has some but not all of a table: only admin does. Hashes, salts, tags and private keys are in no list.
CREATE TEMP TABLE expected_column (relation text, privilege text, columns text);
INSERT INTO expected_column VALUES
    ('key', 'SELECT', 'key_id generation owner role state issued_at expires_at environment previous_expires_at previous_valid_until permissions '
        'allowed_cidrs rate_limit rate_window revoked_at revocation_reason disabled_at metadata name format ttl kid previous_kid idempotency_key '
        'disabled_reason created_at created_by'),
    ('key', 'UPDATE', 'owner role state expires_at environment previous_valid_until permissions allowed_cidrs rate_limit rate_window '
        'revocation_reason metadata name ttl disabled_reason'),
    ('role', 'INSERT', 'name ttl permissions rate_limit rate_window refresh_window format issuable_by description'),
    ('role', 'UPDATE', 'name ttl permissions rate_limit rate_window refresh_window format issuable_by description'),
    ('signing_key', 'SELECT', 'kid algorithm state public_key created_at activated_at verify_only_at retired_at'),
    ('signing_key', 'UPDATE', 'state');
CREATE TEMP VIEW actual_column AS
    SELECT k.role, c.relname::text AS relation, p.privilege, string_agg(a.attname, ' ' ORDER BY a.attnum) AS columns
      FROM kind k, pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
           unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p(privilege)
     WHERE c.relnamespace = 'apikey'::regnamespace AND c.relkind IN ('r', 'p', 'v')
       AND has_column_privilege(k.role, c.oid, a.attnum, p.privilege) AND NOT has_table_privilege(k.role, c.oid, p.privilege)
     GROUP BY k.role, c.relname, p.privilege;
SELECT set_eq('SELECT relation, privilege, columns FROM actual_column WHERE role = ''ak_admin''', 'TABLE expected_column', 'admin reads and writes these columns');
SELECT is_empty('SELECT * FROM actual_column WHERE role <> ''ak_admin''', 'nobody else has single columns');

-- The schema; types follow it.
SELECT results_eq('SELECT k.role::text, has_schema_privilege(k.role, ''apikey'', ''USAGE''), has_schema_privilege(k.role, ''apikey'', ''CREATE'') FROM kind k ORDER BY k.position',
    $$VALUES ('ak_nobody', false, false), ('ak_application', true, false), ('ak_issuer', true, false), ('ak_auditor', true, false), ('ak_admin', true, false)$$,
    'the schema is used by those with access, and nobody may create in it');
SELECT is_empty($$
    SELECT a.privilege_type FROM pg_catalog.pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'apikey'::regnamespace AND a.is_grantable AND a.grantee <> p.proowner
    UNION ALL
    SELECT a.privilege_type FROM pg_catalog.pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'apikey'::regnamespace AND a.is_grantable AND a.grantee <> c.relowner$$,
    'nothing can be granted further, past grant_access()');

-- revoke_access() takes back whatever any kind has given: afterwards the role is nobody, and nothing keeps it from being dropped.
SELECT lives_ok(format('SELECT apikey.revoke_access(%L)', role), format('access of %s is taken back', role)) FROM kind WHERE role <> 'ak_nobody';
SELECT is_empty($$SELECT function FROM actual_function WHERE may NOT IN ('x x x x x', '- - - - -')$$, 'no function is left to any of them');
SELECT is_empty($$SELECT relation FROM actual_relation WHERE may <> '- - - - -'$$, 'no table is');
SELECT is_empty('SELECT * FROM actual_column', 'no column is');
SELECT lives_ok('DROP ROLE ak_application, ak_issuer, ak_auditor, ak_admin', 'nothing of theirs is left');

-- Granting the same again adds up, and is taken back at once.
CREATE ROLE ak_several;
SELECT apikey.grant_access('ak_several', kind) FROM unnest('{application,auditor,application,issuer}'::text[]) kind \g /dev/null
SELECT ok(has_function_privilege('ak_several', 'apikey.issue(text,text,text,interval,text[],text,text,cidr[],jsonb,text)', 'EXECUTE')
      AND has_table_privilege('ak_several', 'apikey.audit_event', 'SELECT'), 'kinds of access add up');
SELECT apikey.revoke_access('ak_several') \g /dev/null
SELECT lives_ok('DROP ROLE ak_several', 'and go together');

SELECT * FROM finish();
ROLLBACK;
