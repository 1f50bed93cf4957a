-- The functions that applications and issuers call. All are C, run as their caller and check what the caller may do by
-- EXECUTE and, for issue(), by role.issuable_by; where they write they do so as the owner of the tables.

CREATE FUNCTION apikey.issue(
    owner text,
    role text DEFAULT 'basic',
    name text DEFAULT NULL,
    ttl interval DEFAULT NULL,
    permissions text[] DEFAULT NULL,
    environment text DEFAULT 'live',
    format text DEFAULT NULL,
    allowed_cidrs cidr[] DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    idempotency_key text DEFAULT NULL
) RETURNS apikey.issued
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_issue';
COMMENT ON FUNCTION apikey.issue(text, text, text, interval, text[], text, text, cidr[], jsonb, text) IS
    'Issues a key to an owner. The token is shown this once. With an idempotency_key seen before for this owner: the '
    'same key again';

CREATE FUNCTION apikey.validate(token text, permission text DEFAULT NULL, client inet DEFAULT NULL,
    cost integer DEFAULT 1)
    RETURNS apikey.verdict
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
    AS 'MODULE_PATHNAME', 'apikey_validate';
COMMENT ON FUNCTION apikey.validate(text, text, inet, integer) IS
    'Is this token good now, for this permission (or expression of permissions), from this client? Answers for any '
    'bytes, never raises for a bad token';

CREATE FUNCTION apikey.check_token(token text, permission text DEFAULT NULL, client inet DEFAULT NULL,
    cost integer DEFAULT 1)
    RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
    AS 'MODULE_PATHNAME', 'apikey_check_token';
COMMENT ON FUNCTION apikey.check_token(text, text, inet, integer) IS
    'validate(...).valid, without the cost of the whole verdict';

CREATE FUNCTION apikey.require(token text, permission text DEFAULT NULL, client inet DEFAULT NULL,
    cost integer DEFAULT 1)
    RETURNS apikey.verdict
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
    AS 'MODULE_PATHNAME', 'apikey_require';
COMMENT ON FUNCTION apikey.require(text, text, inet, integer) IS
    'validate, but raises when the verdict is not VALID: SQLSTATE PT and the HTTP status, the code as message, JSON as '
    'detail';

CREATE FUNCTION apikey.refresh(token text) RETURNS apikey.issued
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_refresh';
COMMENT ON FUNCTION apikey.refresh(text) IS
    'Within the refresh window: the next generation of the key. Refreshing the previous token again during its grace '
    'gives the same successor. Knows no client address: where keys have allowed_cidrs, validate(token, client => ...) '
    'first';

CREATE FUNCTION apikey.revoke(key text, reason text DEFAULT 'UNSPECIFIED',
    OUT key_id uuid, OUT revoked_at timestamptz, OUT already boolean, OUT receipt xid8)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_revoke';
COMMENT ON FUNCTION apikey.revoke(text, text) IS
    'Revokes a key, all its generations, for good, by its id or by a token of it that proves itself. True for every '
    'session at COMMIT';

-- An id that comes from a uuid column or a driver's own type. An untyped literal goes to the function above.
CREATE FUNCTION apikey.revoke(key uuid, reason text DEFAULT 'UNSPECIFIED',
    OUT key_id uuid, OUT revoked_at timestamptz, OUT already boolean, OUT receipt xid8)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_revoke_id';
COMMENT ON FUNCTION apikey.revoke(uuid, text) IS
    'Revokes a key, all its generations, for good, by its id. True for every session at COMMIT';

CREATE FUNCTION apikey.revoke_token(token text, reason text DEFAULT 'UNSPECIFIED',
    OUT key_id uuid, OUT revoked_at timestamptz, OUT already boolean, OUT receipt xid8)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_revoke_token';
COMMENT ON FUNCTION apikey.revoke_token(text, text) IS
    'Revokes the key of a token that proves itself; an expired or superseded token that proves itself does too. For '
    'holders: key ids are public';

CREATE FUNCTION apikey.revoke_owner(owner text, reason text DEFAULT 'UNSPECIFIED') RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_revoke_owner';
COMMENT ON FUNCTION apikey.revoke_owner(text, text) IS
    'Revokes every key of an owner and says how many were not revoked before';

