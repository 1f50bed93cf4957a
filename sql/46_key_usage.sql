-- When keys were last used: written by the maintenance worker, as usage is.

CREATE TABLE apikey.key_usage (
    key_id uuid NOT NULL,
    last_used_at timestamptz NOT NULL,
    last_client inet,
    CONSTRAINT key_usage_pkey PRIMARY KEY (key_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE apikey.key_usage IS 'When each key was last used, which is: validated with success';
COMMENT ON COLUMN apikey.key_usage.last_client IS 'The client''s address of that use, where the caller named one';

SELECT pg_catalog.pg_extension_config_dump('apikey.key_usage', '');

-- The replica counts its own uses, as it does in usage.
CREATE TRIGGER key_usage_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.key_usage
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.key_usage ENABLE REPLICA TRIGGER key_usage_skip_replicated;

CREATE FUNCTION apikey.prune_key_usage(after uuid, batch integer, OUT removed bigint, OUT last uuid)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH looked_at AS MATERIALIZED (
        SELECT u.key_id FROM apikey.key_usage u WHERE after IS NULL OR u.key_id > after ORDER BY u.key_id LIMIT batch),
    gone AS (
        DELETE FROM apikey.key_usage u USING looked_at l
         WHERE u.key_id = l.key_id AND NOT EXISTS (SELECT FROM apikey.key k WHERE k.key_id = u.key_id)
        RETURNING 1)
    SELECT (SELECT count(*) FROM gone),
           -- No row at the end, so that the next call begins anew. (uuid has no max().)
           CASE WHEN (SELECT count(*) FROM looked_at) = batch
                THEN (SELECT l.key_id FROM looked_at l ORDER BY l.key_id DESC LIMIT 1) END
$$;
COMMENT ON FUNCTION apikey.prune_key_usage(uuid, integer) IS
    'Looks at that many rows of key_usage after this key and deletes those of keys that are gone; last: where the next '
    'call goes on, NULL at the end';
