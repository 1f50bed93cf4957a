-- What the mirror worker works on: which keys have changed since Redis was last told, and which states of Redis are our own.

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
COMMENT ON TABLE apikey.outbox IS 'What has changed and is not in Redis yet. A row says that, not how: the worker sends the state that it finds, and deletes the row when Redis has it';
COMMENT ON SEQUENCE apikey.outbox_id_seq IS 'Numbers rows of outbox';
COMMENT ON COLUMN apikey.outbox.id IS 'An order to read in, not one of commits: rows are taken as they are there, and no position is kept';
COMMENT ON COLUMN apikey.outbox.topic IS 'key, roles or jwks';
COMMENT ON COLUMN apikey.outbox.restored IS 'A withdrawal was taken back, as enable() does it';
COMMENT ON COLUMN apikey.outbox.at IS 'When it was written, which is before its COMMIT';
COMMENT ON COLUMN apikey.outbox.reason IS 'Why the key is revoked, for those who read the stream: here, so that the worker need not look for the row of the key';
COMMENT ON COLUMN apikey.outbox.xid IS 'The transaction that made the change: the receipt that revoke() returns';

-- Withdrawals by time: a superseded generation's becomes effective at the end of its grace, when nobody writes anything.
CREATE INDEX revocation_effective_at ON apikey.revocation (effective_at) WHERE generation IS NOT NULL AND kind = 'withdrawn';

CREATE TABLE apikey.mirror_epoch (
    counter bigint NOT NULL,
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    timeline integer NOT NULL,
    cause text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT mirror_epoch_pkey PRIMARY KEY (counter),
    CONSTRAINT mirror_epoch_unique UNIQUE (epoch)
);
COMMENT ON TABLE apikey.mirror_epoch IS 'Each time that Redis was filled anew. What bears another epoch there was written by somebody else';
COMMENT ON COLUMN apikey.mirror_epoch.counter IS 'With the timeline: which of two writers is the newer one';

CREATE TABLE apikey.mirror_unknown (
    member text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT mirror_unknown_pkey PRIMARY KEY (member)
);
COMMENT ON COLUMN apikey.mirror_epoch.timeline IS 'Of the server''s WAL at the time, so that a promoted standby has a later one than its old primary; or that of whom mirror_takeover() took the mirror from, if that is later';
COMMENT ON COLUMN apikey.mirror_epoch.cause IS 'connected, epoch, server, evicted, count, requested or altered: why';
COMMENT ON TABLE apikey.mirror_unknown IS 'Withdrawals that Redis had at the last resync and this database does not know; see mirror_diff()';

-- On a logical replica: its own changes are derived there, and its own worker deletes them. A copy of the publisher's rows would collide with
-- them, and a copy of its deletions would take away what the replica has not sent.
CREATE FUNCTION apikey.skip_replicated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.skip_replicated() IS 'Trigger, on logical replicas only: what the publisher keeps for its own mirror, and its counts of uses, are not copied';
CREATE TRIGGER outbox_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.outbox
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
CREATE TRIGGER mirror_epoch_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.mirror_epoch
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
CREATE TRIGGER mirror_unknown_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.mirror_unknown
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
-- The replica counts its own uses. With the publisher's rows among them, those of one key in one hour would collide and stop replication.
CREATE TRIGGER usage_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.usage
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
CREATE TRIGGER key_usage_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.key_usage
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.usage ENABLE REPLICA TRIGGER usage_skip_replicated;
ALTER TABLE apikey.key_usage ENABLE REPLICA TRIGGER key_usage_skip_replicated;
ALTER TABLE apikey.outbox ENABLE REPLICA TRIGGER outbox_skip_replicated;
ALTER TABLE apikey.mirror_epoch ENABLE REPLICA TRIGGER mirror_epoch_skip_replicated;
ALTER TABLE apikey.mirror_unknown ENABLE REPLICA TRIGGER mirror_unknown_skip_replicated;

CREATE TRIGGER outbox_no_truncate BEFORE TRUNCATE ON apikey.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change();
CREATE TRIGGER mirror_epoch_no_truncate BEFORE TRUNCATE ON apikey.mirror_epoch
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change();
CREATE TRIGGER mirror_unknown_no_truncate BEFORE TRUNCATE ON apikey.mirror_unknown
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change();
ALTER TABLE apikey.outbox ENABLE ALWAYS TRIGGER outbox_no_truncate;
ALTER TABLE apikey.mirror_epoch ENABLE ALWAYS TRIGGER mirror_epoch_no_truncate;
ALTER TABLE apikey.mirror_unknown ENABLE ALWAYS TRIGGER mirror_unknown_no_truncate;

