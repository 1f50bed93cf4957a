-- Composite types that somebody alters: what was dropped again does no harm, and what is of another shape is an error that says so.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT * FROM apikey.issue('altered') \gset
CREATE FUNCTION pg_temp.calls(token text) RETURNS TABLE (call text, outcome text) LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY['SELECT * FROM apikey.validate(%L)', 'SELECT * FROM apikey.require(%L)',
        'SELECT * FROM apikey.issue(''altered'')', 'SELECT * FROM apikey.refresh(%L)', 'SELECT * FROM apikey.revoke_token(%L)'] LOOP
        call := substring(statement FROM 'apikey[.]\w+');
        outcome := pg_temp.attempt(format(statement, token));
        RETURN NEXT;
    END LOOP;
    RAISE EXCEPTION 'undone' USING ERRCODE = 'TEST1';
EXCEPTION WHEN SQLSTATE 'TEST1' THEN
    RETURN;
END
$$;
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM pg_temp.calls(:'token');

-- An attribute more is not known, whatever the extension's version says.
ALTER TYPE apikey.verdict ADD ATTRIBUTE note text;
ALTER TYPE apikey.issued ADD ATTRIBUTE note text;
SELECT * FROM pg_temp.calls(:'token');
-- Dropped, it counts for nothing, though its place is still there.
ALTER TYPE apikey.verdict DROP ATTRIBUTE note;
ALTER TYPE apikey.issued DROP ATTRIBUTE note;
SELECT * FROM pg_temp.calls(:'token');
SELECT valid, code, owner, role, permissions, environment, metadata, refresh_due, rate_limit, detail FROM apikey.validate(:'token');
SELECT (apikey.validate(:'token')).code, (apikey.require(:'token')).role;
SELECT owner, role, generation, token <> :'token' AS another, expires_at > issued_at AS later FROM apikey.refresh(:'token');

-- The same attributes of other types, and others under their names.
BEGIN;
ALTER TYPE apikey.verdict ALTER ATTRIBUTE generation TYPE text;
ALTER TYPE apikey.issued ALTER ATTRIBUTE generation TYPE bigint;
SELECT * FROM pg_temp.calls(:'token');
ROLLBACK;
BEGIN;
ALTER TYPE apikey.verdict DROP ATTRIBUTE http_status, ADD ATTRIBUTE http_status integer;
SELECT * FROM pg_temp.calls(:'token');
ROLLBACK;

-- The remedy depends on which of the two is behind.
UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'apikey';
ALTER TYPE apikey.verdict ADD ATTRIBUTE note text;
SELECT pg_temp.attempt(format('SELECT * FROM apikey.validate(%L)', :'token'));
SELECT component, state FROM apikey.status() WHERE component = 'extension';
UPDATE pg_extension SET extversion = '0.10.0' WHERE extname = 'apikey';
SELECT pg_temp.attempt(format('SELECT * FROM apikey.validate(%L)', :'token'));
ALTER TYPE apikey.verdict DROP ATTRIBUTE note;
UPDATE pg_extension SET extversion = apikey.library_version() WHERE extname = 'apikey';
SELECT code FROM apikey.validate(:'token');
SELECT component, state FROM apikey.status() WHERE component = 'extension';

DELETE FROM apikey.key WHERE owner = 'altered';
