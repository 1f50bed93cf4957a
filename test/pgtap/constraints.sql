-- Each constraint refuses the nonsense that it is there for, with its own SQLSTATE and name, whoever writes: these statements run as a
-- superuser. A constraint without a case here is a failure.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT plan(12);

-- 'accepted', or SQLSTATE and the constraint's name.
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    refused_by text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS refused_by = CONSTRAINT_NAME;
    RETURN SQLSTATE || CASE refused_by WHEN '' THEN '' ELSE ' ' || refused_by END;
END
$$;

CREATE TEMP TABLE issued AS SELECT i.key_id FROM apikey.issue('constraints', 'basic', idempotency_key => 'known') i;
CREATE TEMP TABLE known AS SELECT k.key_id, k.kid FROM apikey.key k JOIN issued USING (key_id);
CREATE TEMP TABLE refreshed AS
    SELECT r.key_id FROM apikey.issue('constraints', 'basic', ttl => '1 hour') i, apikey.refresh(i.token) r;

CREATE TEMP TABLE nonsense (id integer GENERATED ALWAYS AS IDENTITY, refused_by text, statement text);

-- Roles: a row of good values with one of them replaced.
INSERT INTO nonsense (refused_by, statement)
SELECT n.refused_by, format('INSERT INTO apikey.role (name, ttl, refresh_window, permissions, rate_limit, rate_window, format, issuable_by, description)'
        ' VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)',
        coalesce(n.changed ->> 'name', '''nonsense'''), coalesce(n.changed ->> 'ttl', '''1 day'''), coalesce(n.changed ->> 'refresh_window', '''1 hour'''),
        coalesce(n.changed ->> 'permissions', '''{chat:read}'''), coalesce(n.changed ->> 'rate_limit', '10'),
        coalesce(n.changed ->> 'rate_window', '''1 minute'''), coalesce(n.changed ->> 'format', '''jwt'''),
        coalesce(n.changed ->> 'issuable_by', 'NULL'), coalesce(n.changed ->> 'description', ''''''))
  FROM (VALUES
    ('role_name_check', '{"name": "''Basic''"}'::jsonb),
    ('role_name_check', '{"name": "''node-operator''"}'),
    ('role_name_check', '{"name": "''''"}'),
    ('role_name_check', '{"name": "''9lives''"}'),
    ('role_name_check', '{"name": "repeat(''a'', 64)"}'),
    ('role_ttl_check', '{"ttl": "''0''"}'),
    ('role_ttl_check', '{"ttl": "''-1 day''"}'),
    ('role_ttl_check', '{"ttl": "''101 years''"}'),
    ('role_permissions_check', '{"permissions": "''{chat read}''"}'),
    ('role_permissions_check', '{"permissions": "''{Chat:Read}''"}'),
    ('role_permissions_check', '{"permissions": "''{chat::read}''"}'),
    ('role_permissions_check', '{"permissions": "''{chat:re*}''"}'),
    ('role_permissions_check', '{"permissions": "''{:}''"}'),
    ('role_permissions_check', '{"permissions": "ARRAY(SELECT ''p'' || n FROM generate_series(1, 65) n)"}'),
    ('role_permissions_check', '{"permissions": "''{\"\"}''"}'),
    ('role_permissions_check', '{"permissions": "''{chat:read,NULL}''"}'),
    ('role_permissions_check', '{"permissions": "''{chat:read,chat:read}''"}'),
    ('role_permissions_check', '{"permissions": "''{{chat:read},{chat:write}}''"}'),
    ('role_rate_limit_check', '{"rate_limit": "0"}'),
    ('role_rate_limit_check', '{"rate_limit": "-5"}'),
    ('role_rate_window_check', '{"rate_window": "''0.5 seconds''"}'),
    ('role_rate_window_check', '{"rate_window": "''32 days''"}'),
    ('role_rate_check', '{"rate_window": "NULL"}'),
    ('role_refresh_window_check', '{"refresh_window": "''-1 second''"}'),
    ('role_refresh_window_check', '{"refresh_window": "''101 years''"}'),
    ('role_refresh_check', '{"refresh_window": "NULL"}'),
    ('role_refresh_check', '{"ttl": "NULL"}'),
    ('role_issuable_by_check', '{"issuable_by": "''{NULL}''"}'),
    ('role_issuable_by_check', '{"issuable_by": "''{\"\"}''"}'),
    ('role_issuable_by_check', '{"issuable_by": "''{{a},{b}}''"}'),
    ('role_issuable_by_check', '{"issuable_by": "array_fill(''a''::name, ''{257}'')"}'),
    ('role_description_check', '{"description": "repeat(''a'', 1001)"}'),
    ('role_format_check', '{"format": "''saml''"}'),
    ('role_pkey', '{"name": "''node_operator''"}')) n(refused_by, changed);
-- A seed role gives way as long as nobody has edited it.
UPDATE apikey.role SET description = 'edited' WHERE name = 'node_operator';

-- Keys: an issued row, edited.
INSERT INTO nonsense (refused_by, statement)
SELECT n.refused_by, format('UPDATE apikey.key SET %s WHERE key_id = %L', n.edit, k.key_id)
  FROM known k, (VALUES
    ('key_owner_check', 'owner = '''''),
    ('key_owner_check', 'owner = E''a\nb'''),
    ('key_owner_check', 'owner = repeat(''a'', 256)'),
    ('key_name_check', 'name = '''''),
    ('key_state_check', 'state = ''suspended'''),
    ('key_state_check', 'state = ''expired'''),
    ('key_format_check', 'format = ''saml'''),
    ('key_format_check', 'format = ''opaque'''),
    ('key_format_check', 'kid = NULL'),
    ('key_environment_check', 'environment = ''Live'''),
    ('key_environment_check', 'environment = '''''),
    ('key_environment_check', 'environment = ''seventeen01234567'''),
    ('key_permissions_check', 'permissions = ''{}'''),
    ('key_permissions_check', 'permissions = ''{chat read}'''),
    ('key_permissions_check', 'permissions = ''{NULL}'''),
    ('key_permissions_check', 'permissions = ''{{chat:read}}'''),
    ('key_allowed_cidrs_check', 'allowed_cidrs = ''{}'''),
    ('key_allowed_cidrs_check', 'allowed_cidrs = array_fill(''10.0.0.0/8''::cidr, ''{257}'')'),
    ('key_owner_check', 'owner = ''a'' || chr(8238)'),
    ('key_name_check', 'name = ''a'' || chr(8238)'),
    ('key_allowed_cidrs_check', 'allowed_cidrs = ''{NULL}'''),
    ('key_allowed_cidrs_check', 'allowed_cidrs = ''{{10.0.0.0/8},{192.168.0.0/16}}'''),
    ('key_metadata_check', 'metadata = ''[]'''),
    ('key_metadata_check', 'metadata = ''null'''),
    ('key_metadata_check', 'metadata = jsonb_build_object(''a'', repeat(''a'', 8192))'),
    ('key_rate_limit_check', 'rate_limit = 0'),
    ('key_rate_limit_check', 'rate_limit = -5'),
    ('key_rate_window_check', 'rate_limit = 1, rate_window = ''0.5 seconds'''),
    ('key_rate_window_check', 'rate_limit = 1, rate_window = ''32 days'''),
    ('key_rate_check', 'rate_window = ''1 minute'''),
    ('key_ttl_check', 'ttl = ''0'''),
    ('key_ttl_check', 'ttl = ''-1 day'''),
    ('key_ttl_check', 'ttl = ''101 years'''),
    ('key_disabled_check', E'disabled_reason = ''a\nb'''),
    ('key_expires_at_check', 'expires_at = ''infinity'''),
    ('key_expires_at_check', 'expires_at = ''-infinity'''),
    ('key_expires_at_check', 'expires_at = ''9999-12-31 00:00:00+00'''),
    ('key_issued_at_check', 'issued_at = ''infinity'''),
    ('key_issued_at_check', 'issued_at = ''-infinity'''),
    ('key_token_check', 'token_hash = ''short'''),
    ('key_token_check', 'token_salt = ''short'''),
    ('key_token_check', 'token_iterations = 0'),
    ('key_token_check', 'token_tag = ''short'''),
    ('key_previous_check', 'previous_hash = token_hash'),
    ('key_previous_check', 'previous_valid_until = now()'),
    ('key_previous_check', 'previous_hash = ''short'', previous_salt = token_salt, previous_iterations = 1, previous_tag = token_tag, '
        'previous_expires_at = now(), previous_valid_until = now()'),
    ('key_fingerprint_check', 'master_key_fingerprint = ''short'''),
    ('key_idempotency_check', 'idempotency_key = '''''),
    ('key_idempotency_check', 'idempotency_digest = NULL'),
    ('key_revoked_check', 'revoked_at = now()'),
    ('key_revoked_check', 'revocation_reason = ''UNSPECIFIED'''),
    ('key_revoked_check', 'state = ''revoked'', revocation_reason = ''BECAUSE'''),
    ('key_role_fkey', 'role = ''no_such_role'''),
    ('key_kid_fkey', 'kid = ''no_such_kid''')) n(refused_by, edit);

