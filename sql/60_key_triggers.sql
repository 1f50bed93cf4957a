-- What must follow from a change of a key, whoever makes it: a function of this extension, an admin's plain UPDATE or DELETE, or a
-- replication worker (ENABLE ALWAYS). Withdrawals and audit rows are written here and nowhere else.

CREATE FUNCTION apikey.force_sync_commit() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
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
COMMENT ON FUNCTION apikey.withdraw(uuid, integer, text, timestamptz, timestamptz) IS 'For triggers: records that a token stopped being good, or that one of its claims did; never weakens an earlier record';

CREATE FUNCTION apikey.key_before_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
    VALUES ('issued', NEW.key_id, NEW.generation, NEW.owner,
            jsonb_strip_nulls(jsonb_build_object(
                'role', NEW.role, 'name', NEW.name, 'format', NEW.format, 'environment', NEW.environment, 'kid', NEW.kid,
                'permissions', NEW.permissions, 'allowed_cidrs', NEW.allowed_cidrs, 'expires_at', NEW.expires_at)));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_after_insert() IS 'Trigger: writes the audit event of an issued key';

CREATE FUNCTION apikey.key_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET intervalstyle = 'postgres'
AS $$
DECLARE
    -- Changed by an event that is recorded on its own, or a hash, which no audit row repeats.
    quiet CONSTANT text[] := '{state,revoked_at,revocation_reason,disabled_at,disabled_reason,token_hash,token_salt,token_iterations,
        token_tag,previous_hash,previous_salt,previous_iterations,previous_tag,idempotency_digest,master_key_fingerprint}';
    changes jsonb;
    last_expiry timestamptz;
BEGIN
    IF NEW.generation > OLD.generation THEN
        PERFORM apikey.withdraw(OLD.key_id, OLD.generation, 'withdrawn', coalesce(NEW.previous_valid_until, clock_timestamp()), OLD.expires_at);
        IF OLD.previous_valid_until > clock_timestamp() THEN
            -- Two generations back has no hash left to prove it: its grace ends with this refresh.
            PERFORM apikey.withdraw(OLD.key_id, OLD.generation - 1, 'withdrawn', clock_timestamp(), OLD.previous_expires_at);
        END IF;
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
        VALUES ('refreshed', NEW.key_id, NEW.generation, NEW.owner,
                jsonb_strip_nulls(jsonb_build_object('kid', NEW.kid, 'expires_at', NEW.expires_at, 'previous_valid_until', NEW.previous_valid_until)));
    ELSE
        IF NEW.previous_valid_until IS DISTINCT FROM OLD.previous_valid_until AND NEW.previous_valid_until IS NOT NULL THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'withdrawn', NEW.previous_valid_until, NEW.previous_expires_at);
            UPDATE apikey.revocation r SET effective_at = NEW.previous_valid_until
             WHERE r.key_id = NEW.key_id AND r.generation = NEW.generation - 1 AND r.kind = 'withdrawn';
        END IF;
        IF (NEW.owner, NEW.role, NEW.environment, NEW.permissions, NEW.allowed_cidrs)
           IS DISTINCT FROM (OLD.owner, OLD.role, OLD.environment, OLD.permissions, OLD.allowed_cidrs)
           OR NEW.expires_at < OLD.expires_at THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'changed', clock_timestamp(), greatest(OLD.expires_at, NEW.expires_at));
            IF NEW.previous_valid_until > clock_timestamp() THEN
                PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'changed', clock_timestamp(), NEW.previous_expires_at);
            END IF;
        END IF;
        IF NEW.expires_at > OLD.expires_at THEN
            UPDATE apikey.revocation r SET until = greatest(r.until, NEW.expires_at)
             WHERE r.key_id = NEW.key_id AND (r.generation IS NULL OR r.generation = NEW.generation);
        END IF;
        SELECT jsonb_object_agg(n.key, jsonb_build_object('old', o.value, 'new', n.value)) INTO changes
          FROM jsonb_each(to_jsonb(NEW) - quiet) n JOIN jsonb_each(to_jsonb(OLD) - quiet) o USING (key)
         WHERE n.value IS DISTINCT FROM o.value;
        IF (NEW.token_hash, NEW.previous_hash) IS DISTINCT FROM (OLD.token_hash, OLD.previous_hash) THEN
            changes := coalesce(changes, '{}') || '{"token_hash": "changed"}';
        END IF;
        IF changes IS NOT NULL THEN
            INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
            VALUES ('changed', NEW.key_id, NEW.generation, NEW.owner, changes);
        END IF;
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
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_after_update() IS 'Trigger: derives withdrawals and audit events from a change of a key';

CREATE FUNCTION apikey.key_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
        SELECT jsonb_object_agg(n.key, jsonb_build_object('old', o.value, 'new', n.value)) INTO changes
          FROM jsonb_each(new_row) n JOIN jsonb_each(old_row) o USING (key)
         WHERE n.value IS DISTINCT FROM o.value;
        IF changes IS NULL THEN
            RETURN NULL;
        END IF;
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
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    INSERT INTO apikey.audit_event (event, detail)
    VALUES ('signing_key_' || CASE TG_OP WHEN 'INSERT' THEN 'created' ELSE NEW.state END,
            jsonb_build_object('kid', NEW.kid, 'algorithm', NEW.algorithm, 'state', NEW.state));
    IF NEW.state = 'retired' THEN
        UPDATE apikey.key k SET state = 'revoked'
         WHERE k.kid = NEW.kid AND k.state <> 'revoked' AND k.expires_at > clock_timestamp();
        UPDATE apikey.key k SET previous_valid_until = clock_timestamp()
         WHERE k.previous_kid = NEW.kid AND k.previous_valid_until > clock_timestamp();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.signing_key_after_change() IS 'Trigger: writes the audit event of a signing key''s life, and revokes what a retired one signed';

-- A row whose creation time is not this transaction's comes from a dump or from replication: its audit event comes along with it.
CREATE TRIGGER key_before_update BEFORE UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_before_update();
CREATE TRIGGER key_after_insert AFTER INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.key_after_insert();
CREATE TRIGGER key_after_update AFTER UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_update();
CREATE TRIGGER key_after_delete AFTER DELETE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_delete();
CREATE TRIGGER role_after_change AFTER INSERT OR UPDATE OR DELETE ON apikey.role
    FOR EACH ROW EXECUTE FUNCTION apikey.role_after_change();
CREATE TRIGGER signing_key_after_insert AFTER INSERT ON apikey.signing_key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.signing_key_after_change();
CREATE TRIGGER signing_key_after_update AFTER UPDATE ON apikey.signing_key
    FOR EACH ROW EXECUTE FUNCTION apikey.signing_key_after_change();

ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_before_update;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_insert;
ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_update;
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
