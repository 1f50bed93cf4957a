-- What admins and auditors look at.

CREATE VIEW apikey.keys AS
    SELECT k.key_id, k.generation, k.owner, k.name, k.role,
           CASE WHEN k.state <> 'active' THEN k.state
                WHEN k.expires_at <= clock_timestamp() THEN 'expired' ELSE 'active' END AS state,
           k.format, k.environment, k.permissions, k.allowed_cidrs, k.rate_limit, k.rate_window, k.metadata, k.kid,
           k.created_at, k.created_by, k.issued_at,
           -- In UTC, as the library reckons: no time zone's 23-hour day moves it.
           CASE WHEN r.refresh_window IS NULL THEN k.expires_at
                ELSE greatest(k.issued_at, (k.expires_at AT TIME ZONE 'UTC' - r.refresh_window) AT TIME ZONE 'UTC')
                END AS refresh_after, k.expires_at,
           k.previous_valid_until, k.revoked_at, k.revocation_reason, k.disabled_at, k.disabled_reason,
           u.last_used_at, u.last_client
      FROM apikey.key k JOIN apikey.role r ON r.name = k.role LEFT JOIN apikey.key_usage u ON u.key_id = k.key_id;
COMMENT ON VIEW apikey.keys IS 'Keys as people want to see them: no hashes, and expired told from active';

CREATE FUNCTION apikey.master_key_state(OUT state text, OUT detail text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
    AS 'MODULE_PATHNAME', 'apikey_master_key_state';
COMMENT ON FUNCTION apikey.master_key_state() IS
    'ok, missing, refused or mismatch, and why: can this server read the master key that its rows were made under? '
    'unknown where the library is not preloaded';

CREATE FUNCTION apikey.library_version() RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_library_version';
COMMENT ON FUNCTION apikey.library_version() IS
    'Version of the shared library; status() compares it with the extension''s';

CREATE FUNCTION apikey.worker_state(worker text, OUT state text, OUT detail jsonb)
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 50 AS 'MODULE_PATHNAME', 'apikey_worker_state';
COMMENT ON FUNCTION apikey.worker_state(text) IS
    'launcher, maintenance or mirror: ok, failing (a step of its work has failed several times in a row), mismatch '
    '(the extension is of another version than the library), starting, failed (it will be tried again), missing, '
    'unlisted or standby';

CREATE FUNCTION apikey.mirror_state(OUT state text, OUT detail jsonb)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 50 AS 'MODULE_PATHNAME', 'apikey_mirror_state';
COMMENT ON FUNCTION apikey.mirror_state() IS
    'off, connecting, resyncing, ready, late (its worker does not get on), unsafe (that Redis may evict), fenced (a '
    'newer writer has the mirror), foreign (somebody else filled it) or standby, and why';

CREATE FUNCTION apikey.is_maintained() RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 50 AS 'MODULE_PATHNAME', 'apikey_is_maintained';
COMMENT ON FUNCTION apikey.is_maintained() IS
    'Does apikey.databases name this database? NULL where the library is not preloaded, so that there are no workers';

-- What the tables are made of, so that it can be told from what others add to them.
DO $$
BEGIN
    EXECUTE pg_catalog.format('CREATE FUNCTION apikey.installed_columns() RETURNS jsonb '
        'LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS %L',
        pg_catalog.format('SELECT %L::jsonb', (
            SELECT pg_catalog.jsonb_object_agg(t.relname, t.columns)
              FROM (SELECT c.relname, pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum)
                      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                     WHERE c.relnamespace = 'apikey'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p')
                       AND NOT c.relispartition
                     GROUP BY c.relname) t(relname, columns))));
END
$$;
COMMENT ON FUNCTION apikey.installed_columns() IS
    'The columns of the extension''s tables as they were installed, by table';

