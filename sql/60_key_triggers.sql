-- What must follow from a change of a key, whoever makes it: a function of this extension, an admin's plain UPDATE or DELETE, or a
-- replication worker (ENABLE ALWAYS). Withdrawals and audit rows are written here and nowhere else.

CREATE FUNCTION apikey.force_sync_commit() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_force_sync_commit';
COMMENT ON FUNCTION apikey.force_sync_commit() IS 'Makes this transaction''s COMMIT wait for its WAL even under synchronous_commit = off: an accepted revocation must survive a crash';

CREATE FUNCTION apikey.withdraw(key_id uuid, generation integer, kind text, effective_at timestamptz, until timestamptz) RETURNS void
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
COMMENT ON FUNCTION apikey.withdraw(uuid, integer, text, timestamptz, timestamptz) IS 'For triggers: records that a token stopped being good, or that one of its claims did; the earlier of two times and the later of two expiries count';

-- These two run at every issue(): in C, which reads and writes rows without a plan.
CREATE FUNCTION apikey.key_check_references() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_key_check_references';
COMMENT ON FUNCTION apikey.key_check_references() IS 'Trigger: role and kid of a key refer to rows, which stay as long as the key does';

-- No query of these triggers holds a hash, a salt, a tag or a sealed key, or NEW or OLD as a whole: debug_print_plan, auto_explain and
-- pgaudit show what a plan holds and what its parameters are. Expressions without FROM and subquery, which PL/pgSQL evaluates by itself,
-- may look at them.
CREATE FUNCTION apikey.fill_withheld() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_fill_withheld';
COMMENT ON FUNCTION apikey.fill_withheld() IS 'Trigger: puts into the row what the library''s own statements leave out, since their parameters can be seen: hashes and sealed keys';

CREATE FUNCTION apikey.changed_members(old_row jsonb, new_row jsonb) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50
    AS 'MODULE_PATHNAME', 'apikey_changed_members';
COMMENT ON FUNCTION apikey.changed_members(jsonb, jsonb) IS 'Members of two objects that differ, each with its old and new value; NULL: none';

CREATE FUNCTION apikey.key_before_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
BEGIN
    IF (NEW.key_id, NEW.created_at, NEW.created_by) IS DISTINCT FROM (OLD.key_id, OLD.created_at, OLD.created_by) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'key_id, created_at and created_by of a key cannot be changed';
    END IF;
    IF NEW.generation < OLD.generation THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('generation of key %s cannot fall from %s to %s', OLD.key_id, OLD.generation, NEW.generation),
            HINT = 'A lower generation would bring superseded tokens back to life.';
    END IF;
    IF OLD.state = 'revoked' AND NEW.state <> 'revoked' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('key %s is revoked, which is final', OLD.key_id),
            HINT = 'Issue a new key.';
    END IF;
    IF NEW.generation = OLD.generation AND NEW.previous_valid_until > OLD.previous_valid_until
       AND (OLD.previous_valid_until <= clock_timestamp()
            OR EXISTS (SELECT FROM apikey.signing_key s WHERE s.kid = NEW.previous_kid AND s.state = 'retired')) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the grace of key %s''s previous generation is over', OLD.key_id),
            HINT = 'It can be prolonged only while it lasts: a superseded token stays superseded.';
    END IF;
    IF NEW.generation = OLD.generation AND NEW.expires_at > OLD.expires_at AND OLD.expires_at <= clock_timestamp()
       AND EXISTS (SELECT FROM apikey.signing_key s WHERE s.kid = OLD.kid AND s.state = 'retired') THEN
        -- Retiring has revoked what was live then; what had expired must not come to life later.
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('key %s has expired, and the key that signed it is retired', OLD.key_id),
            HINT = 'Issue a new key.';
    END IF;
    IF NEW.state = 'revoked' AND OLD.state <> 'revoked' THEN
        NEW.revoked_at := coalesce(NEW.revoked_at, clock_timestamp());
        NEW.revocation_reason := coalesce(NEW.revocation_reason, 'UNSPECIFIED');
    ELSIF NEW.state = 'disabled' AND OLD.state <> 'disabled' THEN
        NEW.disabled_at := clock_timestamp();
    ELSIF NEW.state = 'active' AND OLD.state = 'disabled' THEN
        NEW.disabled_at := NULL;
        NEW.disabled_reason := NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.key_before_update() IS 'Trigger: a key keeps its id, generations never fall, revoked is final';

