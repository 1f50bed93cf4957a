-- What the mirror worker works on: which keys have changed since Redis was last told.

CREATE TABLE apikey.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    topic text COLLATE "C" NOT NULL DEFAULT 'key',
    key_id uuid,
    restored boolean NOT NULL DEFAULT false,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text,
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_topic_check CHECK (topic IN ('key', 'roles', 'jwks') AND (topic = 'key') = (key_id IS NOT NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000);
COMMENT ON TABLE apikey.outbox IS
    'What has changed and is not in Redis yet. A row says that, not how: the worker sends the state that it finds, and '
    'deletes the row when Redis has it';
COMMENT ON SEQUENCE apikey.outbox_id_seq IS 'Numbers rows of outbox';
COMMENT ON COLUMN apikey.outbox.id IS
    'An order to read in, not one of commits: rows are taken as they are there, and no position is kept';
COMMENT ON COLUMN apikey.outbox.topic IS 'key, roles or jwks';
COMMENT ON COLUMN apikey.outbox.restored IS 'A withdrawal was taken back, as enable() does it';
COMMENT ON COLUMN apikey.outbox.at IS 'When it was written, which is before its COMMIT';
COMMENT ON COLUMN apikey.outbox.reason IS
    'Why the key is revoked, for those who read the stream: here, so that the worker need not look for the row of the '
    'key';
COMMENT ON COLUMN apikey.outbox.xid IS 'The transaction that made the change: the receipt that revoke() returns';

CREATE TRIGGER outbox_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.outbox
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.outbox ENABLE REPLICA TRIGGER outbox_skip_replicated;

CREATE FUNCTION apikey.prune_outbox(batch integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH removed AS (
        DELETE FROM apikey.outbox o WHERE o.ctid = ANY (ARRAY(
            SELECT p.ctid FROM apikey.outbox p ORDER BY p.id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM removed
$$;
COMMENT ON FUNCTION apikey.prune_outbox(integer) IS
    'Deletes rows of outbox, that many: where there is no Redis, nobody else does';
