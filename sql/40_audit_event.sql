-- The audit trail: range-partitioned by month, append-only by trigger and privilege. The parent has no key or index of
-- its own, so that partitions can be made standalone and attached without a lock that stops writers.

CREATE TABLE apikey.audit_event (
    event_id uuid NOT NULL DEFAULT apikey.uuid_v7(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    event text NOT NULL,
    key_id uuid,
    generation integer,
    owner text,
    code text,
    actor name NOT NULL DEFAULT session_user,
    actor_role name NOT NULL DEFAULT apikey.acting_user(),
    client inet DEFAULT inet_client_addr(),
    detail jsonb NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (at);
COMMENT ON TABLE apikey.audit_event IS 'Who did what to which key, append-only';
COMMENT ON COLUMN apikey.audit_event.event IS
    'issued, refreshed, revoked, disabled, enabled, changed, expired, deleted, denied, role_..., signing_key_..., '
    'access_..., audit_month_dropped, session_terminated';
COMMENT ON COLUMN apikey.audit_event.code IS 'For denied: the verdict''s code; for revoked: the reason';
COMMENT ON COLUMN apikey.audit_event.key_id IS
    'For denied: the key that the token names, which NOT_FOUND and SIGNATURE_INVALID say it has not proven';
COMMENT ON COLUMN apikey.audit_event.detail IS 'What else there is to know, by event';
COMMENT ON COLUMN apikey.audit_event.actor IS 'session_user: who logged in';
COMMENT ON COLUMN apikey.audit_event.actor_role IS
    'Whose privileges were used: the role that SET ROLE chose, or the owner of a SECURITY DEFINER function that made '
    'the call; else the same as actor';
COMMENT ON COLUMN apikey.audit_event.client IS
    'Address of the database client, NULL on a unix socket; for denied: of the API''s client, as the caller named it';

CREATE TABLE apikey.audit_event_default PARTITION OF apikey.audit_event DEFAULT;
ALTER TABLE apikey.audit_event_default ADD CONSTRAINT audit_event_default_pkey PRIMARY KEY (event_id);
CREATE INDEX audit_event_default_key_id ON apikey.audit_event_default (key_id, at);
CREATE INDEX audit_event_default_at ON apikey.audit_event_default (at);
COMMENT ON TABLE apikey.audit_event_default IS 'Audit events of months that have no partition of their own';

-- The parent of the audit partitions holds no rows itself.
SELECT pg_catalog.pg_extension_config_dump('apikey.audit_event_default', '');

CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON apikey.audit_event
    FOR EACH ROW EXECUTE FUNCTION apikey.refuse_change();