CREATE FUNCTION apikey.key_after_insert() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_key_after_insert';
COMMENT ON FUNCTION apikey.key_after_insert() IS 'Trigger: writes the audit event of an issued key';

CREATE FUNCTION apikey.key_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET intervalstyle = 'postgres' SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
DECLARE
    -- A hash, which no audit row repeats.
    hashes CONSTANT text[] := '{token_hash,token_salt,token_iterations,token_tag,previous_hash,previous_salt,previous_iterations,previous_tag,
        idempotency_digest,master_key_fingerprint}';
    -- What a refresh and a change of state bring about; they have events of their own.
    of_refresh CONSTANT text[] := '{generation,issued_at,expires_at,kid,previous_kid,previous_expires_at,previous_valid_until}';
    of_state CONSTANT text[] := '{state,revoked_at,revocation_reason,disabled_at,disabled_reason}';
    is_refresh CONSTANT boolean := NEW.generation > OLD.generation;
    keeps_hash CONSTANT boolean := coalesce(NEW.generation = OLD.generation + 1 AND NEW.previous_hash = OLD.token_hash, false);
    same_proof CONSTANT boolean := (NEW.token_hash, NEW.token_salt, NEW.token_iterations, NEW.token_tag, NEW.kid, NEW.format, NEW.master_key_fingerprint)
        IS NOT DISTINCT FROM (OLD.token_hash, OLD.token_salt, OLD.token_iterations, OLD.token_tag, OLD.kid, OLD.format, OLD.master_key_fingerprint);
    same_claims CONSTANT boolean := (NEW.owner, NEW.role, NEW.environment, NEW.permissions, NEW.allowed_cidrs)
        IS NOT DISTINCT FROM (OLD.owner, OLD.role, OLD.environment, OLD.permissions, OLD.allowed_cidrs);
    quiet text[] := hashes;
    changes jsonb;
    last_expiry timestamptz;
