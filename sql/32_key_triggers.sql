-- What must follow from a change of a key, whoever makes it: a function of this extension, an admin's plain UPDATE or
-- DELETE, or a replication worker (ENABLE ALWAYS). Withdrawals and audit rows are written by triggers and nowhere else.

-- These two run at every issue(): in C, which reads and writes rows without a plan.
CREATE FUNCTION apikey.key_check_references() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_key_check_references';
COMMENT ON FUNCTION apikey.key_check_references() IS
    'Trigger: role and kid of a key refer to rows, which stay as long as the key does';

CREATE FUNCTION apikey.key_after_insert() RETURNS trigger
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'apikey_key_after_insert';
COMMENT ON FUNCTION apikey.key_after_insert() IS 'Trigger: writes the audit event of an issued key';

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
            MESSAGE = format('generation of key %s cannot fall from %s to %s',
                             OLD.key_id, OLD.generation, NEW.generation),
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
COMMENT ON FUNCTION apikey.key_before_update() IS
    'Trigger: a key keeps its id, generations never fall, revoked is final';

CREATE FUNCTION apikey.key_after_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET intervalstyle = 'postgres'
    SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
DECLARE
    -- A hash, which no audit row repeats.
    hashes CONSTANT text[] := '{token_hash,token_salt,token_iterations,token_tag,'
        'previous_hash,previous_salt,previous_iterations,previous_tag,idempotency_digest,master_key_fingerprint}';
    -- What a refresh and a change of state bring about; they have events of their own.
    of_refresh CONSTANT text[] :=
        '{generation,issued_at,expires_at,kid,previous_kid,previous_expires_at,previous_valid_until}';
    of_state CONSTANT text[] := '{state,revoked_at,revocation_reason,disabled_at,disabled_reason}';
    is_refresh CONSTANT boolean := NEW.generation > OLD.generation;
    keeps_hash CONSTANT boolean :=
        coalesce(NEW.generation = OLD.generation + 1 AND NEW.previous_hash = OLD.token_hash, false);
    same_proof CONSTANT boolean :=
        (NEW.token_hash, NEW.token_salt, NEW.token_iterations, NEW.token_tag, NEW.kid, NEW.format,
         NEW.master_key_fingerprint)
        IS NOT DISTINCT FROM
        (OLD.token_hash, OLD.token_salt, OLD.token_iterations, OLD.token_tag, OLD.kid, OLD.format,
         OLD.master_key_fingerprint);
    same_claims CONSTANT boolean := (NEW.owner, NEW.role, NEW.environment, NEW.permissions, NEW.allowed_cidrs)
        IS NOT DISTINCT FROM (OLD.owner, OLD.role, OLD.environment, OLD.permissions, OLD.allowed_cidrs);
    quiet text[] := hashes;
    changes jsonb;
    last_expiry timestamptz;
