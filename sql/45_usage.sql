-- What keys are used for: written by the maintenance worker from counts in shared memory, never by validation itself.

CREATE TABLE apikey.usage (
    key_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    code text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    CONSTRAINT usage_pkey PRIMARY KEY (key_id, hour, code),
    CONSTRAINT usage_count_check CHECK (count > 0)
) WITH (fillfactor = 80);
CREATE INDEX usage_hour ON apikey.usage (hour);
COMMENT ON TABLE apikey.usage IS 'How often each key was presented in an hour, by the verdict''s code';
COMMENT ON COLUMN apikey.usage.hour IS
    'Its beginning. A use counts for the hour in which it was written down, up to apikey.usage_interval later';
COMMENT ON COLUMN apikey.usage.code IS
    'VALID, or the code of a denial; a token that has not proven itself counts for no key';

SELECT pg_catalog.pg_extension_config_dump('apikey.usage', '');

-- The replica counts its own uses. With the publisher's rows among them, those of one key in one hour would collide and
-- stop replication.
CREATE TRIGGER usage_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.usage
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.usage ENABLE REPLICA TRIGGER usage_skip_replicated;

CREATE FUNCTION apikey.prune_usage(retention interval, batch integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH removed AS (
        DELETE FROM apikey.usage u WHERE u.ctid = ANY (ARRAY(
            SELECT o.ctid FROM apikey.usage o WHERE o.hour < now() - retention
             ORDER BY o.hour LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM removed
$$;
COMMENT ON FUNCTION apikey.prune_usage(interval, integer) IS
    'Deletes rows of usage, that many, that are older than that; NULL: none ever is';
