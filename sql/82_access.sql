-- Who may do what.

CREATE FUNCTION apikey.access_privileges(kind text) RETURNS SETOF text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind IS NULL OR kind NOT IN ('application', 'issuer', 'auditor', 'admin') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'unknown kind of access',
            HINT = 'Kinds are application, issuer, auditor and admin.';
    END IF;
    RETURN NEXT 'USAGE ON SCHEMA apikey';
    IF kind IN ('application', 'issuer', 'admin') THEN
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.validate(text, text, inet, integer)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.check_token(text, text, inet, integer)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.require(text, text, inet, integer)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.refresh(text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.revoke_token(text, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.normalize_role(text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.jwks()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.wait_mirrored(xid8, interval)';
    END IF;
    IF kind IN ('issuer', 'admin') THEN
        RETURN NEXT 'EXECUTE ON FUNCTION '
                    'apikey.issue(text, text, text, interval, text[], text, text, cidr[], jsonb, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.revoke(text, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.revoke(uuid, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.revoke_owner(text, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.disable(text, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.disable(uuid, text)';
    END IF;
    IF kind IN ('auditor', 'admin') THEN
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.status()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.counters()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.latency_histogram()';
        RETURN NEXT 'SELECT ON apikey.metrics';
        RETURN NEXT 'SELECT ON apikey.metric_types';
        RETURN NEXT 'SELECT ON apikey.keys';
        RETURN NEXT 'SELECT ON apikey.audit_event';
        RETURN NEXT 'SELECT ON apikey.audit_months';
        RETURN NEXT 'SELECT ON apikey.usage';
        RETURN NEXT 'SELECT ON apikey.key_usage';
        RETURN NEXT 'SELECT ON apikey.role';
        RETURN NEXT 'SELECT ON apikey.outbox';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.mirror_diff()';
    END IF;
    IF kind = 'admin' THEN
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.enable(text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.enable(uuid)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.rotate_signing_key(text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.stage_signing_key(text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.retire_signing_key(text, boolean)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.adopt_master_key()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.mirror_resync()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.mirror_takeover()';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.grant_access(name, text)';
        RETURN NEXT 'EXECUTE ON FUNCTION apikey.revoke_access(name)';
        RETURN NEXT 'INSERT (name, ttl, permissions, rate_limit, rate_window, refresh_window, format, issuable_by, '
                    'description) ON apikey.role';
        RETURN NEXT 'UPDATE (name, ttl, permissions, rate_limit, rate_window, refresh_window, format, issuable_by, '
                    'description) ON apikey.role';
        RETURN NEXT 'DELETE ON apikey.role';
        RETURN NEXT 'SELECT (key_id, generation, owner, role, state, issued_at, expires_at, name, format, environment, '
                    'permissions, allowed_cidrs, rate_limit, rate_window, metadata, ttl, kid, previous_kid, '
                    'previous_expires_at, previous_valid_until, idempotency_key, revoked_at, revocation_reason, '
                    'disabled_at, disabled_reason, created_at, created_by) ON apikey.key';
        RETURN NEXT 'UPDATE (owner, role, state, expires_at, name, environment, permissions, allowed_cidrs, '
                    'rate_limit, rate_window, metadata, ttl, previous_valid_until, '
                    'revocation_reason, disabled_reason) ON apikey.key';
        RETURN NEXT 'DELETE ON apikey.key';
        RETURN NEXT 'SELECT (kid, algorithm, state, public_key, created_at, activated_at, verify_only_at, retired_at) '
                    'ON apikey.signing_key';
        RETURN NEXT 'UPDATE (state) ON apikey.signing_key';
        RETURN NEXT 'SELECT ON apikey.revocation';
    END IF;
END
$$;
COMMENT ON FUNCTION apikey.access_privileges(text) IS
    'The privileges that make up a kind of access, as GRANT writes them';

CREATE FUNCTION apikey.grant_access(grantee name, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT COST 10000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    superuser boolean;
    privilege text;
BEGIN
    SELECT r.rolsuper INTO superuser FROM pg_roles r WHERE r.rolname = grantee;
    IF superuser IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('database role "%s" does not exist', grantee),
            HINT = 'Access goes to one database role by name (CREATE ROLE), never to PUBLIC.';
    ELSIF superuser THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('database role "%s" is a superuser', grantee),
            HINT = 'A superuser needs no grant, and an application should not be one: create a role for it.';
    END IF;
    FOR privilege IN SELECT apikey.access_privileges(kind) LOOP
        EXECUTE format('GRANT %s TO %I', privilege, grantee);
    END LOOP;
    INSERT INTO apikey.audit_event (event, detail)
    VALUES ('access_granted', jsonb_build_object('grantee', grantee, 'kind', kind));
END
$$;
COMMENT ON FUNCTION apikey.grant_access(name, text) IS
    'Grants a database role what it needs: application (validate, check_token, require, refresh, revoke_token, '
    'wait_mirrored), issuer (and issue, revoke, disable), auditor (reads), admin (all)';

CREATE FUNCTION apikey.revoke_access(grantee name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT COST 10000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    privilege text;
BEGIN
    IF (SELECT r.rolsuper OR r.oid = (SELECT c.relowner FROM pg_class c WHERE c.oid = 'apikey.key'::regclass)
          FROM pg_roles r WHERE r.rolname = grantee) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('database role "%s" has its rights by itself, not by grant_access()', grantee),
            HINT = 'Superusers and the owner of the extension can do everything.';
    END IF;
    FOR privilege IN SELECT apikey.access_privileges('admin') LOOP
        EXECUTE format('REVOKE %s FROM %I', privilege, grantee);
    END LOOP;
    INSERT INTO apikey.audit_event (event, detail) VALUES ('access_revoked', jsonb_build_object('grantee', grantee));
END
$$;
COMMENT ON FUNCTION apikey.revoke_access(name) IS
    'Takes back everything that grant_access() of any kind gave to a database role';