BEGIN
    IF is_refresh THEN
        -- A grace only for the step of one that keeps the hash, as refresh() makes it.
        PERFORM apikey.withdraw(OLD.key_id, OLD.generation, 'withdrawn',
                                CASE WHEN keeps_hash THEN NEW.previous_valid_until ELSE clock_timestamp() END, OLD.expires_at);
        IF OLD.previous_valid_until > clock_timestamp() THEN
            -- Two generations back has no hash left to prove it: its grace ends with this refresh.
            PERFORM apikey.withdraw(OLD.key_id, OLD.generation - 1, 'withdrawn', clock_timestamp(), OLD.previous_expires_at);
        END IF;
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
        VALUES ('refreshed', NEW.key_id, NEW.generation, NEW.owner,
                jsonb_strip_nulls(jsonb_build_object('kid', NEW.kid, 'expires_at', NEW.expires_at, 'previous_valid_until', NEW.previous_valid_until)));
        quiet := quiet || of_refresh;
    ELSE
        IF NOT same_proof THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'withdrawn', clock_timestamp(), greatest(OLD.expires_at, NEW.expires_at));
        END IF;
        IF NEW.previous_valid_until IS DISTINCT FROM OLD.previous_valid_until AND NEW.previous_valid_until IS NOT NULL THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'withdrawn', NEW.previous_valid_until, NEW.previous_expires_at);
            -- Also later: key_before_update() has seen to it that the grace still lasts.
            UPDATE apikey.revocation r SET effective_at = NEW.previous_valid_until
             WHERE r.key_id = NEW.key_id AND r.generation = NEW.generation - 1 AND r.kind = 'withdrawn';
        END IF;
        IF NOT same_claims OR NEW.expires_at < OLD.expires_at THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'changed', clock_timestamp(), greatest(OLD.expires_at, NEW.expires_at));
        END IF;
        IF NEW.expires_at > OLD.expires_at THEN
            IF NEW.state <> 'active' THEN
                -- Where the key had expired, its withdrawal was not written, or has been pruned.
                PERFORM apikey.withdraw(NEW.key_id, NULL, 'withdrawn', clock_timestamp(), NEW.expires_at);
            END IF;
            UPDATE apikey.revocation r SET until = greatest(r.until, NEW.expires_at)
             WHERE r.key_id = NEW.key_id AND (r.generation IS NULL OR r.generation = NEW.generation);
        END IF;
    END IF;
    -- Within the grace the previous token's claims are untrue, too. Its expiry is when the key ends before the grace does.
    IF NEW.previous_valid_until > clock_timestamp()
       AND (NOT same_claims OR (NEW.format = 'jwt' AND NEW.rate_limit IS NOT NULL AND OLD.rate_limit IS NULL)
            OR NEW.expires_at < least(NEW.previous_valid_until, NEW.previous_expires_at)
            OR (NOT is_refresh AND NEW.previous_expires_at < OLD.previous_expires_at)) THEN
        PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'changed', clock_timestamp(),
                                CASE WHEN is_refresh THEN NEW.previous_expires_at ELSE greatest(OLD.previous_expires_at, NEW.previous_expires_at) END);
    END IF;

    IF NEW.state <> OLD.state THEN
        IF NEW.state = 'active' THEN
            PERFORM apikey.force_sync_commit();
            DELETE FROM apikey.revocation r WHERE r.key_id = NEW.key_id AND r.generation IS NULL AND r.kind = 'withdrawn';
        ELSE
            SELECT greatest(NEW.expires_at, NEW.previous_expires_at, max(r.until)) INTO last_expiry
              FROM apikey.revocation r WHERE r.key_id = NEW.key_id;
            PERFORM apikey.withdraw(NEW.key_id, NULL, 'withdrawn', clock_timestamp(), last_expiry);
        END IF;
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, code, detail)
        VALUES (CASE NEW.state WHEN 'active' THEN 'enabled' ELSE NEW.state END, NEW.key_id, NEW.generation, NEW.owner,
                CASE NEW.state WHEN 'revoked' THEN NEW.revocation_reason END,
                jsonb_strip_nulls(jsonb_build_object('reason', CASE NEW.state WHEN 'disabled' THEN NEW.disabled_reason END)));
        quiet := quiet || of_state;
    END IF;

    changes := apikey.changed_members(to_jsonb(OLD) - quiet, to_jsonb(NEW) - quiet);
    IF NOT is_refresh AND (NOT same_proof OR (NEW.previous_hash, NEW.previous_salt, NEW.previous_iterations, NEW.previous_tag)
                           IS DISTINCT FROM (OLD.previous_hash, OLD.previous_salt, OLD.previous_iterations, OLD.previous_tag)) THEN
        changes := coalesce(changes, '{}') || '{"token_hash": "changed"}';
    END IF;
    IF changes IS NOT NULL THEN
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
        VALUES ('changed', NEW.key_id, NEW.generation, NEW.owner, changes);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_after_update() IS 'Trigger: derives withdrawals and audit events from a change of a key';

CREATE FUNCTION apikey.key_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
DECLARE
    last_expiry timestamptz;
