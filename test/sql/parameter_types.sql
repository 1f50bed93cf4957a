-- What drivers declare their parameters as: uuid, varchar, text, name, nothing at all. docs/deployment.md says what needs a cast.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT * FROM apikey.issue('parameters') \gset
CREATE TEMP TABLE account AS SELECT key_id, key_id::text AS id_text, key_id::text::varchar(40) AS id_varchar FROM apikey.key WHERE owner = 'parameters';

-- Key ids from a column, of each type.
SELECT apikey.disable(key_id) FROM account;
SELECT code FROM apikey.validate(:'token');
SELECT apikey.enable(key_id) FROM account;
SELECT code FROM apikey.validate(:'token');
SELECT apikey.disable(id_text, 'audit'), apikey.enable(id_text) FROM account;
SELECT apikey.disable(id_varchar, 'audit'), apikey.enable(id_varchar) FROM account;
SELECT apikey.disable(id_text::name), apikey.enable(id_text::name) FROM account;
SELECT apikey.disable(key => key_id, reason => 'audit') FROM account;
SELECT state, disabled_reason FROM apikey.keys WHERE key_id = :'key_id';
SELECT apikey.enable(key => key_id) FROM account;
BEGIN;
SELECT r.key_id = a.key_id AS same, r.already FROM account a, apikey.revoke(a.key_id) r;
SELECT r.key_id = a.key_id AS same, r.already FROM account a, apikey.revoke(a.id_varchar, 'KEY_COMPROMISE') r;
ROLLBACK;
BEGIN;
SELECT r.already FROM account a, apikey.revoke(key => a.key_id, reason => 'KEY_COMPROMISE') r;
SELECT code, detail ->> 'reason' AS reason FROM apikey.validate(:'token');
ROLLBACK;

-- A literal, or a parameter without a type, is text: a token will do as well as an id.
BEGIN;
SELECT already FROM apikey.revoke(:'token');
ROLLBACK;
PREPARE by_unknown AS SELECT apikey.disable($1), apikey.enable($1);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'by_unknown';
EXECUTE by_unknown(:'token');
EXECUTE by_unknown(:'key_id');
PREPARE by_uuid(uuid) AS SELECT apikey.disable($1), apikey.enable($1);
EXECUTE by_uuid(:'key_id');
PREPARE by_varchar(varchar, varchar) AS SELECT apikey.disable($1, $2), apikey.enable($1);
EXECUTE by_varchar(:'key_id', 'audit');
SELECT pg_temp.attempt('SELECT apikey.revoke(NULL)');

-- The same refusals as by text.
SELECT pg_temp.attempt(format('SELECT apikey.%s(NULL::uuid)', f)) FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;
SELECT pg_temp.attempt(format('SELECT apikey.%s(''01900000-0000-7000-8000-000000000000''::uuid)', f)) FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;
SELECT pg_temp.attempt('SELECT apikey.revoke(gen_random_uuid(), ''because'')');
SELECT pg_temp.attempt('SELECT apikey.disable(gen_random_uuid(), '''')');
BEGIN READ ONLY;
SELECT pg_temp.attempt(format('SELECT apikey.%s(gen_random_uuid())', f)) FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;
ROLLBACK;

-- Tokens, permissions and owners may be varchar; an address and metadata need their type, by a cast or from the driver.
PREPARE validate_varchar(varchar, varchar) AS SELECT code FROM apikey.validate($1, $2);
EXECUTE validate_varchar(:'token', 'chat:read');
SELECT split_part(pg_temp.attempt('PREPARE client_text(varchar, varchar) AS SELECT code FROM apikey.validate($1, client => $2)'), ':', 1) AS client_text;
PREPARE client_cast(varchar, varchar) AS SELECT code FROM apikey.validate($1, client => $2::inet);
EXECUTE client_cast(:'token', '192.0.2.1');
EXECUTE client_cast(:'token', NULL);
PREPARE client_unknown AS SELECT code FROM apikey.validate($1, client => $2);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'client_unknown';
EXECUTE client_unknown(:'token', '192.0.2.1');
SELECT split_part(pg_temp.attempt('PREPARE metadata_text(varchar, varchar) AS SELECT owner FROM apikey.issue($1, metadata => $2)'), ':', 1) AS metadata_text;
PREPARE metadata_cast(varchar, varchar) AS SELECT owner FROM apikey.issue($1, metadata => $2::jsonb);
EXECUTE metadata_cast('parameters', '{"team": "search"}');
PREPARE issue_cast(varchar, varchar, varchar, varchar) AS
    SELECT owner FROM apikey.issue($1, ttl => $2::interval, permissions => $3::text[], allowed_cidrs => $4::cidr[]);
EXECUTE issue_cast('parameters', '1 hour', '{chat:read}', '{192.0.2.0/24}');

DEALLOCATE ALL;
DELETE FROM apikey.key WHERE owner = 'parameters';
