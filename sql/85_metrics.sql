-- What monitoring reads. Counters live in shared memory, for this database, since the server started; keys are counted
-- in their table.

CREATE FUNCTION apikey.counters(OUT name text, OUT labels jsonb, OUT value double precision) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000
    AS 'MODULE_PATHNAME', 'apikey_counters';
COMMENT ON FUNCTION apikey.counters() IS
    'The part of the view metrics that reads no table; where the library is not preloaded, only what describes the '
    'server';

CREATE VIEW apikey.metrics (name, labels, value) AS
    SELECT c.name, c.labels, c.value FROM apikey.counters() c
    UNION ALL
    SELECT 'apikey_mirror_outbox_rows', '{}', count(*) FROM apikey.outbox
    UNION ALL
    SELECT 'apikey_mirror_outbox_age_seconds', '{}', coalesce(EXTRACT(epoch FROM clock_timestamp() - min(o.at)), 0)
      FROM apikey.outbox o
    UNION ALL
    SELECT v.name, '{}', v.value
      FROM (SELECT count(*) FILTER (WHERE m.kept_in = 'missing'), count(*) FILTER (WHERE m.overdue)
              FROM apikey.audit_months m) m(missing, overdue),
           LATERAL (VALUES ('apikey_audit_months_missing', m.missing),
                           ('apikey_audit_months_overdue', m.overdue)) v(name, value)
    UNION ALL
    -- The key table is read once for all of these. Every role is there, also without keys.
    SELECT m.name, m.labels, coalesce(m.value, 0)
      FROM apikey.role r
      LEFT JOIN (
        SELECT k.role,
               count(*) FILTER (WHERE k.state = 'active') AS active,
               count(*) FILTER (WHERE k.state = 'expired') AS expired,
               count(*) FILTER (WHERE k.state = 'disabled') AS disabled,
               count(*) FILTER (WHERE k.state = 'revoked') AS revoked,
               count(*) FILTER (WHERE k.state = 'active' AND k.refresh_after <= clock_timestamp()) AS expiring_soon,
               count(*) FILTER (WHERE k.state = 'expired' AND k.generation = 1) AS expired_without_refresh,
               count(*) FILTER (WHERE k.generation > 1) AS refreshed
          FROM apikey.keys k
         GROUP BY k.role) k ON k.role = r.name
      CROSS JOIN LATERAL (VALUES
        ('apikey_keys', jsonb_build_object('role', r.name, 'state', 'active'), k.active),
        ('apikey_keys', jsonb_build_object('role', r.name, 'state', 'expired'), k.expired),
        ('apikey_keys', jsonb_build_object('role', r.name, 'state', 'disabled'), k.disabled),
        ('apikey_keys', jsonb_build_object('role', r.name, 'state', 'revoked'), k.revoked),
        ('apikey_keys_expiring_soon', jsonb_build_object('role', r.name), k.expiring_soon),
        ('apikey_keys_expired_without_refresh', jsonb_build_object('role', r.name), k.expired_without_refresh),
        ('apikey_keys_refreshed', jsonb_build_object('role', r.name), k.refreshed)) m(name, labels, value);
COMMENT ON VIEW apikey.metrics IS
    'Metrics as Prometheus names them; metric_types says what each one means. Reads the whole key table, so once a '
    'minute is often enough';
COMMENT ON COLUMN apikey.metrics.labels IS 'An object of strings, empty where there is one value only';

