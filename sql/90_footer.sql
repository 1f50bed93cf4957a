-- What is said of all at once, when everything is there: triggers, privileges, and a warning.

-- TRUNCATE fires no row triggers, so it is refused where others must learn what becomes of a row. The partitions of the
-- audit trail have the trigger under their parent's name.
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY
        '{role,signing_key,key,revocation,audit_event,audit_event_default,outbox,mirror_epoch,mirror_unknown}'::text[]
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE TRUNCATE ON apikey.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION apikey.refuse_change()',
            pg_catalog.replace(relation, '_default', '') || '_no_truncate', relation);
    END LOOP;
END
$$;
-- What follows from a change of a row also follows where a replication worker makes the change. Triggers for logical
-- replicas only have been set to ENABLE REPLICA where they are made.
DO $$
DECLARE
    ours record;
BEGIN
    FOR ours IN
        SELECT t.tgname AS name, t.tgrelid::pg_catalog.regclass::text AS relation
          FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
          JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
         WHERE c.relnamespace = 'apikey'::pg_catalog.regnamespace
           AND p.pronamespace = 'apikey'::pg_catalog.regnamespace AND t.tgenabled = 'O'
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', ours.relation, ours.name);
    END LOOP;
END
$$;

-- Nothing is PUBLIC's to execute or read; grant_access() hands out what a role needs. Helpers that constraints and
-- defaults evaluate with the rights of whoever writes the row stay callable: they read nothing.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA apikey FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA apikey FROM PUBLIC;
-- What ALTER DEFAULT PRIVILEGES of the installing role has handed out at creation is taken back as well.
DO $$
DECLARE
    handed_out record;
BEGIN
    FOR handed_out IN
        SELECT 'FUNCTION' AS kind, p.oid::pg_catalog.regprocedure::text AS object, a.grantee
          FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(p.proacl) a
         WHERE p.pronamespace = 'apikey'::pg_catalog.regnamespace AND a.grantee NOT IN (0, p.proowner)
        UNION
        SELECT 'TABLE', c.oid::pg_catalog.regclass::text, a.grantee
          FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
         WHERE c.relnamespace = 'apikey'::pg_catalog.regnamespace AND a.grantee NOT IN (0, c.relowner)
        UNION
        SELECT 'SCHEMA', 'apikey', a.grantee
          FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
         WHERE n.nspname = 'apikey' AND a.grantee <> n.nspowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', handed_out.kind, handed_out.object,
            CASE handed_out.grantee WHEN 0 THEN 'PUBLIC'
                 ELSE pg_catalog.format('%I', pg_catalog.pg_get_userbyid(handed_out.grantee)) END);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION apikey.is_role_name(text), apikey.is_grant_list(text[]), apikey.is_environment(text),
    apikey.is_label(text), apikey.is_revocation_reason(text), apikey.uuid_v7(), apikey.acting_user() TO PUBLIC;

DO $$
BEGIN
    IF NOT apikey.is_maintained() THEN
        RAISE WARNING USING
            MESSAGE = pg_catalog.format('database "%s" is not in apikey.databases', pg_catalog.current_database()),
            DETAIL = 'Keys work, but no maintenance worker writes denials to the audit trail, uses to apikey.usage, '
                     'or prunes.',
            HINT = 'Add it to apikey.databases in postgresql.conf and reload.';
    END IF;
END
$$;
