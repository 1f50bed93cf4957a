-- The audit trail's partitions, a month (UTC) each, made before the month begins, so that no row has to move. The maintenance worker calls
-- these functions, each in a transaction of its own: attaching a partition locks the default one, and would read all of its rows under
-- that lock, had a validated constraint not said before that none of them belongs to the month. They are no members of the extension:
-- pg_dump dumps them as tables.

CREATE FUNCTION apikey.audit_month_name(month date) RETURNS name
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN pg_catalog.to_char(month, '"audit_event_"YYYY"_"MM')::pg_catalog.name;
COMMENT ON FUNCTION apikey.audit_month_name(date) IS 'The partition of a month';

CREATE FUNCTION apikey.missing_audit_month() RETURNS date
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.month
      FROM (SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date AS month FROM generate_series(1, 2) n) m
     WHERE to_regclass(format('apikey.%I', apikey.audit_month_name(m.month))) IS NULL
       -- Where there are events of the month already, from a time when the clock was wrong, they and it stay in the default partition.
       AND NOT EXISTS (SELECT FROM apikey.audit_event_default d
                        WHERE d.at >= m.month::timestamp AT TIME ZONE 'UTC' AND d.at < (m.month + interval '1 month') AT TIME ZONE 'UTC')
       -- Not before there is something to keep: in a database that is being restored, the dump's own partitions come first.
       AND EXISTS (SELECT FROM apikey.audit_event)
     ORDER BY m.month LIMIT 1
$$;
COMMENT ON FUNCTION apikey.missing_audit_month() IS 'The first of the next two months that has no partition of audit_event yet; NULL: all have';

CREATE FUNCTION apikey.announce_audit_month(month date) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC'
AS $$
DECLARE
    announced CONSTANT name := 'not_' || apikey.audit_month_name(month);
BEGIN
    EXECUTE format('ALTER TABLE apikey.audit_event_default ADD CONSTRAINT %I CHECK (at IS NULL OR at < %L OR at >= %L) NOT VALID',
        announced, month::timestamptz, (month + interval '1 month')::timestamptz);
END
$$;
COMMENT ON FUNCTION apikey.announce_audit_month(date) IS 'From now on the default partition of audit_event takes no rows of the month, which is yet to come';

CREATE FUNCTION apikey.withdraw_audit_months() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
    announced name;
BEGIN
    FOR announced IN
        SELECT c.conname FROM pg_constraint c
         WHERE c.conrelid = 'apikey.audit_event_default'::regclass AND c.contype = 'c' AND c.conname ~ '^not_audit_event_[0-9]{4}_[0-9]{2}$'
    LOOP
        EXECUTE format('ALTER TABLE apikey.audit_event_default DROP CONSTRAINT %I', announced);
    END LOOP;
END
$$;
COMMENT ON FUNCTION apikey.withdraw_audit_months() IS
    'Takes back what was announced and not made: once such a month begins, nothing that is audited could be done any more';

CREATE FUNCTION apikey.validate_audit_month(month date) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC'
AS $$
BEGIN
    EXECUTE format('ALTER TABLE apikey.audit_event_default VALIDATE CONSTRAINT %I', 'not_' || apikey.audit_month_name(month));
END
$$;
COMMENT ON FUNCTION apikey.validate_audit_month(date) IS 'Makes sure that the default partition has no rows of the month; reads it all, and stops nobody';

CREATE FUNCTION apikey.attach_audit_month(month date) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC'
AS $$
DECLARE
    partition CONSTANT name := apikey.audit_month_name(month);
    handed_out record;
BEGIN
    EXECUTE format('CREATE TABLE apikey.%I (LIKE apikey.audit_event INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE apikey.%1$I ADD CONSTRAINT %2$I PRIMARY KEY (event_id)', partition, partition || '_pkey');
    EXECUTE format('CREATE INDEX %2$I ON apikey.%1$I (key_id, at)', partition, partition || '_key_id');
    EXECUTE format('CREATE INDEX %2$I ON apikey.%1$I (at)', partition, partition || '_at');
    EXECUTE format('COMMENT ON TABLE apikey.%I IS %L', partition, 'Audit events of ' || to_char(month, 'YYYY-MM') || ' (UTC)');
    -- Read through the parent only, whatever ALTER DEFAULT PRIVILEGES says.
    FOR handed_out IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE format('%I', pg_get_userbyid(a.grantee)) END AS grantee
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.oid = format('apikey.%I', partition)::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON apikey.%I FROM %s', partition, handed_out.grantee);
    END LOOP;
    EXECUTE format('CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON apikey.%I FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change()', partition);
    EXECUTE format('ALTER TABLE apikey.%I ENABLE ALWAYS TRIGGER audit_event_no_truncate', partition);
    EXECUTE format('ALTER TABLE apikey.audit_event ATTACH PARTITION apikey.%I FOR VALUES FROM (%L) TO (%L)', partition, month::timestamptz,
        (month + interval '1 month')::timestamptz);
    EXECUTE format('ALTER TABLE apikey.audit_event_default DROP CONSTRAINT %I', 'not_' || partition);
END
$$;
COMMENT ON FUNCTION apikey.attach_audit_month(date) IS 'Makes the partition of audit_event for a month that has been announced';

CREATE FUNCTION apikey.drop_audit_month(retention interval) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC'
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
    VALUES ('audit_month_dropped', jsonb_build_object('month', replace(right(partition, 7), '_', '-'), 'retention', retention::text));
    RETURN 1;
END
$$;
COMMENT ON FUNCTION apikey.drop_audit_month(interval) IS 'Drops the oldest partition of audit_event that is older than that as a whole; NULL: none ever is';
