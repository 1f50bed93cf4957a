-- The single source of truth for roles. Admins edit it with SQL; it is part of dumps.

CREATE TABLE apikey.role (
    name text COLLATE "C" NOT NULL,
    ttl interval,
    permissions text[] NOT NULL,
    rate_limit bigint,
    rate_window interval DEFAULT '1 minute',
    refresh_window interval,
    format text NOT NULL DEFAULT 'jwt',
    issuable_by name[],
    description text NOT NULL DEFAULT '',
    pristine boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT role_pkey PRIMARY KEY (name),
    CONSTRAINT role_name_check CHECK (apikey.is_role_name(name)),
    CONSTRAINT role_ttl_check CHECK (ttl > interval '0' AND ttl <= interval '100 years'),
    CONSTRAINT role_permissions_check CHECK (apikey.is_grant_list(permissions)),
    CONSTRAINT role_rate_limit_check CHECK (rate_limit > 0),
    CONSTRAINT role_rate_window_check CHECK (rate_window >= interval '1 second' AND rate_window <= interval '31 days'),
    CONSTRAINT role_rate_check CHECK (rate_limit IS NULL OR rate_window IS NOT NULL),
    CONSTRAINT role_refresh_window_check CHECK (
        refresh_window >= interval '0' AND refresh_window <= interval '100 years'),
    CONSTRAINT role_refresh_check CHECK ((ttl IS NULL) = (refresh_window IS NULL)),
    CONSTRAINT role_format_check CHECK (format IN ('jwt', 'opaque')),
    CONSTRAINT role_issuable_by_check CHECK (
        issuable_by IS NULL
        OR (coalesce(array_ndims(issuable_by), 1) = 1 AND cardinality(issuable_by) <= 256
            AND array_position(issuable_by, NULL) IS NULL AND array_position(issuable_by, '') IS NULL)),
    CONSTRAINT role_description_check CHECK (octet_length(description) <= 1000)
);
COMMENT ON TABLE apikey.role IS 'Roles: what a key may do, for how long, how often';
COMMENT ON COLUMN apikey.role.ttl IS
    'How long a key lives, and the most that issue(ttl => ...) may ask for. NULL: an anonymous role, no keys are '
    'issued for it';
COMMENT ON COLUMN apikey.role.permissions IS
    'Grants: segment(:segment)*, where * matches one segment, as the last one or more; alone it grants all';
COMMENT ON COLUMN apikey.role.rate_limit IS 'Requests for each rate_window; NULL means no limit';
COMMENT ON COLUMN apikey.role.refresh_window IS 'How long before expiry a key may be refreshed';
COMMENT ON COLUMN apikey.role.format IS 'Token format where issue() is not told one: jwt or opaque';
COMMENT ON COLUMN apikey.role.issuable_by IS
    'Database roles whose members may issue keys of this role; NULL: every issuer; {}: only those with access kind '
    'admin';
COMMENT ON COLUMN apikey.role.pristine IS
    'Still as the extension made it. A dump restores over a pristine role instead of failing on it';

-- Everything that only this database knows goes into dumps: each such table has a rule like this one.
SELECT pg_catalog.pg_extension_config_dump('apikey.role', '');

INSERT INTO apikey.role
    (name, ttl, permissions, rate_limit, rate_window, refresh_window, issuable_by, description, pristine)
VALUES
    ('free', NULL, '{chat:read}', 30, '1 minute', NULL, '{}', 'Anonymous access, limited by client address', true),
    ('basic', '7 days', '{chat:read,chat:write}', 600, '1 minute', '24 hours', NULL, 'Chat', true),
    ('contributor', '30 days', '{chat:*,dataset:*}', 3000, '1 minute', '24 hours', NULL, 'Chat and data sets', true),
    ('node_operator', '90 days', '{chat:*,node:*}', 12000, '1 minute', '24 hours', NULL, 'Chat and nodes', true),
    ('admin', '365 days', '{*}', NULL, NULL, '24 hours', '{}', 'Everything', true);

