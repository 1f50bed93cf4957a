-- The audit trail's partitions, a month (UTC) each. The maintenance worker calls these functions, each in a transaction
-- of its own, so that a failure of any kind leaves behind what was there before: nothing that makes or drops a month
-- may ever refuse an event. A month without a partition has its events in the default partition. Partitions are no
-- members of the extension: pg_dump dumps them as tables.

CREATE FUNCTION apikey.audit_month_name(month date) RETURNS name
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.to_char(month, '"audit_event_"YYYY"_"MM')::pg_catalog.name;
COMMENT ON FUNCTION apikey.audit_month_name(date) IS 'The partition of a month';

CREATE VIEW apikey.audit_months (month, kept_in, overdue) AS
    WITH RECURSIVE clock AS (
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AS this_month),
    retention AS (
        SELECT s.setting::integer * interval '1 minute' AS kept FROM pg_settings s
         WHERE s.name = 'apikey.audit_retention' AND s.unit = 'min' AND s.setting <> '0'),
    -- A probe of the index for each month.
    held AS (
        SELECT (SELECT date_trunc('month', min(d.at) AT TIME ZONE 'UTC') FROM apikey.audit_event_default d
                 WHERE d.at >= '1970-01-01' AND d.at < '9999-12-01') AS month
        UNION ALL
        SELECT (SELECT date_trunc('month', min(d.at) AT TIME ZONE 'UTC') FROM apikey.audit_event_default d
                 WHERE d.at >= (h.month + interval '1 month') AT TIME ZONE 'UTC' AND d.at < '9999-12-01')
          FROM held h WHERE h.month IS NOT NULL),
    kept AS (
        SELECT to_date(right(c.relname, 7), 'YYYY_MM')::timestamp AS month, 'partition' AS place
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'apikey.audit_event'::regclass AND c.relname ~ '^audit_event_[0-9]{4}_[0-9]{2}$'
        UNION ALL
        SELECT h.month, 'default' FROM held h WHERE h.month IS NOT NULL)
    SELECT k.month::date, k.place,
           coalesce((SELECT (k.month + interval '1 month 1 day') AT TIME ZONE 'UTC' <= now() - r.kept
                       FROM retention r), false)
      FROM kept k
    UNION ALL
    SELECT m.month::date, 'missing', false
      FROM clock c, generate_series(c.this_month + interval '1 month', c.this_month + interval '2 months',
                                    interval '1 month') m(month)
     WHERE NOT EXISTS (SELECT FROM kept k WHERE k.month = m.month)
       -- Not before there is something to keep.
       AND EXISTS (SELECT FROM apikey.audit_event);
COMMENT ON VIEW apikey.audit_months IS
    'The months of the audit trail, with the next two, and where their events are kept';
COMMENT ON COLUMN apikey.audit_months.kept_in IS
    'partition: its own; default: the default partition; missing: it has no partition yet, and its events, when there '
    'are any, go to the default partition';
COMMENT ON COLUMN apikey.audit_months.overdue IS 'Should apikey.audit_retention have dropped it a day ago, or before?';

CREATE FUNCTION apikey.is_audit_event_published() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_publication_tables t
                    WHERE t.schemaname = 'apikey' AND t.tablename IN ('audit_event', 'audit_event_default'))
$$;
COMMENT ON FUNCTION apikey.is_audit_event_published() IS
    'Would a subscriber be sent what happens to rows of the default partition? It refuses to delete them, so they stay '
    'there';

CREATE FUNCTION apikey.is_audit_month_current(month date) RETURNS boolean
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT clock_timestamp() >= month::timestamp AT TIME ZONE 'UTC' - interval '2 minutes'
       AND clock_timestamp() < (month + interval '1 month') AT TIME ZONE 'UTC' + interval '2 minutes'
$$;
COMMENT ON FUNCTION apikey.is_audit_month_current(date) IS
    'Are there events of the month being written? One that is on its way to the default partition when its month is '
    'attached would be refused';

CREATE FUNCTION apikey.missing_audit_months() RETURNS SETOF date
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.month
      FROM apikey.audit_months m,
           LATERAL (SELECT m.month::timestamp AT TIME ZONE 'UTC',
                           (m.month + interval '1 month') AT TIME ZONE 'UTC') r(first, past)
     WHERE m.kept_in <> 'partition' AND m.month <= date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months'
       AND NOT apikey.is_audit_month_current(m.month)
       -- Somebody else's table is left alone.
       AND to_regclass(format('apikey.%I', apikey.audit_month_name(m.month))) IS NULL
       -- Not before there is something to keep: in a database that is being restored, the dump's own partitions come
       -- first.
       AND EXISTS (SELECT FROM apikey.audit_event)
       AND (m.kept_in = 'missing' OR NOT apikey.is_audit_event_published()
            -- As many as can be moved while writers wait.
            AND (SELECT count(*) FROM (SELECT FROM apikey.audit_event_default d
                                        WHERE d.at >= r.first AND d.at < r.past LIMIT 50001) f) <= 50000)
     ORDER BY m.month DESC
$$;
COMMENT ON FUNCTION apikey.missing_audit_months() IS
    'Months that the worker is to make a partition of audit_event for: the next two, and those that are over and whose '
    'events are in the default partition';