CREATE VIEW apikey.metric_types (name, type, help) AS
    VALUES
        ('apikey_build_info', 'gauge', 'Always 1; the label is the version of the library that runs.'),
        ('apikey_in_recovery', 'gauge',
         '1 on a standby, where no worker runs and events are not written down; else 0.'),
        ('apikey_start_time_seconds', 'gauge',
         'When counting began, in Unix time: the start of the server, or its restart after a crash.'),
        ('apikey_keys_issued_total', 'counter', 'Keys issued and committed, without repeats of an idempotent request.'),
        ('apikey_refreshes_total', 'counter', 'Refreshes committed, without those that got the same successor again.'),
        ('apikey_refreshes_refused_total', 'counter', 'Refreshes refused, by the code raised.'),
        ('apikey_validations_total', 'counter',
         'Answers of validate, check_token and require, by code; traffic is key, or anonymous without a key that '
         'counts.'),
        ('apikey_validation_duration_seconds', 'histogram', 'How long validations took inside the server.'),
        ('apikey_proof_cache_hits_total', 'counter', 'Tokens that had proven themselves before and were remembered.'),
        ('apikey_proof_cache_misses_total', 'counter', 'Tokens that had to prove themselves, good and bad ones.'),
        ('apikey_proof_cache_evictions_total', 'counter', 'Remembered proofs that made room for another.'),
        ('apikey_proof_cache_entries', 'gauge',
         'Proofs remembered, for all databases of the server; falls at a restart only.'),
        ('apikey_proof_cache_capacity', 'gauge', 'Proofs that there is room for, for all databases of the server.'),
        ('apikey_proof_cache_bytes', 'gauge', 'Shared memory of the proof cache.'),
        ('apikey_jwt_decode_failures_total', 'counter',
         'Tokens without the prefix of an opaque one that are no JWT of ours either.'),
        ('apikey_rate_limit_violations_total', 'counter',
         'Validations refused as RATE_LIMITED, of keys and of anonymous clients.'),
        ('apikey_rate_limit_evictions_total', 'counter',
         'Rate windows that still mattered and made room for another, so that their limit may be used anew.'),
        ('apikey_events_dropped_total', 'counter',
         'Denials, and counts of uses, lost to the tables because the event ring was full.'),
        ('apikey_denials_summarized_total', 'counter',
         'Denials beyond the audit rows of a second, counted in one row for each code and function.'),
        ('apikey_event_ring_size', 'gauge', 'Events that wait to be written to the tables.'),
        ('apikey_event_ring_capacity', 'gauge', 'Events that the ring has room for.'),
        ('apikey_worker_up', 'gauge', '1 while the worker of this database runs.'),
        ('apikey_worker_starts_total', 'counter', 'Starts of the worker.'),
        ('apikey_worker_failures_total', 'counter', 'Times that the worker ended with an error.'),
        ('apikey_worker_failed_steps_total', 'counter',
         'Steps of the worker''s work that failed; each is tried again.'),
        ('apikey_worker_healthy', 'gauge',
         '1 while the worker runs, no step of its work keeps failing, and the extension is of its version.'),
        ('apikey_worker_last_turn_timestamp_seconds', 'gauge',
         'When the worker last finished a turn of its work, in Unix time; 0: never.'),
        ('apikey_mirror_configured', 'gauge', '1 where apikey.redis_url is set.'),
        ('apikey_mirror_ready', 'gauge',
         '1 while Redis is complete, not more than 5 s behind, and says so; else readers of Redis get "unknown".'),
        ('apikey_mirror_connects_total', 'counter', 'Connections to Redis that were made.'),
        ('apikey_mirror_connection_failures_total', 'counter',
         'Connections to Redis that were lost or could not be made.'),
        ('apikey_mirror_resyncs_total', 'counter', 'Times that Redis was filled anew, by cause.'),
        ('apikey_mirror_rows_sent_total', 'counter',
         'Rows of the outbox, and of revocation in a resync, that Redis was told of.'),
        ('apikey_mirror_bytes_sent_total', 'counter', 'Bytes sent to Redis.'),
        ('apikey_mirror_bytes_received_total', 'counter', 'Bytes received from Redis.'),
        ('apikey_mirror_script_reloads_total', 'counter', 'Times that Redis had forgotten a script.'),
        ('apikey_mirror_restorations_total', 'counter',
         'Times that somebody else had changed the key set or the roles in Redis, and they were written again.'),
        ('apikey_mirror_members', 'gauge', 'Withdrawals that Redis holds, at the last heartbeat.'),
        ('apikey_mirror_watermark_age_seconds', 'gauge',
         'Everything committed before that is in Redis; missing while nothing is known to be.'),
        ('apikey_mirror_outbox_rows', 'gauge', 'Changes that Redis has not been told of yet.'),
        ('apikey_mirror_outbox_age_seconds', 'gauge',
         'How long the oldest of them has been waiting; 0: there is none.'),
        ('apikey_rate_exchange_age_seconds', 'gauge',
         'When counts of rate limits were last exchanged through Redis; missing: never.'),
        ('apikey_rate_nodes', 'gauge',
         'Nodes that share rate limits with this server, itself included; missing where none are shared.'),
        ('apikey_audit_month_failures_total', 'counter',
         'Failures of the worker to make or drop a partition of the audit trail.'),
        ('apikey_audit_months_missing', 'gauge',
         'Of the next two months, those that have no partition of the audit trail yet.'),
        ('apikey_audit_months_overdue', 'gauge',
         'Months of the audit trail that apikey.audit_retention should have dropped a day ago, or before.'),
        ('apikey_keys', 'gauge', 'Keys in the table, by role and state; active ones have not expired.'),
        ('apikey_keys_expiring_soon', 'gauge', 'Active keys inside their refresh window.'),
        ('apikey_keys_expired_without_refresh', 'gauge',
         'Keys in the table that expired and were never refreshed, neither disabled nor revoked.'),
        ('apikey_keys_refreshed', 'gauge', 'Keys in the table that have been refreshed at least once.');
