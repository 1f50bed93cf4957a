-- The withdrawals of keys. The C++ code reads them by attribute number: new columns go at the end, in a script that the
-- library's list of columns (src/store) follows.

CREATE TABLE apikey.revocation (
    key_id uuid NOT NULL,
    generation integer,
    kind text NOT NULL DEFAULT 'withdrawn',
    effective_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz NOT NULL,
    CONSTRAINT revocation_unique UNIQUE NULLS NOT DISTINCT (key_id, generation, kind),
    CONSTRAINT revocation_kind_check CHECK (kind IN ('withdrawn', 'changed')),
    CONSTRAINT revocation_times_check CHECK (isfinite(effective_at) AND isfinite(until)),
    CONSTRAINT revocation_changed_check CHECK (kind = 'withdrawn' OR generation IS NOT NULL)
);
-- generation may be NULL, so there is no primary key to name rows by: in a publication for all tables every revoke
-- would fail otherwise.
ALTER TABLE apikey.revocation REPLICA IDENTITY FULL;
CREATE INDEX revocation_until ON apikey.revocation (until);
-- Withdrawals by time: a superseded generation's becomes effective at the end of its grace, when nobody writes
-- anything.
CREATE INDEX revocation_effective_at ON apikey.revocation (effective_at)
    WHERE generation IS NOT NULL AND kind = 'withdrawn';
COMMENT ON TABLE apikey.revocation IS
    'Every way in which an unexpired token stopped being good; what mirrors send to other nodes. Written by triggers '
    'only';
COMMENT ON COLUMN apikey.revocation.generation IS 'NULL: all generations of the key';
COMMENT ON COLUMN apikey.revocation.kind IS
    'withdrawn: no longer valid; changed: valid, but a claim in the token is no longer true, so a node must ask';
COMMENT ON COLUMN apikey.revocation.effective_at IS 'From when on; the end of the grace for a superseded generation';
COMMENT ON COLUMN apikey.revocation.until IS 'Expiry of the last token concerned; the row may go 60 seconds later';

SELECT pg_catalog.pg_extension_config_dump('apikey.revocation', '');

CREATE FUNCTION apikey.withdraw(key_id uuid, generation integer, kind text, effective_at timestamptz, until timestamptz)
    RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF until + interval '60 seconds' < clock_timestamp() THEN
        RETURN;  -- expired for everybody: nothing to withdraw
    END IF;
    PERFORM apikey.force_sync_commit();
    INSERT INTO apikey.revocation AS r (key_id, generation, kind, effective_at, until)
    VALUES (withdraw.key_id, withdraw.generation, withdraw.kind, withdraw.effective_at, withdraw.until)
    ON CONFLICT ON CONSTRAINT revocation_unique DO UPDATE
       SET effective_at = least(r.effective_at, EXCLUDED.effective_at), until = greatest(r.until, EXCLUDED.until);
END
$$;
COMMENT ON FUNCTION apikey.withdraw(uuid, integer, text, timestamptz, timestamptz) IS
    'For triggers: records that a token stopped being good, or that one of its claims did; the earlier of two times '
    'and the later of two expiries count';

-- A subscriber derives the same rows from the replicated key; without this the copy that the publisher sends would stop
-- replication.
CREATE FUNCTION apikey.revocation_before_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Not the inserts of the triggers that run on the replica itself: those may have something to add to the row.
    IF pg_trigger_depth() = 1 AND EXISTS (
           SELECT FROM apikey.revocation r
            WHERE r.key_id = NEW.key_id AND r.generation IS NOT DISTINCT FROM NEW.generation AND r.kind = NEW.kind) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.revocation_before_insert() IS
    'Trigger, on logical replicas only: a withdrawal that is there already is not inserted again';

CREATE FUNCTION apikey.revocation_to_outbox() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO apikey.outbox (key_id, restored, reason)
    VALUES (coalesce(NEW.key_id, OLD.key_id), TG_OP = 'DELETE',
            (SELECT k.revocation_reason FROM apikey.key k WHERE k.key_id = coalesce(NEW.key_id, OLD.key_id)));
    PERFORM apikey.wake_mirror();
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.revocation_to_outbox() IS 'Trigger: the mirror must look at this key';

CREATE TRIGGER revocation_before_insert BEFORE INSERT ON apikey.revocation
    FOR EACH ROW EXECUTE FUNCTION apikey.revocation_before_insert();
ALTER TABLE apikey.revocation ENABLE REPLICA TRIGGER revocation_before_insert;
CREATE TRIGGER revocation_to_outbox AFTER INSERT OR UPDATE ON apikey.revocation
    FOR EACH ROW EXECUTE FUNCTION apikey.revocation_to_outbox();
-- What is pruned has gone from Redis by itself.
CREATE TRIGGER revocation_taken_back AFTER DELETE ON apikey.revocation
    FOR EACH ROW WHEN (OLD.until + interval '60 seconds' > clock_timestamp())
    EXECUTE FUNCTION apikey.revocation_to_outbox();

CREATE FUNCTION apikey.prune_revocations(batch integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH removed AS (
        DELETE FROM apikey.revocation r WHERE r.ctid = ANY (ARRAY(
            SELECT o.ctid FROM apikey.revocation o WHERE o.until < now() - interval '60 seconds'
             ORDER BY o.until LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM removed
$$;
COMMENT ON FUNCTION apikey.prune_revocations(integer) IS
    'Deletes withdrawals, that many, whose tokens have all expired a minute ago';
