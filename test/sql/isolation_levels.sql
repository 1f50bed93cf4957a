-- Within one session: what a transaction does is true for it at once, in every isolation level, and untrue again after a rollback.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT * FROM apikey.issue('isolation') \gset

-- Each way to end a token: the verdict in the transaction that does it, and after its rollback.
CREATE PROCEDURE pg_temp.in_transaction(level text, token text, change text) LANGUAGE plpgsql AS $$
DECLARE
    before text;
    during text;
    after text;
BEGIN
    PERFORM set_config('default_transaction_isolation', level, false);
    COMMIT;
    SELECT code INTO before FROM apikey.validate(token);
    EXECUTE change;
    SELECT code INTO during FROM apikey.validate(token);
    IF apikey.check_token(token) <> (during = 'VALID') THEN
        RAISE 'check_token says otherwise';
    END IF;
    ROLLBACK;
    SELECT code INTO after FROM apikey.validate(token);
    RAISE NOTICE '%: % -> % -> %', current_setting('transaction_isolation'), before, during, after;
END
$$;
SELECT format('CALL pg_temp.in_transaction(%L, %L, %L)', level, :'token', format(change, :'key_id'))
  FROM unnest(ARRAY['read committed', 'repeatable read', 'serializable']) WITH ORDINALITY l(level, i),
       unnest(ARRAY['SELECT apikey.revoke(%L)', 'SELECT apikey.revoke_owner(''isolation'')', 'SELECT apikey.disable(%L)',
                    'UPDATE apikey.key SET state = ''revoked'' WHERE key_id = %L', 'UPDATE apikey.key SET expires_at = now() WHERE key_id = %L',
                    'DELETE FROM apikey.key WHERE key_id = %L']) WITH ORDINALITY c(change, j)
 ORDER BY i, j
\set ECHO none
\gexec
\set ECHO all
RESET default_transaction_isolation;

-- The whole life within one transaction whose snapshot is older than the key.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM apikey.key WHERE owner = 'isolation';
SELECT * FROM apikey.issue('isolation', ttl => '1 hour') \gset new_
SELECT code FROM apikey.validate(:'new_token');
SELECT * FROM apikey.refresh(:'new_token') \gset next_
SELECT v.code, v.generation FROM unnest(ARRAY[:'new_token', :'next_token']) t, apikey.validate(t) v;
SELECT token = :'next_token' AS same FROM apikey.refresh(:'new_token');
SELECT apikey.disable(:'new_key_id');
SELECT code FROM apikey.validate(:'next_token');
SELECT apikey.enable(:'new_key_id');
SELECT code FROM apikey.validate(:'next_token');
SELECT already FROM apikey.revoke(:'next_token');
SELECT v.code, v.generation FROM unnest(ARRAY[:'new_token', :'next_token']) t, apikey.validate(t) v;
ROLLBACK;
SELECT v.code FROM unnest(ARRAY[:'new_token', :'next_token']) t, apikey.validate(t) v;

-- Savepoints, and subtransactions of an exception block.
BEGIN;
SAVEPOINT s;
SELECT already FROM apikey.revoke(:'key_id');
SELECT code FROM apikey.validate(:'token');
ROLLBACK TO s;
SELECT code FROM apikey.validate(:'token');
SELECT already FROM apikey.revoke(:'key_id');
RELEASE s;
SELECT code FROM apikey.validate(:'token');
ROLLBACK;
SELECT code FROM apikey.validate(:'token');
SELECT pg_temp.attempt(format('DO $do$ BEGIN PERFORM apikey.revoke(%L); RAISE division_by_zero; END $do$', :'key_id'));
SELECT code FROM apikey.validate(:'token');

-- In one statement, after the revocation in it; and by a cursor that was opened before.
BEGIN;
SELECT already, (apikey.validate(:'token')).code FROM apikey.revoke(:'key_id');
ROLLBACK;
BEGIN;
DECLARE validations CURSOR FOR SELECT (apikey.validate(:'token')).code FROM generate_series(1, 2);
FETCH validations;
SELECT already FROM apikey.revoke(:'key_id');
FETCH validations;
ROLLBACK;

-- Prepared: nothing is true before COMMIT PREPARED.
BEGIN;
SELECT already FROM apikey.revoke(:'key_id');
PREPARE TRANSACTION 'isolation_levels';
SELECT code FROM apikey.validate(:'token');
ROLLBACK PREPARED 'isolation_levels';
SELECT code FROM apikey.validate(:'token');
SELECT * FROM apikey.issue('isolation') \gset prepared_
BEGIN;
SELECT already FROM apikey.revoke(:'prepared_key_id');
PREPARE TRANSACTION 'isolation_levels';
SELECT code FROM apikey.validate(:'prepared_token');
COMMIT PREPARED 'isolation_levels';
SELECT code FROM apikey.validate(:'prepared_token');

-- Read only: everything that validates works, and everything that writes says which function it is.
BEGIN READ ONLY;
SELECT code FROM apikey.validate(:'token', 'chat:read', '127.0.0.1');
SELECT code FROM apikey.validate(:'token', 'admin:all');
SELECT code FROM apikey.validate(:'prepared_token');
SELECT apikey.check_token(:'token'), code FROM apikey.require(:'token');
SELECT apikey.normalize_role('Basic') AS role, apikey.jwks() ? 'keys' AS jwks;
SELECT pg_temp.attempt(call) FROM unnest(ARRAY['SELECT apikey.issue(''isolation'')', format('SELECT apikey.refresh(%L)', :'token'),
    format('SELECT apikey.revoke(%L)', :'key_id'), format('SELECT apikey.revoke_token(%L)', :'token'), 'SELECT apikey.revoke_owner(''isolation'')',
    format('SELECT apikey.disable(%L)', :'key_id'), format('SELECT apikey.enable(%L)', :'key_id'), 'SELECT apikey.rotate_signing_key()',
    'SELECT apikey.stage_signing_key()', 'SELECT apikey.refresh(NULL)', 'SELECT apikey.revoke(''garbage'')']) call;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT code FROM apikey.validate(:'token');
ROLLBACK;

-- Validation writes nothing, and locks no row: the transaction gets no number, and keeps no lock on the tables.
BEGIN;
SELECT (v).code, apikey.check_token(:'token') FROM apikey.validate(:'token') v;
SELECT code FROM apikey.validate(:'prepared_token');
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_transaction_id,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('apikey.key'::regclass, 'apikey.role'::regclass, 'apikey.signing_key'::regclass)) AS locks;
ROLLBACK;

DELETE FROM apikey.key WHERE owner = 'isolation';
