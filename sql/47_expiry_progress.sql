-- How far the maintenance worker has written expired keys to the audit trail.

CREATE TABLE apikey.expiry_progress (
    expired_up_to timestamptz NOT NULL
);
-- It has one row and no key, so that a restore cannot collide with a row that the worker has written before.
ALTER TABLE apikey.expiry_progress REPLICA IDENTITY FULL;
COMMENT ON TABLE apikey.expiry_progress IS
    'Keys that expired up to then are in the audit trail; the highest row counts';

SELECT pg_catalog.pg_extension_config_dump('apikey.expiry_progress', '');

CREATE FUNCTION apikey.record_expired(batch integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A key whose transaction has not ended yet would be passed by. This comes before the snapshot that looks for keys.
    -- Who has written keys, or locked what a new key refers to, holds a lock on the table; nobody else is waited for,
    -- and who forgets to end not for ever.
    safe_up_to CONSTANT timestamptz := (
        SELECT least(clock_timestamp(), min(coalesce(a.xact_start, a.backend_start)))
          FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'relation'
           AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
           AND l.relation IN ('apikey.key'::regclass, 'apikey.role'::regclass, 'apikey.signing_key'::regclass)
           AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
           AND l.pid <> pg_backend_pid() AND coalesce(a.xact_start, a.backend_start) > now() - interval '1 hour');
    seen bigint;
    last_seen timestamptz;
BEGIN
    -- When a prepared one began, nobody knows any more.
    IF EXISTS (SELECT FROM pg_prepared_xacts p
                JOIN pg_locks x ON x.transactionid = p.transaction AND x.granted AND x.pid IS NULL
                JOIN pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.pid IS NULL
                WHERE p.database = current_database() AND p.prepared > now() - interval '1 hour'
                  AND l.locktype = 'relation'
                  AND l.relation IN ('apikey.key'::regclass, 'apikey.role'::regclass, 'apikey.signing_key'::regclass)
                  AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')) THEN
        RETURN 0;
    END IF;
    -- Who is connected was remembered above, and a pg_restore may have come since: it is looked at again, after the
    -- snapshot is taken.
    PERFORM pg_stat_clear_snapshot();
    -- How far is read with the snapshot that looks for keys: a restore brings it before them. But pg_restore -j loads
    -- the tables in any order, so that keys may be there before the row that says which of them are recorded.
    WITH recorded_before AS MATERIALIZED (
        SELECT max(p.expired_up_to) AS up_to FROM apikey.expiry_progress p),
    expired AS MATERIALIZED (
        SELECT k.key_id, k.generation, k.owner, k.state, k.expires_at FROM apikey.key k
         WHERE k.expires_at > coalesce((SELECT r.up_to FROM recorded_before r), '-infinity')
           AND k.expires_at <= safe_up_to
           AND ((SELECT r.up_to FROM recorded_before r) IS NOT NULL
                OR NOT EXISTS (SELECT FROM pg_stat_activity a
                                WHERE a.datname = current_database() AND a.application_name = 'pg_restore'))
         ORDER BY k.expires_at FETCH FIRST batch ROWS WITH TIES),
    recorded AS (
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, code, detail)
        SELECT 'expired', e.key_id, e.generation, e.owner, 'EXPIRED', jsonb_build_object('expired_at', e.expires_at)
          FROM expired e WHERE e.state <> 'revoked' ORDER BY e.expires_at)
    SELECT count(*), max(e.expires_at) INTO seen, last_seen FROM expired e;
    IF seen > 0 THEN
        DELETE FROM apikey.expiry_progress;
        INSERT INTO apikey.expiry_progress VALUES (CASE WHEN seen < batch THEN safe_up_to ELSE last_seen END);
    END IF;
    RETURN seen;
END
$$;
COMMENT ON FUNCTION apikey.record_expired(integer) IS
    'Writes the next keys that have expired, about that many, to the audit trail';
