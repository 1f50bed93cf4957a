-- Keys that sign JWTs. Private halves are sealed with AES-256-GCM under the master key file, so that standbys and dumps
-- carry them safely. pending (published, not used) -> active (one) -> verify_only -> retired (gone from jwks()).

CREATE TABLE apikey.signing_key (
    kid text COLLATE "C" NOT NULL,
    algorithm text NOT NULL,
    state text NOT NULL,
    public_key bytea,
    private_key bytea NOT NULL,
    master_key_fingerprint bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    activated_at timestamptz,
    verify_only_at timestamptz,
    retired_at timestamptz,
    CONSTRAINT signing_key_pkey PRIMARY KEY (kid),
    CONSTRAINT signing_key_kid_check CHECK (kid ~ '^[A-Za-z0-9_-]{1,64}$'),
    CONSTRAINT signing_key_algorithm_check CHECK (algorithm IN ('EdDSA', 'ES256', 'HS256')),
    CONSTRAINT signing_key_state_check CHECK (state IN ('pending', 'active', 'verify_only', 'retired')),
    CONSTRAINT signing_key_public_key_check CHECK (
        coalesce(octet_length(public_key), -1) = CASE algorithm WHEN 'EdDSA' THEN 32 WHEN 'ES256' THEN 65 ELSE -1 END),
    CONSTRAINT signing_key_fingerprint_check CHECK (octet_length(master_key_fingerprint) = 8)
);
CREATE UNIQUE INDEX signing_key_active ON apikey.signing_key ((true)) WHERE state = 'active';
COMMENT ON TABLE apikey.signing_key IS
    'Keys that sign JWTs: public half in the clear, private half sealed under the master key';
COMMENT ON COLUMN apikey.signing_key.state IS
    'pending: published, not yet used; active: signs; verify_only: signs no more; retired: verifies no more';
COMMENT ON COLUMN apikey.signing_key.public_key IS
    'Raw public key (Ed25519 32 bytes, P-256 uncompressed point 65 bytes); NULL for HS256, which has none';
COMMENT ON COLUMN apikey.signing_key.private_key IS
    'nonce, ciphertext and tag of AES-256-GCM; kid and algorithm are its associated data';
COMMENT ON COLUMN apikey.signing_key.master_key_fingerprint IS
    'Says under which master key the row was made; not the key, nor of help to find it';

SELECT pg_catalog.pg_extension_config_dump('apikey.signing_key', '');

CREATE FUNCTION apikey.signing_key_before_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.state <> 'retired' THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('signing key "%s" is %s and cannot be deleted', OLD.kid, OLD.state),
                HINT = 'Retire it first: SELECT * FROM apikey.retire_signing_key(kid) says which keys would die.';
        END IF;
        IF EXISTS (SELECT FROM apikey.key k WHERE OLD.kid IN (k.kid, k.previous_kid)) THEN
            RAISE EXCEPTION USING
                ERRCODE = 'foreign_key_violation',
                MESSAGE = format('signing key "%s" is still referred to by keys', OLD.kid),
                DETAIL = 'It signed the current or the previous generation of at least one key.';
        END IF;
        RETURN OLD;
    END IF;
    IF (NEW.kid, NEW.algorithm, NEW.public_key, NEW.private_key, NEW.master_key_fingerprint, NEW.created_at)
       IS DISTINCT FROM
       (OLD.kid, OLD.algorithm, OLD.public_key, OLD.private_key, OLD.master_key_fingerprint, OLD.created_at) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'only the state of a signing key can be changed',
            HINT = 'Make a new one: SELECT apikey.rotate_signing_key().';
    END IF;
    IF NEW.state = OLD.state THEN
        IF (NEW.activated_at, NEW.verify_only_at, NEW.retired_at)
           IS DISTINCT FROM (OLD.activated_at, OLD.verify_only_at, OLD.retired_at) THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'the times of a signing key follow from its state and cannot be changed';
        END IF;
        RETURN NEW;
    END IF;
    IF (OLD.state, NEW.state) NOT IN
       (('pending', 'active'), ('pending', 'retired'), ('active', 'verify_only'), ('verify_only', 'retired')) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('signing key "%s" cannot go from %s to %s', OLD.kid, OLD.state, NEW.state),
            HINT = 'The order is pending, active, verify_only, retired; '
                   'rotate_signing_key() takes the active key out of use.';
    END IF;
    IF NEW.state = 'active' THEN
        NEW.activated_at := clock_timestamp();
    ELSIF NEW.state = 'verify_only' THEN
        NEW.verify_only_at := clock_timestamp();
    ELSE
        -- Retiring revokes what the key signed, so it must see what others have just committed, which an older snapshot
        -- does not.
        IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
           AND current_setting('session_replication_role') <> 'replica' THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'a signing key can be retired in a READ COMMITTED transaction only',
                HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED.';
        END IF;
        NEW.retired_at := clock_timestamp();
        -- Waits for transactions that are issuing with this key right now (they hold FOR KEY SHARE), and keeps new ones
        -- out.
        PERFORM FROM apikey.signing_key k WHERE k.kid = OLD.kid FOR UPDATE;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.signing_key_before_change() IS 'Trigger: key material never changes, states go forward only';

CREATE FUNCTION apikey.signing_key_after_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
    SET debug_print_parse = off SET debug_print_rewritten = off SET debug_print_plan = off
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO apikey.audit_event (event, detail)
        VALUES ('signing_key_deleted',
                jsonb_build_object('kid', OLD.kid, 'algorithm', OLD.algorithm, 'state', OLD.state));
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
        PERFORM FROM apikey.key k
          WHERE NEW.kid IN (k.kid, k.previous_kid) AND k.state <> 'revoked' ORDER BY k.key_id FOR NO KEY UPDATE;
        UPDATE apikey.key k SET state = 'revoked'
         WHERE k.kid = NEW.kid AND k.state <> 'revoked' AND k.expires_at > clock_timestamp();
        UPDATE apikey.key k SET previous_valid_until = clock_timestamp()
         WHERE k.previous_kid = NEW.kid AND k.state <> 'revoked' AND k.previous_valid_until > clock_timestamp();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.signing_key_after_change() IS
    'Trigger: writes the audit event of a signing key''s life, and revokes what a retired one signed';

CREATE TRIGGER signing_key_fill_insert BEFORE INSERT ON apikey.signing_key
    FOR EACH ROW WHEN (NEW.private_key IS NULL) EXECUTE FUNCTION apikey.fill_withheld();
CREATE TRIGGER signing_key_before_change BEFORE UPDATE OR DELETE ON apikey.signing_key
    FOR EACH ROW EXECUTE FUNCTION apikey.signing_key_before_change();
-- A row whose creation time is not this transaction's comes from a dump or from replication: its audit event comes
-- along with it.
CREATE TRIGGER signing_key_after_insert AFTER INSERT ON apikey.signing_key
    FOR EACH ROW WHEN (NEW.created_at = now()) EXECUTE FUNCTION apikey.signing_key_after_change();
CREATE TRIGGER signing_key_after_update AFTER UPDATE OR DELETE ON apikey.signing_key
    FOR EACH ROW EXECUTE FUNCTION apikey.signing_key_after_change();
CREATE TRIGGER signing_key_to_outbox AFTER INSERT OR UPDATE OR DELETE ON apikey.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.topic_to_outbox('jwks');