CREATE FUNCTION apikey.status() RETURNS TABLE (component text, state text, detail jsonb)
    LANGUAGE sql VOLATILE COST 100000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'extension', CASE WHEN e.extversion = apikey.library_version() THEN 'ok' ELSE 'mismatch' END,
           jsonb_build_object('extension_version', e.extversion, 'library_version', apikey.library_version())
      FROM pg_extension e WHERE e.extname = 'apikey'
    UNION ALL
    SELECT 'preload', CASE WHEN EXISTS (
                              SELECT FROM unnest(string_to_array(current_setting('shared_preload_libraries'), ',')) l
                              WHERE btrim(l, ' "') ~ '(^|/)apikey([.]so)?$')
                           THEN 'ok' ELSE 'missing' END,
           jsonb_build_object('shared_preload_libraries', current_setting('shared_preload_libraries'))
    UNION ALL
    SELECT w.worker, s.state, s.detail
      FROM unnest('{launcher,maintenance}'::text[]) w(worker), apikey.worker_state(w.worker) s
    UNION ALL
    SELECT 'mirror', m.state, m.detail || jsonb_build_object('outbox_rows', o.rows) ||
           jsonb_strip_nulls(jsonb_build_object(
               'outbox_age_ms', (EXTRACT(epoch FROM clock_timestamp() - o.oldest) * 1000)::bigint,
               'worker', CASE WHEN current_setting('apikey.redis_url', true) <> ''
                              THEN w.detail || jsonb_build_object('state', w.state) END))
      FROM apikey.mirror_state() m, apikey.worker_state('mirror') w,
           (SELECT count(*), min(b.at) FROM apikey.outbox b) o(rows, oldest)
    UNION ALL
    SELECT 'server', CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END, '{}'
    UNION ALL
    SELECT 'master_key', m.state, jsonb_strip_nulls(jsonb_build_object('detail', m.detail))
      FROM apikey.master_key_state() m
    UNION ALL
    SELECT 'signing_key', CASE WHEN count(*) FILTER (WHERE s.state = 'active') = 1 THEN 'ok' ELSE 'missing' END,
           coalesce(jsonb_object_agg(s.kid, s.state) FILTER (WHERE s.state <> 'retired'), '{}')
      FROM apikey.signing_key s
    UNION ALL
    -- A restore with --disable-triggers leaves them in another mode than they had. A user's own are the user's.
    SELECT 'triggers', CASE WHEN count(*) = 0 THEN 'ok' ELSE 'disabled' END,
           coalesce(jsonb_object_agg(t.tgrelid::regclass || '.' || t.tgname, t.tgenabled), '{}')
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'apikey' AND NOT t.tgisinternal
       AND EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid
                      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
       AND t.tgenabled <> CASE WHEN t.tgname = 'revocation_before_insert' OR t.tgname ~ 'skip_replicated$' THEN 'R'
                               ELSE 'A' END
    UNION ALL
    -- A dump has the values of columns that others have added, and CREATE EXTENSION does not make the columns.
    SELECT 'columns', CASE WHEN count(*) = 0 THEN 'ok' ELSE 'added' END,
           coalesce(jsonb_object_agg(a.relation, a.columns), '{}')
      FROM (SELECT a.attrelid::regclass, jsonb_agg(a.attname ORDER BY a.attnum)
              FROM jsonb_each(apikey.installed_columns()) i(relation, columns)
              JOIN pg_attribute a
                ON a.attrelid = to_regclass(format('apikey.%I', i.relation)) AND a.attnum > 0 AND NOT a.attisdropped
             WHERE NOT i.columns ? a.attname::text
             GROUP BY a.attrelid) a(relation, columns)
    UNION ALL
    SELECT 'audit_months',
           CASE WHEN f.since IS NOT NULL THEN 'failed' WHEN m.overdue IS NOT NULL THEN 'overdue' ELSE 'ok' END,
           jsonb_strip_nulls(jsonb_build_object('make', f.make, 'drop', f.drop, 'missing', m.missing,
                                                'in_default', m.in_default, 'overdue', m.overdue))
      FROM (SELECT min(f.since), jsonb_agg(to_jsonb(f)) FILTER (WHERE s.step = 'make' AND f.since IS NOT NULL) -> 0,
                   jsonb_agg(to_jsonb(f)) FILTER (WHERE s.step = 'drop' AND f.since IS NOT NULL) -> 0
              FROM unnest('{make,drop}'::text[]) s(step), apikey.audit_month_failure(s.step) f) f(since, make, drop),
           (SELECT jsonb_agg(to_char(m.month, 'YYYY-MM') ORDER BY m.month) FILTER (WHERE m.kept_in = 'missing'),
                   jsonb_agg(to_char(m.month, 'YYYY-MM') ORDER BY m.month) FILTER (WHERE m.kept_in = 'default'),
                   jsonb_agg(to_char(m.month, 'YYYY-MM') ORDER BY m.month) FILTER (WHERE m.overdue)
              FROM apikey.audit_months m) m(missing, in_default, overdue)
    UNION ALL
    -- A subscriber has other partitions than its publisher.
    SELECT 'publications', CASE WHEN count(*) = 0 THEN 'ok' ELSE 'partitions' END,
           coalesce(jsonb_object_agg(p.pubname, p.detail), '{}')
      FROM (SELECT p.pubname, 'publishes apikey.audit_event by partition: SET (publish_via_partition_root = true)'
              FROM pg_publication p
             WHERE NOT p.pubviaroot
               AND EXISTS (SELECT FROM pg_publication_tables t
                             JOIN pg_inherits i ON i.inhrelid = to_regclass(format('%I.%I', t.schemaname, t.tablename))
                            WHERE t.pubname = p.pubname AND i.inhparent = 'apikey.audit_event'::regclass)
           ) p(pubname, detail)
    UNION ALL
    SELECT 'keys', 'ok', jsonb_build_object(
               'active', count(*) FILTER (WHERE k.state = 'active'),
               'expired', count(*) FILTER (WHERE k.state = 'expired'),
               'disabled', count(*) FILTER (WHERE k.state = 'disabled'),
               'revoked', count(*) FILTER (WHERE k.state = 'revoked'))
      FROM apikey.keys k
$$;
COMMENT ON FUNCTION apikey.status() IS 'One row for each component: is it in order, and what it says about itself';
