-- Composite types of the SQL surface and the helpers that table constraints and defaults stand on. The helpers are
-- immutable where a CHECK uses them, and need neither shared memory nor a preloaded library: a restore runs them.

CREATE TYPE apikey.issued AS (
    key_id uuid,
    token text,
    generation integer,
    owner text,
    role text,
    issued_at timestamptz,
    refresh_after timestamptz,
    expires_at timestamptz
);
COMMENT ON TYPE apikey.issued IS
    'A key as issue() and refresh() hand it out: the only place where the token ever appears';

CREATE TYPE apikey.verdict AS (
    valid boolean,
    code text,
    http_status integer,
    message text,
    key_id uuid,
    generation integer,
    owner text,
    role text,
    permissions text[],
    environment text,
    metadata jsonb,
    expires_at timestamptz,
    refresh_due boolean,
    rate_limit bigint,
    rate_remaining bigint,
    rate_reset interval,
    retry_after interval,
    detail jsonb
);
COMMENT ON TYPE apikey.verdict IS
    'The answer of validate(): code and HTTP status say why, the rest describes the key once it has proven itself';

CREATE FUNCTION apikey.is_role_name(name text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_is_role_name';
COMMENT ON FUNCTION apikey.is_role_name(text) IS
    'Is this a role name in its normal form: [a-z][a-z0-9_]*, at most 63 characters?';

CREATE FUNCTION apikey.is_grant_list(grants text[]) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10
    AS 'MODULE_PATHNAME', 'apikey_is_grant_list';
COMMENT ON FUNCTION apikey.is_grant_list(text[]) IS
    'Is this a one-dimensional array of valid permission grants, without NULLs and duplicates?';

CREATE FUNCTION apikey.is_environment(name text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_is_environment';
COMMENT ON FUNCTION apikey.is_environment(text) IS 'Is this an environment name: [a-z0-9], 1 to 16 characters?';

CREATE FUNCTION apikey.is_label(value text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_is_label';
COMMENT ON FUNCTION apikey.is_label(text) IS
    'Is this 1 to 255 bytes without control characters, those of the writing direction included? (Owners, names, '
    'idempotency keys.)';

CREATE FUNCTION apikey.is_revocation_reason(reason text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 2
    AS 'MODULE_PATHNAME', 'apikey_is_revocation_reason';
COMMENT ON FUNCTION apikey.is_revocation_reason(text) IS
    'Is this one of UNSPECIFIED, KEY_COMPROMISE, SUPERSEDED, AFFILIATION_CHANGED, PRIVILEGE_WITHDRAWN?';

CREATE FUNCTION apikey.uuid_v7() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'apikey_uuid_v7';
COMMENT ON FUNCTION apikey.uuid_v7() IS
    'A time-ordered UUID, version 7 of RFC 9562, from the clock and the strong random source';

CREATE FUNCTION apikey.acting_user() RETURNS name
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 5
    AS 'MODULE_PATHNAME', 'apikey_acting_user';
COMMENT ON FUNCTION apikey.acting_user() IS
    'Whose privileges were used, for the audit trail: the caller of the function of this extension that runs, else the '
    'role that SET ROLE chose. An error (42501) in a security-restricted operation';

CREATE FUNCTION apikey.jwk(algorithm text, public_key bytea, kid text) RETURNS jsonb
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50
    AS 'MODULE_PATHNAME', 'apikey_jwk';
COMMENT ON FUNCTION apikey.jwk(text, bytea, text) IS
    'The JSON Web Key (RFC 7517, RFC 8037) of a raw public key: Ed25519 32 bytes, or an uncompressed P-256 point of 65';

CREATE FUNCTION apikey.normalize_role(name text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE COST 100
    AS 'MODULE_PATHNAME', 'apikey_normalize_role';
COMMENT ON FUNCTION apikey.normalize_role(text) IS
    'The role that this spelling means (case, hyphens and blanks do not matter); an unknown one is an error that lists '
    'the known ones. NULL gives NULL';