CREATE FUNCTION apikey.wake_mirror() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5
    AS 'MODULE_PATHNAME', 'apikey_wake_mirror';
COMMENT ON FUNCTION apikey.wake_mirror() IS 'For triggers: wakes the mirror worker when this transaction commits';

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
CREATE TRIGGER revocation_to_outbox AFTER INSERT OR UPDATE ON apikey.revocation
    FOR EACH ROW EXECUTE FUNCTION apikey.revocation_to_outbox();
-- What is pruned has gone from Redis by itself.
CREATE TRIGGER revocation_taken_back AFTER DELETE ON apikey.revocation
    FOR EACH ROW WHEN (OLD.until + interval '60 seconds' > clock_timestamp()) EXECUTE FUNCTION apikey.revocation_to_outbox();

CREATE FUNCTION apikey.topic_to_outbox() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO apikey.outbox (topic) VALUES (TG_ARGV[0]);
    PERFORM apikey.wake_mirror();
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.topic_to_outbox() IS 'Trigger: the mirror must send the roles, or the key set, again';
CREATE TRIGGER role_to_outbox AFTER INSERT OR UPDATE OR DELETE ON apikey.role
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.topic_to_outbox('roles');
CREATE TRIGGER signing_key_to_outbox AFTER INSERT OR UPDATE OR DELETE ON apikey.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.topic_to_outbox('jwks');

ALTER TABLE apikey.revocation ENABLE ALWAYS TRIGGER revocation_to_outbox;
ALTER TABLE apikey.revocation ENABLE ALWAYS TRIGGER revocation_taken_back;
ALTER TABLE apikey.role ENABLE ALWAYS TRIGGER role_to_outbox;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_to_outbox;

CREATE FUNCTION apikey.prune_outbox(batch integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH removed AS (
        DELETE FROM apikey.outbox o WHERE o.ctid = ANY (ARRAY(
            SELECT p.ctid FROM apikey.outbox p ORDER BY p.id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) FROM removed
$$;
COMMENT ON FUNCTION apikey.prune_outbox(integer) IS 'Deletes rows of outbox, that many: where there is no Redis, nobody else does';

CREATE FUNCTION apikey.redis_bucket(key_id uuid) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 30
    AS 'MODULE_PATHNAME', 'apikey_redis_bucket';
COMMENT ON FUNCTION apikey.redis_bucket(uuid) IS 'In which of the 16 buckets of the mirror a key is: the first hexadecimal digit of the SHA-256 of its id as text';

CREATE FUNCTION apikey.wait_mirrored(receipt xid8, timeout interval DEFAULT '5s') RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'apikey_wait_mirrored';
COMMENT ON FUNCTION apikey.wait_mirrored(xid8, interval) IS
    'Is the revocation with this receipt in Redis? Waits for it that long. To be called after its COMMIT; in its own transaction it is false at once';

CREATE FUNCTION apikey.mirror_resync() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100
    AS 'MODULE_PATHNAME', 'apikey_mirror_resync';
COMMENT ON FUNCTION apikey.mirror_resync() IS 'Asks the mirror worker to send everything anew and to compare; readers of Redis get "unknown" until it has';

CREATE FUNCTION apikey.mirror_takeover() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100
    AS 'MODULE_PATHNAME', 'apikey_mirror_takeover';
COMMENT ON FUNCTION apikey.mirror_takeover() IS
    'After a restore, when status() says that the mirror is fenced or foreign: this database takes it over all the same, and whoever wrote it before is fenced. See mirror_diff() afterwards';

CREATE FUNCTION apikey.mirror_diff()
    RETURNS TABLE (member text, key_id uuid, generation integer, kind text, until timestamptz, seen_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.member, (regexp_match(u.member, '^(?:changed:)?([0-9a-f-]{36})'))[1]::uuid, (regexp_match(u.member, '[.]([0-9]{1,9})$'))[1]::integer,
           CASE WHEN u.member LIKE 'changed:%' THEN 'changed' ELSE 'withdrawn' END, u.until, u.seen_at
      FROM apikey.mirror_unknown u WHERE u.until > clock_timestamp() ORDER BY u.member
$$;
COMMENT ON FUNCTION apikey.mirror_diff() IS
    'Withdrawals that Redis had when it was last filled anew and this database does not know, as after a restore. They stay in Redis; revoke() what should be revoked here too';