CREATE FUNCTION apikey.make_audit_month(month date) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '500ms' SET timezone = 'UTC'
AS $$
DECLARE
    partition CONSTANT name := apikey.audit_month_name(month);
    first CONSTANT timestamptz := month::timestamptz;
    past CONSTANT timestamptz := (month + interval '1 month')::timestamptz;
    handed_out record;
    moved bigint := 0;
BEGIN
    IF month <> date_trunc('month', month) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s is not the first day of a month', month);
    END IF;
    IF apikey.is_audit_month_current(month) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('events of %s are being written', to_char(month, 'YYYY-MM')),
            DETAIL = 'One that is on its way to the default partition would be refused '
                     'when the partition of its month is attached.',
            HINT = 'Wait until the month is over.';
    END IF;
    EXECUTE format('CREATE TABLE apikey.%I (LIKE apikey.audit_event INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE apikey.%1$I ADD CONSTRAINT %2$I PRIMARY KEY (event_id)',
                   partition, partition || '_pkey');
    EXECUTE format('CREATE INDEX %2$I ON apikey.%1$I (key_id, at)', partition, partition || '_key_id');
    EXECUTE format('CREATE INDEX %2$I ON apikey.%1$I (at)', partition, partition || '_at');
    EXECUTE format('COMMENT ON TABLE apikey.%I IS %L',
                   partition, 'Audit events of ' || to_char(month, 'YYYY-MM') || ' (UTC)');
    -- Read through the parent only, whatever ALTER DEFAULT PRIVILEGES says.
    FOR handed_out IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_get_userbyid(a.grantee)) END AS grantee
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.oid = format('apikey.%I', partition)::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON apikey.%I FROM %s', partition, handed_out.grantee);
    END LOOP;
    EXECUTE format('CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON apikey.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change()', partition);
    EXECUTE format('ALTER TABLE apikey.%I ENABLE ALWAYS TRIGGER audit_event_no_truncate', partition);
    -- From here on writers and readers of the trail wait. Attaching takes these locks, in this order.
    LOCK TABLE ONLY apikey.audit_event IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE apikey.audit_event_default IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM apikey.audit_event_default d WHERE d.at >= first AND d.at < past) THEN
        IF apikey.is_audit_event_published() THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('events of %s are in the default partition, and a publication has it',
                                 to_char(month, 'YYYY-MM')),
                DETAIL = 'Subscribers would be sent the deletion of the rows that move, and refuse it.';
        END IF;
        ALTER TABLE apikey.audit_event_default DISABLE TRIGGER audit_event_append_only;
        EXECUTE format('WITH moved AS (DELETE FROM apikey.audit_event_default WHERE at >= $1 AND at < $2 RETURNING *) '
                       'INSERT INTO apikey.%I SELECT * FROM moved', partition) USING first, past;
        GET DIAGNOSTICS moved = ROW_COUNT;
        ALTER TABLE apikey.audit_event_default ENABLE ALWAYS TRIGGER audit_event_append_only;
    END IF;
    EXECUTE format('ALTER TABLE apikey.audit_event ATTACH PARTITION apikey.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, first, past);
    RETURN moved;
END
$$;
COMMENT ON FUNCTION apikey.make_audit_month(date) IS
    'Makes the partition of audit_event for a month, in one transaction, with the events of that month that are in the '
    'default partition; returns how many';

CREATE FUNCTION apikey.drop_audit_month(retention interval) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '500ms' SET timezone = 'UTC'
AS $$
DECLARE
    partition name;
BEGIN
    SELECT c.relname INTO partition
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'apikey.audit_event'::regclass AND c.relname ~ '^audit_event_[0-9]{4}_[0-9]{2}$'
       AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= now() - retention
     ORDER BY c.relname LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    EXECUTE format('DROP TABLE apikey.%I', partition);
    INSERT INTO apikey.audit_event (event, detail)
    VALUES ('audit_month_dropped',
            jsonb_build_object('month', replace(right(partition, 7), '_', '-'), 'retention', retention::text));
    RETURN 1;
END
$$;
COMMENT ON FUNCTION apikey.drop_audit_month(interval) IS
    'Drops the oldest partition of audit_event that is older than that as a whole; NULL: none ever is';

CREATE FUNCTION apikey.analyze_audit_trail(changed boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms'
AS $$
BEGIN
    IF changed
       OR coalesce(pg_stat_get_last_analyze_time('apikey.audit_event'::regclass)
                   < clock_timestamp() - interval '1 day', true)
       AND EXISTS (SELECT FROM apikey.audit_event)
    THEN
        IF current_setting('server_version_num')::integer >= 180000 THEN
            EXECUTE 'ANALYZE ONLY apikey.audit_event';
        ELSE
            ANALYZE apikey.audit_event;
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION apikey.analyze_audit_trail(boolean) IS
    'Statistics of audit_event as a whole, which autovacuum never makes: when partitions have changed, and once a day';

CREATE FUNCTION apikey.audit_month_failure(step text,
    OUT since timestamptz, OUT month date, OUT failures bigint, OUT sqlstate text, OUT message text)
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 100 AS 'MODULE_PATHNAME', 'apikey_audit_month_failure';
COMMENT ON FUNCTION apikey.audit_month_failure(text) IS
    'What the maintenance worker last failed at, when it was to make or drop (step) a month, and since when; since is '
    'NULL where nothing is wrong';