CREATE FUNCTION apikey.disable(key text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_disable';
COMMENT ON FUNCTION apikey.disable(text, text) IS
    'Takes a key out of service until enable(); by its id or by a token of it that proves itself';

CREATE FUNCTION apikey.disable(key uuid, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_disable_id';
COMMENT ON FUNCTION apikey.disable(uuid, text) IS 'Takes a key out of service until enable(); by its id';

CREATE FUNCTION apikey.enable(key text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_enable';
COMMENT ON FUNCTION apikey.enable(text) IS 'Puts a disabled key back into service. A revoked key stays revoked';

CREATE FUNCTION apikey.enable(key uuid) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 5000
    AS 'MODULE_PATHNAME', 'apikey_enable_id';
COMMENT ON FUNCTION apikey.enable(uuid) IS
    'Puts a disabled key back into service, by its id. A revoked key stays revoked';

CREATE FUNCTION apikey.rotate_signing_key(algorithm text DEFAULT 'EdDSA') RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_rotate_signing_key';
COMMENT ON FUNCTION apikey.rotate_signing_key(text) IS
    'Puts a new signing key into use (a pending one of that algorithm, else a fresh one) and returns its kid; the one '
    'before verifies on';

CREATE FUNCTION apikey.stage_signing_key(algorithm text DEFAULT 'EdDSA') RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_stage_signing_key';
COMMENT ON FUNCTION apikey.stage_signing_key(text) IS
    'Makes a pending signing key: published by jwks(), so that caches learn it, and put into use by the next '
    'rotate_signing_key()';

CREATE FUNCTION apikey.adopt_master_key() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_adopt_master_key';
COMMENT ON FUNCTION apikey.adopt_master_key() IS
    'When the master key that this database was set up with is lost for good: new keys are made under the present '
    'master key file from now on. Puts a new EdDSA signing key into use and returns its kid; keys made under the lost '
    'one stay UNAVAILABLE';

CREATE FUNCTION apikey.lock_signing_key(kid text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000
    AS 'MODULE_PATHNAME', 'apikey_lock_signing_key';
COMMENT ON FUNCTION apikey.lock_signing_key(text) IS
    'For retire_signing_key(): locks a signing key and the keys that it has signed; terminates who holds them up for '
    'longer than apikey.revoke_wait';

CREATE FUNCTION apikey.retire_signing_key(kid text, confirm boolean DEFAULT false)
    RETURNS TABLE (key_id uuid, generation integer, owner text, expires_at timestamptz)
    LANGUAGE plpgsql VOLATILE COST 10000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present text;
    victims jsonb;
BEGIN
    SELECT s.state INTO present FROM apikey.signing_key s WHERE s.kid = retire_signing_key.kid;
    IF present IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'unknown signing key',
            HINT = 'SELECT kid, state FROM apikey.signing_key lists them.';
    ELSIF present = 'active' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the active signing key cannot be retired',
            HINT = 'Put another one into use first: SELECT apikey.rotate_signing_key().';
    END IF;
    IF confirm THEN
        -- Waits for transactions that are issuing with this key, so that the list and the revocations leave none of
        -- them out.
        PERFORM apikey.lock_signing_key(retire_signing_key.kid);
    END IF;
    SELECT jsonb_agg(v) INTO victims FROM (
        SELECT k.key_id, k.generation, k.owner, k.expires_at FROM apikey.key k
         WHERE k.kid = retire_signing_key.kid AND k.state <> 'revoked' AND k.expires_at > clock_timestamp()
        UNION ALL
        SELECT k.key_id, k.generation - 1, k.owner, least(k.previous_expires_at, k.previous_valid_until)
          FROM apikey.key k
         WHERE retire_signing_key.kid IN (k.previous_kid, k.kid) AND k.state <> 'revoked'
           AND k.previous_valid_until > clock_timestamp() AND k.previous_expires_at > clock_timestamp()) v;
    IF confirm THEN
        UPDATE apikey.signing_key s SET state = 'retired' WHERE s.kid = retire_signing_key.kid AND s.state <> 'retired';
    END IF;
    RETURN QUERY
        SELECT v.key_id, v.generation, v.owner, v.expires_at
          FROM jsonb_to_recordset(coalesce(victims, '[]'))
               AS v(key_id uuid, generation integer, owner text, expires_at timestamptz)
         ORDER BY v.key_id, v.generation;
END
$$;
COMMENT ON FUNCTION apikey.retire_signing_key(text, boolean) IS
    'Lists the live tokens that die with a signing key; with confirm => true it also retires the key and revokes them';

CREATE FUNCTION apikey.jwks() RETURNS jsonb
    LANGUAGE sql STABLE COST 1000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('keys', coalesce(
               jsonb_agg(apikey.jwk(s.algorithm, s.public_key, s.kid) ORDER BY s.created_at DESC, s.kid), '[]'))
      FROM apikey.signing_key s
     WHERE s.state <> 'retired' AND s.public_key IS NOT NULL
$$;
COMMENT ON FUNCTION apikey.jwks() IS
    'The JSON Web Key Set (RFC 7517) with which anybody verifies tokens offline. HS256 keys, which have no public '
    'half, are never in it';