BEGIN
    SELECT greatest(OLD.expires_at, OLD.previous_expires_at, max(r.until)) INTO last_expiry
      FROM apikey.revocation r WHERE r.key_id = OLD.key_id;
    PERFORM apikey.withdraw(OLD.key_id, NULL, 'withdrawn', clock_timestamp(), last_expiry);
    INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
    VALUES ('deleted', OLD.key_id, OLD.generation, OLD.owner, jsonb_build_object('role', OLD.role, 'state', OLD.state, 'expires_at', OLD.expires_at));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_after_delete() IS 'Trigger: a deleted key is withdrawn, and the audit trail keeps that it was';

CREATE FUNCTION apikey.role_after_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET intervalstyle = 'postgres'
AS $$
DECLARE
    old_row jsonb;
    new_row jsonb;
    changes jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        old_row := to_jsonb(OLD) - '{pristine,created_at}'::text[];
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF NEW.created_at <> now() AND (TG_OP = 'INSERT' OR NEW.created_at <> OLD.created_at) THEN
            RETURN NULL;  -- a restore, whose audit rows the dump brings along
        END IF;
        new_row := to_jsonb(NEW) - '{pristine,created_at}'::text[];
    END IF;
    IF TG_OP = 'UPDATE' THEN
        changes := apikey.changed_members(old_row, new_row);
        IF changes IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    IF TG_OP = 'DELETE' AND EXISTS (SELECT FROM apikey.key k WHERE k.role = OLD.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'key_role_fkey',
            MESSAGE = format('role "%s" still has keys', OLD.name), HINT = 'Give them another role, or delete them, first.';
    ELSIF TG_OP = 'UPDATE' AND NEW.name <> OLD.name THEN
        UPDATE apikey.key k SET role = NEW.name WHERE k.role = OLD.name;
    END IF;
    -- Taking a permission away must survive a crash as a revocation does.
    PERFORM apikey.force_sync_commit();
    INSERT INTO apikey.audit_event (event, detail)
    VALUES (CASE TG_OP WHEN 'INSERT' THEN 'role_created' WHEN 'UPDATE' THEN 'role_changed' ELSE 'role_deleted' END,
            CASE TG_OP WHEN 'UPDATE' THEN jsonb_build_object('role', NEW.name, 'changes', changes) ELSE coalesce(new_row, old_row) END);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.role_after_change() IS 'Trigger: writes the audit event of a role edit';

CREATE FUNCTION apikey.signing_key_after_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO apikey.audit_event (event, detail)
        VALUES ('signing_key_deleted', jsonb_build_object('kid', OLD.kid, 'algorithm', OLD.algorithm, 'state', OLD.state));
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    INSERT INTO apikey.audit_event (event, detail)
    VALUES ('signing_key_' || CASE TG_OP WHEN 'INSERT' THEN 'created' ELSE NEW.state END,
            jsonb_build_object('kid', NEW.kid, 'algorithm', NEW.algorithm, 'state', NEW.state));
    IF NEW.state = 'retired' THEN
        -- In the order in which revoke_owner() locks.
        PERFORM FROM apikey.key k WHERE NEW.kid IN (k.kid, k.previous_kid) AND k.state <> 'revoked' ORDER BY k.key_id FOR NO KEY UPDATE;
        UPDATE apikey.key k SET state = 'revoked'
         WHERE k.kid = NEW.kid AND k.state <> 'revoked' AND k.expires_at > clock_timestamp();
        UPDATE apikey.key k SET previous_valid_until = clock_timestamp()
         WHERE k.previous_kid = NEW.kid AND k.state <> 'revoked' AND k.previous_valid_until > clock_timestamp();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.signing_key_after_change() IS 'Trigger: writes the audit event of a signing key''s life, and revokes what a retired one signed';

CREATE FUNCTION apikey.key_not_offline() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'changed', clock_timestamp(), NEW.expires_at);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_not_offline() IS
    'Trigger: a JWT says nothing of allowed_cidrs and the key''s own limit, so that other nodes must ask about keys that have them';