-- Rows that no edit can make, because a trigger would put them right.
INSERT INTO nonsense (refused_by, statement)
SELECT n.refused_by, format('INSERT INTO apikey.key SELECT (jsonb_populate_record(k, %L)).* FROM apikey.key k WHERE k.key_id = %L', n.changed, k.key_id)
  FROM known k, (VALUES
    ('key_generation_check', '{"key_id": "00000000-0000-7000-8000-000000000001", "idempotency_key": "x", "generation": 0}'),
    ('key_disabled_check', '{"key_id": "00000000-0000-7000-8000-000000000002", "idempotency_key": "y", "state": "disabled"}'),
    ('key_pkey', '{"idempotency_key": "z"}'),
    ('key_idempotency', '{"key_id": "00000000-0000-7000-8000-000000000003"}')) n(refused_by, changed);

-- Signing keys and withdrawals.
INSERT INTO nonsense (refused_by, statement)
SELECT n.refused_by, format('INSERT INTO apikey.signing_key SELECT (jsonb_populate_record(s, %L)).* FROM apikey.signing_key s WHERE s.kid = %L', n.changed, k.kid)
  FROM known k, (VALUES
    ('signing_key_kid_check', '{"kid": "", "state": "pending"}'),
    ('signing_key_kid_check', '{"kid": "a b", "state": "pending"}'),
    ('signing_key_algorithm_check', '{"kid": "a", "state": "pending", "algorithm": "none"}'),
    ('signing_key_state_check', '{"kid": "a", "state": "lost"}'),
    ('signing_key_public_key_check', '{"kid": "a", "state": "pending", "public_key": null}'),
    ('signing_key_public_key_check', '{"kid": "a", "state": "pending", "algorithm": "HS256"}'),
    ('signing_key_fingerprint_check', '{"kid": "a", "state": "pending", "master_key_fingerprint": "\\x00"}'),
    ('signing_key_active', '{"kid": "a"}'),
    ('signing_key_pkey', '{"state": "pending"}')) n(refused_by, changed);
