-- What triggers of several tables call. What belongs to the triggers of one table only stands in the table's file.

CREATE FUNCTION apikey.force_sync_commit() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_force_sync_commit';
COMMENT ON FUNCTION apikey.force_sync_commit() IS
    'Makes this transaction''s COMMIT wait for its WAL even under synchronous_commit = off: an accepted revocation '
    'must survive a crash';

CREATE FUNCTION apikey.changed_members(old_row jsonb, new_row jsonb) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50
    AS 'MODULE_PATHNAME', 'apikey_changed_members';
COMMENT ON FUNCTION apikey.changed_members(jsonb, jsonb) IS
    'Members of two objects that differ, each with its old and new value; NULL: none';

-- No query of a trigger of key or signing_key holds a hash, a salt, a tag or a sealed key, or NEW or OLD as a whole:
-- debug_print_plan, auto_explain and pgaudit show what a plan holds and what its parameters are. Expressions without
-- FROM and subquery, which PL/pgSQL evaluates by itself, may look at them.
CREATE FUNCTION apikey.fill_withheld() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_fill_withheld';
COMMENT ON FUNCTION apikey.fill_withheld() IS
    'Trigger: puts into the row what the library''s own statements leave out, since their parameters can be seen: '
    'hashes and sealed keys';

CREATE FUNCTION apikey.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('%s on %I.%I is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = CASE
            WHEN TG_TABLE_NAME LIKE 'audit%' THEN 'The audit trail is append-only.'
            ELSE 'TRUNCATE fires no row triggers, so nobody would learn what became of the rows: use DELETE.' END;
END
$$;
COMMENT ON FUNCTION apikey.refuse_change() IS 'Trigger: this table does not allow the operation';

-- On a logical replica: its own changes are derived there, and its own worker deletes them. A copy of the publisher's
-- rows would collide with them, and a copy of its deletions would take away what the replica has not sent.
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
COMMENT ON FUNCTION apikey.skip_replicated() IS
    'Trigger, on logical replicas only: what the publisher keeps for its own mirror, and its counts of uses, are not '
    'copied';

CREATE FUNCTION apikey.wake_mirror() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5
    AS 'MODULE_PATHNAME', 'apikey_wake_mirror';
COMMENT ON FUNCTION apikey.wake_mirror() IS 'For triggers: wakes the mirror worker when this transaction commits';

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
