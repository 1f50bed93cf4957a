\echo Use "CREATE EXTENSION apikey" to load this file. \quit

-- Every name below is qualified; nothing that a user could have created earlier can take its place.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- A schema that somebody else owns, or may create in, could hold objects that shadow ours (CVE-2020-14350 and its kin).
DO $$
DECLARE
    intruder name;
BEGIN
    SELECT pg_catalog.pg_get_userbyid(coalesce(a.grantee, n.nspowner)) INTO intruder
      FROM pg_catalog.pg_namespace n
      LEFT JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a ON a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
     WHERE n.nspname = 'apikey'
       AND (n.nspowner <> (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) OR a.grantee IS NOT NULL)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = pg_catalog.format('schema "apikey" already exists and is not only %s''s to create in', current_user),
            DETAIL = pg_catalog.format('Role "%s" owns it or holds CREATE on it.', intruder),
            HINT = 'Drop the schema, or make it your own and revoke CREATE on it, before CREATE EXTENSION apikey.';
    END IF;
END
$$;

COMMENT ON SCHEMA apikey IS 'API keys: issue, validate, refresh, revoke';