INSERT INTO nonsense (refused_by, statement)
SELECT n.refused_by, format('INSERT INTO apikey.revocation (key_id, generation, kind, until) SELECT key_id, %s, now() FROM known', n.row)
  FROM (VALUES
    ('revocation_kind_check', '1, ''forgotten'''),
    ('revocation_changed_check', 'NULL, ''changed''')) n(refused_by, "row");
INSERT INTO nonsense (refused_by, statement)
SELECT 'revocation_times_check', format('INSERT INTO apikey.revocation (key_id, effective_at, until) SELECT key_id, %s FROM known', n.times)
  FROM (VALUES ('''infinity'', now()'), ('now(), ''infinity'''), ('''-infinity'', now()')) n(times);
INSERT INTO apikey.revocation (key_id, until) SELECT key_id, now() FROM known;
INSERT INTO nonsense (refused_by, statement) VALUES ('revocation_unique', 'INSERT INTO apikey.revocation (key_id, until) SELECT key_id, now() FROM known');
INSERT INTO nonsense (refused_by, statement)
VALUES ('audit_event_default_pkey', 'INSERT INTO apikey.audit_event_default SELECT * FROM apikey.audit_event_default LIMIT 1');

INSERT INTO apikey.usage (key_id, hour, code, count) SELECT key_id, '2026-01-01', 'VALID', 1 FROM known;
INSERT INTO apikey.key_usage (key_id, last_used_at) SELECT key_id, now() FROM known;
INSERT INTO nonsense (refused_by, statement) VALUES
    ('usage_pkey', 'INSERT INTO apikey.usage TABLE apikey.usage'),
    ('usage_count_check', 'UPDATE apikey.usage SET count = 0'),
    ('key_usage_pkey', 'INSERT INTO apikey.key_usage TABLE apikey.key_usage');

-- What the mirror keeps.
INSERT INTO apikey.outbox (topic) VALUES ('roles');
INSERT INTO apikey.mirror_epoch (counter, timeline, cause) VALUES (1, 1, 'connected');
INSERT INTO apikey.mirror_unknown (member, until) VALUES ('a', now());
INSERT INTO nonsense (refused_by, statement) VALUES
    ('outbox_topic_check', 'INSERT INTO apikey.outbox (topic) VALUES (''weather'')'),
    ('outbox_topic_check', 'INSERT INTO apikey.outbox (topic) VALUES (''key'')'),
    ('outbox_topic_check', 'INSERT INTO apikey.outbox (topic, key_id) SELECT ''jwks'', key_id FROM known'),
    ('outbox_pkey', 'INSERT INTO apikey.outbox OVERRIDING SYSTEM VALUE SELECT * FROM apikey.outbox LIMIT 1'),
    ('mirror_epoch_pkey', 'INSERT INTO apikey.mirror_epoch (counter, timeline, cause) VALUES (1, 1, ''connected'')'),
    ('mirror_epoch_unique', 'INSERT INTO apikey.mirror_epoch SELECT counter + 1, epoch, timeline, cause FROM apikey.mirror_epoch'),
    ('mirror_unknown_pkey', 'INSERT INTO apikey.mirror_unknown TABLE apikey.mirror_unknown');

SELECT results_eq('SELECT n.statement, pg_temp.outcome(n.statement) FROM nonsense n ORDER BY n.id',
    $$SELECT n.statement, CASE WHEN n.refused_by LIKE '%\_fkey' THEN '23503 ' WHEN c.contype = 'c' THEN '23514 ' ELSE '23505 ' END || n.refused_by
        FROM nonsense n LEFT JOIN pg_catalog.pg_constraint c ON c.connamespace = 'apikey'::regnamespace AND c.conname::text = n.refused_by ORDER BY n.id$$,
    'each piece of nonsense is refused by the constraint that is meant to');
SELECT is_empty($$
    SELECT c.conname::text FROM pg_catalog.pg_constraint c WHERE c.connamespace = 'apikey'::regnamespace AND c.contype IN ('c', 'f', 'u', 'p', 'x')
    UNION
    SELECT i.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
     WHERE x.indisunique AND i.relnamespace = 'apikey'::regnamespace
    EXCEPT SELECT n.refused_by FROM nonsense n$$, 'every constraint and unique index has a case here');

-- NULL where there must be a value, column by column.
SELECT set_eq($$
    SELECT a.attname::text, pg_temp.outcome(format('UPDATE apikey.key SET %I = NULL WHERE key_id = %L', a.attname, k.key_id))
      FROM known k, pg_catalog.pg_attribute a WHERE a.attrelid = 'apikey.key'::regclass AND a.attnotnull AND a.attnum > 0$$,
    $$VALUES ('key_id', '55000'), ('generation', '23502'), ('owner', '23502'), ('role', '23502'), ('state', '23502'), ('issued_at', '23502'),
             ('expires_at', '23502'), ('format', '23502'), ('environment', '23502'), ('metadata', '23502'), ('token_hash', '23502'),
             ('token_salt', '23502'), ('token_iterations', '23502'), ('token_tag', '23502'), ('master_key_fingerprint', '23502'),
             ('created_at', '55000'), ('created_by', '55000')$$, 'no column of a key that is needed can become NULL');

-- Withdrawing without a trace: each table refuses by itself, not only because another one that it would take along does.
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT set_eq($$
    SELECT pg_temp.refusal(format('TRUNCATE %s CASCADE', c.oid::regclass)) FROM pg_catalog.pg_class c
     WHERE c.relnamespace = 'apikey'::regnamespace AND c.relkind IN ('r', 'p')
       -- Statistics, and what would only be found again.
       AND c.relname NOT IN ('usage', 'key_usage', 'expiry_progress')$$,
    $$SELECT format('55000 TRUNCATE on apikey.%s is refused', t)
        FROM unnest('{audit_event,audit_event_default,key,mirror_epoch,mirror_unknown,outbox,revocation,role,signing_key}'::text[]) t$$, 'TRUNCATE of each table is refused');

-- What a trigger refuses: no constraint sees the row before.
SELECT throws_ok(format('UPDATE apikey.key SET key_id = apikey.uuid_v7() WHERE key_id = %L', key_id), '55000', NULL, 'a key keeps its id') FROM known;
SELECT throws_ok(format('UPDATE apikey.key SET generation = 1 WHERE key_id = %L', key_id), '55000', NULL, 'generations never fall') FROM refreshed;
SELECT throws_ok(format('UPDATE apikey.key SET previous_valid_until = ''infinity'' WHERE key_id = %L', key_id), '23514', NULL, 'a grace ends') FROM refreshed;
SELECT throws_ok($$DELETE FROM apikey.role WHERE name = 'basic'$$, '55000', NULL, 'seed roles stay');
SELECT throws_ok($$UPDATE apikey.role SET name = 'bare' WHERE name = 'basic'$$, '55000', NULL, 'under their names');
SELECT throws_ok(format('UPDATE apikey.signing_key SET private_key = public_key WHERE kid = %L', kid), '55000', NULL, 'key material does not change') FROM known;
SELECT throws_ok(format('DELETE FROM apikey.signing_key WHERE kid = %L', kid), '55000', NULL, 'a signing key in use is not deleted') FROM known;
SELECT throws_ok($$UPDATE apikey.signing_key SET state = 'retired' WHERE state = 'active'$$, '55000', NULL, 'states go forward one by one');

SELECT * FROM finish();
ROLLBACK;
