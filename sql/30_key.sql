-- The keys, one row each for life. The C++ code reads them by attribute number: new columns go at the end, in a script
-- that the library's list of columns (src/store) follows. That role and kid refer to rows is the triggers' business: a
-- foreign key is there before the data, and pg_restore -j loads the tables of an extension in any order.

CREATE TABLE apikey.key (
    -- What every validation reads comes first: taking a row apart costs by the column.
    key_id uuid NOT NULL,
    generation integer NOT NULL DEFAULT 1,
    owner text NOT NULL,
    role text COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'active',
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    environment text NOT NULL,
    token_hash bytea NOT NULL,
    previous_hash bytea,
    previous_expires_at timestamptz,
    previous_valid_until timestamptz,
    permissions text[],
    allowed_cidrs cidr[],
    rate_limit bigint,
    rate_window interval,
    revoked_at timestamptz,
    revocation_reason text,
    disabled_at timestamptz,
    metadata jsonb NOT NULL DEFAULT '{}',
    name text,
    format text NOT NULL,
    ttl interval,
    kid text COLLATE "C",
    token_salt bytea NOT NULL,
    token_iterations integer NOT NULL,
    token_tag bytea NOT NULL,
    previous_kid text COLLATE "C",
    previous_salt bytea,
    previous_iterations integer,
    previous_tag bytea,
    master_key_fingerprint bytea NOT NULL,
    idempotency_key text,
    idempotency_digest bytea,
    disabled_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by name NOT NULL DEFAULT session_user,
    CONSTRAINT key_pkey PRIMARY KEY (key_id),
    CONSTRAINT key_generation_check CHECK (generation >= 1),
    CONSTRAINT key_owner_check CHECK (apikey.is_label(owner)),
    CONSTRAINT key_name_check CHECK (apikey.is_label(name)),
    CONSTRAINT key_state_check CHECK (state IN ('active', 'disabled', 'revoked')),
    CONSTRAINT key_format_check CHECK (format IN ('jwt', 'opaque') AND (format = 'jwt') = (kid IS NOT NULL)),
    CONSTRAINT key_environment_check CHECK (apikey.is_environment(environment)),
    CONSTRAINT key_permissions_check CHECK (
        permissions IS NULL OR (apikey.is_grant_list(permissions) AND cardinality(permissions) > 0)),
    CONSTRAINT key_allowed_cidrs_check CHECK (
        allowed_cidrs IS NULL
        OR (cardinality(allowed_cidrs) BETWEEN 1 AND 256 AND array_ndims(allowed_cidrs) = 1
            AND array_position(allowed_cidrs, NULL) IS NULL)),
    CONSTRAINT key_metadata_check CHECK (jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 8192),
    CONSTRAINT key_rate_limit_check CHECK (rate_limit > 0),
    CONSTRAINT key_rate_window_check CHECK (rate_window >= interval '1 second' AND rate_window <= interval '31 days'),
    CONSTRAINT key_rate_check CHECK (rate_window IS NULL OR rate_limit IS NOT NULL),
    CONSTRAINT key_ttl_check CHECK (ttl > interval '0' AND ttl <= interval '100 years'),
    CONSTRAINT key_issued_at_check CHECK (isfinite(issued_at)),
    CONSTRAINT key_expires_at_check CHECK (isfinite(expires_at) AND expires_at < '9999-12-31 00:00:00+00'),
    CONSTRAINT key_token_check CHECK (octet_length(token_hash) = 32 AND octet_length(token_salt) = 16
                                      AND token_iterations > 0 AND octet_length(token_tag) = 8),
    CONSTRAINT key_previous_check CHECK (
        num_nulls(previous_hash, previous_salt, previous_iterations, previous_tag,
                  previous_expires_at, previous_valid_until) IN (0, 6)
        AND octet_length(previous_hash) = 32 AND octet_length(previous_salt) = 16 AND octet_length(previous_tag) = 8
        AND isfinite(previous_expires_at) AND previous_expires_at < '9999-12-31 00:00:00+00'
        AND isfinite(previous_valid_until) AND previous_valid_until < '9999-12-31 00:00:00+00'),
    CONSTRAINT key_fingerprint_check CHECK (octet_length(master_key_fingerprint) = 8),
    CONSTRAINT key_idempotency_check CHECK (
        apikey.is_label(idempotency_key) AND (idempotency_key IS NULL) = (idempotency_digest IS NULL)),
    CONSTRAINT key_revoked_check CHECK (
        (state = 'revoked') = (revoked_at IS NOT NULL) AND (state = 'revoked') = (revocation_reason IS NOT NULL)
        AND apikey.is_revocation_reason(revocation_reason)),
    CONSTRAINT key_disabled_check CHECK (
        (state <> 'disabled' OR disabled_at IS NOT NULL) AND apikey.is_label(disabled_reason))
);
CREATE INDEX key_owner ON apikey.key (owner);
CREATE INDEX key_expires_at ON apikey.key (expires_at);
CREATE UNIQUE INDEX key_idempotency ON apikey.key (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
COMMENT ON TABLE apikey.key IS 'API keys: hashes of the current and the previous generation''s token, never the token';
COMMENT ON COLUMN apikey.key.generation IS 'Rises by one with each refresh; the token names it';
COMMENT ON COLUMN apikey.key.metadata IS 'The application''s own; verdicts carry it';
COMMENT ON COLUMN apikey.key.idempotency_key IS 'Unique for the owner: issue() with it again gives this key again';
COMMENT ON COLUMN apikey.key.idempotency_digest IS
    'SHA-256 of the other arguments of issue(), which must be the same then';
COMMENT ON COLUMN apikey.key.master_key_fingerprint IS
    'Says under which master key the row was made; not the key, nor of help to find it';
COMMENT ON COLUMN apikey.key.state IS
    'active, disabled or revoked; expired and superseded follow from the times. Setting it to revoked with plain SQL '
    'revokes the key';
COMMENT ON COLUMN apikey.key.permissions IS
    'The key''s own narrowing of its role''s permissions; NULL: all of the role''s';
COMMENT ON COLUMN apikey.key.allowed_cidrs IS 'Client networks that may use the key, at most 256; NULL: any';
COMMENT ON COLUMN apikey.key.rate_limit IS 'The key''s own limit of requests for each rate_window; NULL: its role''s';
COMMENT ON COLUMN apikey.key.rate_window IS
    'The window of the key''s own limit; NULL: its role''s window, or one minute';
COMMENT ON COLUMN apikey.key.ttl IS
    'The key''s own time to live, where issue() was given one; NULL: its role''s at each refresh';
COMMENT ON COLUMN apikey.key.token_hash IS
    'PBKDF2-HMAC-SHA256 over an HMAC of the token that is keyed from the master key';
COMMENT ON COLUMN apikey.key.token_tag IS 'Keyed 64-bit tag of the token, compared before the slow hash';
COMMENT ON COLUMN apikey.key.previous_valid_until IS
    'End of the grace in which the previous generation''s token still validates';

SELECT pg_catalog.pg_extension_config_dump('apikey.key', '');
