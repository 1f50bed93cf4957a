\echo Use "CREATE EXTENSION apikey" to load this file. \quit

-- Every name below is qualified; nothing that a user could have created earlier can take its place.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- A schema that somebody else owns, may create in, or has left something in could hold objects that take the place of
-- ours (CVE-2020-14350 and its kin): a function check_token(varchar) would be preferred to ours by every driver that
-- sends varchar.
DO $$
DECLARE
    installer CONSTANT oid := (
        SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user);
    schema_oid CONSTANT oid := (
        SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'apikey');
    intruder oid;
BEGIN
    SELECT o.owner INTO intruder FROM (
        SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) schema_oid
        UNION ALL
        SELECT a.grantee FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
         WHERE n.oid OPERATOR(pg_catalog.=) schema_oid AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
        UNION ALL SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) schema_oid
        UNION ALL SELECT p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) schema_oid
        UNION ALL SELECT t.typowner FROM pg_catalog.pg_type t WHERE t.typnamespace OPERATOR(pg_catalog.=) schema_oid
        UNION ALL
        SELECT o.oprowner FROM pg_catalog.pg_operator o WHERE o.oprnamespace OPERATOR(pg_catalog.=) schema_oid) o
     WHERE o.owner OPERATOR(pg_catalog.<>) installer
       -- A superuser needs no trap; and a dump names whoever installed the extension where it came from.
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.oid OPERATOR(pg_catalog.=) o.owner AND s.rolsuper)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('schema "apikey" already exists and is not only %s''s', current_user),
            DETAIL = pg_catalog.format('%s owns it, may create in it, or owns something in it.',
                CASE intruder WHEN 0 THEN 'PUBLIC'
                     ELSE pg_catalog.format('Role "%s"', pg_catalog.pg_get_userbyid(intruder)) END),
            HINT = 'Drop the schema before CREATE EXTENSION apikey, which makes it anew.';
    END IF;
END
$$;

COMMENT ON SCHEMA apikey IS 'API keys: issue, validate, refresh, revoke';