COMMENT ON VIEW apikey.metric_types IS
    'Type and meaning of each metric. A histogram has the suffixes _bucket, _sum and _count in the view metrics';

CREATE FUNCTION apikey.latency_histogram()
    RETURNS TABLE (range text, count bigint, share numeric, cumulative numeric, bar text)
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH bucket AS (
            SELECT b.bound, lag(b.bound, 1, 0) OVER up AS bound_before,
                   b.below - lag(b.below, 1, 0::bigint) OVER up AS n, b.below
              FROM (SELECT (c.labels ->> 'le')::numeric, c.value::bigint FROM apikey.counters() c
                     WHERE c.name = 'apikey_validation_duration_seconds_bucket') b(bound, below)
            WINDOW up AS (ORDER BY b.bound)),
        named AS (
            SELECT b.*, max(b.n) OVER () AS most, nullif(max(b.below) OVER (), 0) AS total,
                   -- The unit in which the bound has no fraction.
                   (SELECT trim_scale(s.seconds * u.size) || ' ' || u.name
                      FROM (VALUES (1, 's'), (1000, 'ms'), (1000000, 'us'), (1000000000, 'ns')) u(size, name)
                     WHERE s.seconds * u.size >= 1
                     ORDER BY u.size LIMIT 1) AS bound_text, s.is_last
              FROM bucket b,
                   LATERAL (SELECT CASE WHEN b.bound = 'Infinity' THEN b.bound_before ELSE b.bound END,
                                   b.bound = 'Infinity') s(seconds, is_last))
        SELECT CASE WHEN n.is_last THEN 'over ' ELSE 'up to ' END || n.bound_text, n.n,
               coalesce(round(100.0 * n.n / n.total, 1), 0.0), coalesce(round(100.0 * n.below / n.total, 1), 0.0),
               coalesce(repeat('#', ceil(40.0 * n.n / nullif(n.most, 0))::integer), '')
          FROM named n ORDER BY n.bound;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the latency histogram needs shared memory, and this database has none of apikey''s',
            HINT = 'Add apikey to shared_preload_libraries and restart the server, or raise apikey.max_databases.';
    END IF;
END
$$;
COMMENT ON FUNCTION apikey.latency_histogram() IS
    'How long validations took since the server started: for each range the count, its share and that of all up to it '
    'in percent, and a bar';