-- A row whose creation time is not this transaction's comes from a dump or from replication: its audit event comes along with it.
CREATE TRIGGER key_fill_insert BEFORE INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.token_hash IS NULL) EXECUTE FUNCTION apikey.fill_withheld();
CREATE TRIGGER key_fill_update BEFORE UPDATE OF generation ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.fill_withheld();
CREATE TRIGGER signing_key_fill_insert BEFORE INSERT ON apikey.signing_key
    FOR EACH ROW WHEN (NEW.private_key IS NULL) EXECUTE FUNCTION apikey.fill_withheld();
CREATE TRIGGER key_before_insert BEFORE INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.key_check_references();
CREATE TRIGGER key_before_reference BEFORE UPDATE OF role, kid ON apikey.key
    FOR EACH ROW WHEN (NEW.role <> OLD.role OR NEW.kid IS DISTINCT FROM OLD.kid) EXECUTE FUNCTION apikey.key_check_references();
CREATE TRIGGER key_before_update BEFORE UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_before_update();
CREATE TRIGGER key_after_insert AFTER INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.key_after_insert();
CREATE TRIGGER key_after_update AFTER UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_update();
CREATE TRIGGER key_after_insert_not_offline AFTER INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now() AND NEW.format = 'jwt' AND (NEW.allowed_cidrs IS NOT NULL OR NEW.rate_limit IS NOT NULL))
    EXECUTE FUNCTION apikey.key_not_offline();
CREATE TRIGGER key_after_update_not_offline AFTER UPDATE OF generation, allowed_cidrs, rate_limit ON apikey.key
    FOR EACH ROW WHEN (NEW.format = 'jwt' AND (NEW.allowed_cidrs IS NOT NULL OR NEW.rate_limit IS NOT NULL)
                       AND (NEW.generation, NEW.allowed_cidrs, NEW.rate_limit) IS DISTINCT FROM (OLD.generation, OLD.allowed_cidrs, OLD.rate_limit))
    EXECUTE FUNCTION apikey.key_not_offline();
CREATE TRIGGER key_after_delete AFTER DELETE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_delete();
CREATE TRIGGER role_after_change AFTER INSERT OR UPDATE OR DELETE ON apikey.role
    FOR EACH ROW EXECUTE FUNCTION apikey.role_after_change();
CREATE TRIGGER signing_key_after_insert AFTER INSERT ON apikey.signing_key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.signing_key_after_change();
CREATE TRIGGER signing_key_after_update AFTER UPDATE OR DELETE ON apikey.signing_key
    FOR EACH ROW EXECUTE FUNCTION apikey.signing_key_after_change();

ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_fill_insert;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_fill_update;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_fill_insert;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_before_insert;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_before_reference;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_before_update;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_insert;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_update;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_insert_not_offline;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_update_not_offline;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_delete;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_no_truncate;
ALTER TABLE apikey.role ENABLE ALWAYS TRIGGER role_before_insert;
ALTER TABLE apikey.role ENABLE ALWAYS TRIGGER role_before_change;
ALTER TABLE apikey.role ENABLE ALWAYS TRIGGER role_after_change;
ALTER TABLE apikey.role ENABLE ALWAYS TRIGGER role_no_truncate;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_before_change;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_after_insert;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_after_update;
ALTER TABLE apikey.signing_key ENABLE ALWAYS TRIGGER signing_key_no_truncate;
ALTER TABLE apikey.revocation ENABLE ALWAYS TRIGGER revocation_no_truncate;
ALTER TABLE apikey.audit_event ENABLE ALWAYS TRIGGER audit_event_append_only;
ALTER TABLE apikey.audit_event ENABLE ALWAYS TRIGGER audit_event_no_truncate;
ALTER TABLE apikey.audit_event_default ENABLE ALWAYS TRIGGER audit_event_append_only;
ALTER TABLE apikey.audit_event_default ENABLE ALWAYS TRIGGER audit_event_no_truncate;