BEGIN
    IF is_refresh THEN
        -- A grace only for the step of one that keeps the hash, as refresh() makes it.
        PERFORM apikey.withdraw(OLD.key_id, OLD.generation, 'withdrawn',
                                CASE WHEN keeps_hash THEN NEW.previous_valid_until ELSE clock_timestamp() END,
                                OLD.expires_at);
        IF OLD.previous_valid_until > clock_timestamp() THEN
            -- Two generations back has no hash left to prove it: its grace ends with this refresh.
            PERFORM apikey.withdraw(OLD.key_id, OLD.generation - 1, 'withdrawn',
                                    clock_timestamp(), OLD.previous_expires_at);
        END IF;
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
        VALUES ('refreshed', NEW.key_id, NEW.generation, NEW.owner,
                jsonb_strip_nulls(jsonb_build_object('kid', NEW.kid, 'expires_at', NEW.expires_at,
                                                     'previous_valid_until', NEW.previous_valid_until)));
        quiet := quiet || of_refresh;
    ELSE
        IF NOT same_proof THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'withdrawn',
                                    clock_timestamp(), greatest(OLD.expires_at, NEW.expires_at));
        END IF;
        IF NEW.previous_valid_until IS DISTINCT FROM OLD.previous_valid_until
           AND NEW.previous_valid_until IS NOT NULL THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'withdrawn',
                                    NEW.previous_valid_until, NEW.previous_expires_at);
            -- Also later: key_before_update() has seen to it that the grace still lasts.
            UPDATE apikey.revocation r SET effective_at = NEW.previous_valid_until
             WHERE r.key_id = NEW.key_id AND r.generation = NEW.generation - 1 AND r.kind = 'withdrawn';
        END IF;
        IF NOT same_claims OR NEW.expires_at < OLD.expires_at THEN
            PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'changed',
                                    clock_timestamp(), greatest(OLD.expires_at, NEW.expires_at));
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
    -- Within the grace the previous token's claims are untrue, too. Its expiry is when the key ends before the grace
    -- does.
    IF NEW.previous_valid_until > clock_timestamp()
       AND (NOT same_claims OR (NEW.format = 'jwt' AND NEW.rate_limit IS NOT NULL AND OLD.rate_limit IS NULL)
            OR NEW.expires_at < least(NEW.previous_valid_until, NEW.previous_expires_at)
            OR (NOT is_refresh AND NEW.previous_expires_at < OLD.previous_expires_at)) THEN
        PERFORM apikey.withdraw(NEW.key_id, NEW.generation - 1, 'changed', clock_timestamp(),
                                CASE WHEN is_refresh THEN NEW.previous_expires_at
                                     ELSE greatest(OLD.previous_expires_at, NEW.previous_expires_at) END);
    END IF;

    IF NEW.state <> OLD.state THEN
        IF NEW.state = 'active' THEN
            PERFORM apikey.force_sync_commit();
            DELETE FROM apikey.revocation r
             WHERE r.key_id = NEW.key_id AND r.generation IS NULL AND r.kind = 'withdrawn';
        ELSE
            SELECT greatest(NEW.expires_at, NEW.previous_expires_at, max(r.until)) INTO last_expiry
              FROM apikey.revocation r WHERE r.key_id = NEW.key_id;
            PERFORM apikey.withdraw(NEW.key_id, NULL, 'withdrawn', clock_timestamp(), last_expiry);
        END IF;
        INSERT INTO apikey.audit_event (event, key_id, generation, owner, code, detail)
        VALUES (CASE NEW.state WHEN 'active' THEN 'enabled' ELSE NEW.state END, NEW.key_id, NEW.generation, NEW.owner,
                CASE NEW.state WHEN 'revoked' THEN NEW.revocation_reason END,
                jsonb_strip_nulls(jsonb_build_object(
                    'reason', CASE NEW.state WHEN 'disabled' THEN NEW.disabled_reason END)));
        quiet := quiet || of_state;
    END IF;

    changes := apikey.changed_members(to_jsonb(OLD) - quiet, to_jsonb(NEW) - quiet);
    IF NOT is_refresh
       AND (NOT same_proof
            OR (NEW.previous_hash, NEW.previous_salt, NEW.previous_iterations, NEW.previous_tag)
               IS DISTINCT FROM
               (OLD.previous_hash, OLD.previous_salt, OLD.previous_iterations, OLD.previous_tag)) THEN
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
    VALUES ('deleted', OLD.key_id, OLD.generation, OLD.owner,
            jsonb_build_object('role', OLD.role, 'state', OLD.state, 'expires_at', OLD.expires_at));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_after_delete() IS
    'Trigger: a deleted key is withdrawn, and the audit trail keeps that it was';

CREATE FUNCTION apikey.key_not_offline() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM apikey.withdraw(NEW.key_id, NEW.generation, 'changed', clock_timestamp(), NEW.expires_at);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.key_not_offline() IS
    'Trigger: a JWT says nothing of allowed_cidrs and the key''s own limit, so that other nodes must ask about keys '
    'that have them';

CREATE TRIGGER key_fill_insert BEFORE INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.token_hash IS NULL) EXECUTE FUNCTION apikey.fill_withheld();
CREATE TRIGGER key_fill_update BEFORE UPDATE OF generation ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.fill_withheld();
-- A row whose creation time is not this transaction's comes from a dump or from replication: its audit event comes
-- along with it.
CREATE TRIGGER key_before_insert BEFORE INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.key_check_references();
CREATE TRIGGER key_before_reference BEFORE UPDATE OF role, kid ON apikey.key
    FOR EACH ROW WHEN (NEW.role <> OLD.role OR NEW.kid IS DISTINCT FROM OLD.kid)
    EXECUTE FUNCTION apikey.key_check_references();
CREATE TRIGGER key_before_update BEFORE UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_before_update();
CREATE TRIGGER key_after_insert AFTER INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.key_after_insert();
CREATE TRIGGER key_after_update AFTER UPDATE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_update();
CREATE TRIGGER key_after_insert_not_offline AFTER INSERT ON apikey.key
    FOR EACH ROW WHEN (NEW.created_at = now() AND NEW.format = 'jwt'
                       AND (NEW.allowed_cidrs IS NOT NULL OR NEW.rate_limit IS NOT NULL))
    EXECUTE FUNCTION apikey.key_not_offline();
CREATE TRIGGER key_after_update_not_offline AFTER UPDATE OF generation, allowed_cidrs, rate_limit ON apikey.key
    FOR EACH ROW WHEN (NEW.format = 'jwt' AND (NEW.allowed_cidrs IS NOT NULL OR NEW.rate_limit IS NOT NULL)
                       AND (NEW.generation, NEW.allowed_cidrs, NEW.rate_limit)
                           IS DISTINCT FROM (OLD.generation, OLD.allowed_cidrs, OLD.rate_limit))
    EXECUTE FUNCTION apikey.key_not_offline();
CREATE TRIGGER key_after_delete AFTER DELETE ON apikey.key
    FOR EACH ROW EXECUTE FUNCTION apikey.key_after_delete();
