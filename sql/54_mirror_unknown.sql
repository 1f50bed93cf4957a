-- What the mirror worker has found in Redis that is not this database's.

CREATE TABLE apikey.mirror_unknown (
    member text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT mirror_unknown_pkey PRIMARY KEY (member)
);
COMMENT ON TABLE apikey.mirror_unknown IS
    'Withdrawals that Redis had at the last resync and this database does not know; see mirror_diff()';

CREATE TRIGGER mirror_unknown_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.mirror_unknown
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.mirror_unknown ENABLE REPLICA TRIGGER mirror_unknown_skip_replicated;

CREATE FUNCTION apikey.mirror_diff()
    RETURNS TABLE (member text, key_id uuid, generation integer, kind text, until timestamptz, seen_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.member, (regexp_match(u.member, '^(?:changed:)?([0-9a-f-]{36})'))[1]::uuid,
           (regexp_match(u.member, '[.]([0-9]{1,9})$'))[1]::integer,
           CASE WHEN u.member LIKE 'changed:%' THEN 'changed' ELSE 'withdrawn' END, u.until, u.seen_at
      FROM apikey.mirror_unknown u WHERE u.until > clock_timestamp() ORDER BY u.member
$$;
COMMENT ON FUNCTION apikey.mirror_diff() IS
    'Withdrawals that Redis had when it was last filled anew and this database does not know, as after a restore. They '
    'stay in Redis; revoke() what should be revoked here too';
