-- Nothing is PUBLIC's to execute or read; grant_access() hands out what a role needs. Helpers that constraints and defaults evaluate
-- with the rights of whoever writes the row stay callable: they read nothing.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA apikey FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA apikey FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apikey.is_role_name(text), apikey.is_grant_list(text[]), apikey.is_environment(text), apikey.is_label(text),
    apikey.is_revocation_reason(text), apikey.uuid_v7(), apikey.outer_user() TO PUBLIC;

-- Everything that only this database knows goes into dumps. The parent of the audit partitions holds no rows itself.
SELECT pg_catalog.pg_extension_config_dump('apikey.role', '');
SELECT pg_catalog.pg_extension_config_dump('apikey.signing_key', '');
SELECT pg_catalog.pg_extension_config_dump('apikey.key', '');
SELECT pg_catalog.pg_extension_config_dump('apikey.revocation', '');
SELECT pg_catalog.pg_extension_config_dump('apikey.audit_event_default', '');