CREATE FUNCTION apikey.role_before_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.created_at = now() THEN
        RETURN NEW;
    END IF;
    -- A restore: the script made the role, now the dump brings its own version of it. What tells a restore from an edit
    -- is that it changes created_at; the detour over -infinity makes sure of that even where both came from one
    -- template database.
    UPDATE apikey.role r SET created_at = '-infinity' WHERE r.name = NEW.name AND r.pristine;
    UPDATE apikey.role r
       SET ttl = NEW.ttl, permissions = NEW.permissions, rate_limit = NEW.rate_limit, rate_window = NEW.rate_window,
           refresh_window = NEW.refresh_window, format = NEW.format, issuable_by = NEW.issuable_by,
           description = NEW.description, pristine = NEW.pristine, created_at = NEW.created_at
     WHERE r.name = NEW.name AND r.pristine;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.role_before_insert() IS
    'Trigger: a restore that inserts a role that is still pristine updates it instead, so that a dump restores without '
    'errors';

CREATE FUNCTION apikey.role_before_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') AND OLD.name IN ('free', 'basic', 'contributor', 'node_operator', 'admin') THEN
        IF TG_OP = 'DELETE' OR NEW.name <> OLD.name THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = format('role "%s" comes with the extension and cannot be deleted or renamed', OLD.name),
                HINT = 'Take its permissions away (UPDATE apikey.role SET permissions = ''{}'') '
                       'or set issuable_by = ''{}'' instead.';
        END IF;
    END IF;
    IF (TG_OP = 'DELETE' OR NEW.name <> OLD.name)
       AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
       AND current_setting('session_replication_role') <> 'replica' THEN
        -- Keys that others have just issued must be seen, to refuse the one and to follow the other.
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'a role can be deleted or renamed in a READ COMMITTED transaction only',
            HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF NEW.created_at IS DISTINCT FROM OLD.created_at THEN
        -- Only a restore over a pristine role brings another creation time; it keeps what the dump says.
        IF NOT OLD.pristine THEN
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'created_at of a role cannot be changed';
        END IF;
    ELSE
        NEW.pristine := false;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikey.role_before_change() IS 'Trigger: seed roles stay; any edit clears pristine';

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
            MESSAGE = format('role "%s" still has keys', OLD.name),
            HINT = 'Give them another role, or delete them, first.';
    ELSIF TG_OP = 'UPDATE' AND NEW.name <> OLD.name THEN
        UPDATE apikey.key k SET role = NEW.name WHERE k.role = OLD.name;
    END IF;
    -- Taking a permission away must survive a crash as a revocation does.
    PERFORM apikey.force_sync_commit();
    INSERT INTO apikey.audit_event (event, detail)
    VALUES (CASE TG_OP WHEN 'INSERT' THEN 'role_created' WHEN 'UPDATE' THEN 'role_changed' ELSE 'role_deleted' END,
            CASE TG_OP WHEN 'UPDATE' THEN jsonb_build_object('role', NEW.name, 'changes', changes)
                       ELSE coalesce(new_row, old_row) END);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION apikey.role_after_change() IS 'Trigger: writes the audit event of a role edit';

CREATE TRIGGER role_before_insert BEFORE INSERT ON apikey.role
    FOR EACH ROW EXECUTE FUNCTION apikey.role_before_insert();
CREATE TRIGGER role_before_change BEFORE UPDATE OR DELETE ON apikey.role
    FOR EACH ROW EXECUTE FUNCTION apikey.role_before_change();
CREATE TRIGGER role_after_change AFTER INSERT OR UPDATE OR DELETE ON apikey.role
    FOR EACH ROW EXECUTE FUNCTION apikey.role_after_change();
CREATE TRIGGER role_to_outbox AFTER INSERT OR UPDATE OR DELETE ON apikey.role
    FOR EACH STATEMENT EXECUTE FUNCTION apikey.topic_to_outbox('roles');
