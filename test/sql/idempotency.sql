-- issue() with an idempotency key: a repeated request gives the same key, whatever became of the first answer.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT apikey.rotate_signing_key() <> '' AS eddsa;

-- The same key and, since EdDSA is deterministic, the same token: as often as asked, and no second row or audit event.
SELECT * FROM apikey.issue('idempotent', idempotency_key => 'request 1') \gset
SELECT i.key_id = :'key_id' AS key_id, i.token = :'token' AS token, i.generation, i.owner, i.role, i.issued_at = :'issued_at' AS issued_at,
       i.refresh_after = :'refresh_after' AS refresh_after, i.expires_at = :'expires_at' AS expires_at
  FROM generate_series(1, 2), apikey.issue('idempotent', idempotency_key => 'request 1') i;
SELECT count(*) AS keys, (SELECT count(*) FROM apikey.audit_event e WHERE e.key_id = :'key_id') AS events FROM apikey.key WHERE owner = 'idempotent';
SELECT code FROM apikey.validate(:'token');

-- Unique per owner; another key, another request.
SELECT key_id <> :'key_id' AS other_owner FROM apikey.issue('idempotent too', idempotency_key => 'request 1');
SELECT key_id <> :'key_id' AS other_request FROM apikey.issue('idempotent', idempotency_key => 'request 2');
-- Without one, each call is a request of its own.
SELECT a.key_id <> b.key_id AS different FROM apikey.issue('idempotent') a, apikey.issue('idempotent') b;

-- The same arguments in another spelling are the same: the name of the role, the order of JSON members, an unspoken default, how a time is written.
SELECT * FROM apikey.issue('idempotent', 'node_operator', metadata => '{"a": 1, "b": 2}', ttl => '1 day', idempotency_key => 'spelling') \gset one_
SET intervalstyle = 'iso_8601';
SELECT key_id = :'one_key_id' AS same FROM apikey.issue('idempotent', 'Node Operator', metadata => '{"b":2,"a":1}', ttl => 'P1D', environment => 'live', idempotency_key => 'spelling');
RESET intervalstyle;

-- Any other argument is a conflict.
SELECT key_id AS full_key_id FROM apikey.issue('idempotent', 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}', 'full') \gset
SELECT what, pg_temp.attempt(format('SELECT apikey.issue(''idempotent'', %s, ''full'')', arguments)) FROM (VALUES
    (0, 'nothing',       $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (1, 'role',          $$ 'node_operator', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (2, 'name',          $$ 'contributor', 'm', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (3, 'no name',       $$ 'contributor', NULL, '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (4, 'ttl',           $$ 'contributor', 'n', '24 hours', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (4, 'longer ttl',    $$ 'contributor', 'n', '2 days', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (5, 'no ttl',        $$ 'contributor', 'n', NULL, '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (6, 'permissions',   $$ 'contributor', 'n', '1 day', '{chat:write}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (7, 'environment',   $$ 'contributor', 'n', '1 day', '{chat:read}', 'test', 'jwt', '{10.0.0.0/8}', '{"a": 1}' $$),
    (8, 'format',        $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', 'opaque', '{10.0.0.0/8}', '{"a": 1}' $$),
    (9, 'no format',     $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', NULL, '{10.0.0.0/8}', '{"a": 1}' $$),
    (10, 'addresses',    $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/9}', '{"a": 1}' $$),
    (11, 'no addresses', $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', NULL, '{"a": 1}' $$),
    (12, 'metadata',     $$ 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 2}' $$)) c(n, what, arguments) ORDER BY n, what DESC;
SELECT count(*) AS keys FROM apikey.key WHERE owner = 'idempotent' AND idempotency_key = 'full';

-- Where the token cannot be made again the key still is the same, and the token NULL: opaque, refreshed, revoked, signed with ES256, edited.
SELECT key_id AS opaque_key_id FROM apikey.issue('idempotent', format => 'opaque', idempotency_key => 'opaque') \gset
SELECT key_id = :'opaque_key_id' AS same, token, generation FROM apikey.issue('idempotent', format => 'opaque', idempotency_key => 'opaque');
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT i.key_id = :'key_id' AS same, i.token, i.generation FROM apikey.issue('idempotent', idempotency_key => 'request 1') i;
SELECT * FROM apikey.issue('idempotent', ttl => '1 hour', idempotency_key => 'refreshed') \gset two_
SELECT generation FROM apikey.refresh(:'two_token');
SELECT key_id = :'two_key_id' AS same, token, generation FROM apikey.issue('idempotent', ttl => '1 hour', idempotency_key => 'refreshed');
SELECT already FROM apikey.revoke(:'one_key_id');
SELECT key_id = :'one_key_id' AS same, token FROM apikey.issue('idempotent', 'node_operator', metadata => '{"a": 1, "b": 2}', ttl => '1 day', idempotency_key => 'spelling');
SELECT apikey.rotate_signing_key('ES256') <> '' AS es256;
SELECT key_id AS es256_key_id FROM apikey.issue('idempotent', idempotency_key => 'es256') \gset
SELECT key_id = :'es256_key_id' AS same, token FROM apikey.issue('idempotent', idempotency_key => 'es256');
SELECT apikey.rotate_signing_key() <> '' AS eddsa;
-- A rotation in between does not matter.
SELECT key_id = :'full_key_id' AS same, token IS NOT NULL AS token FROM apikey.issue('idempotent', 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}', 'full');

-- Nor does a role that would not allow the request any more.
BEGIN;
UPDATE apikey.role SET ttl = '1 hour', permissions = '{dataset:*}' WHERE name = 'contributor';
SELECT key_id = :'full_key_id' AS same, token IS NOT NULL AS token FROM apikey.issue('idempotent', 'contributor', 'n', '1 day', '{chat:read}', 'live', 'jwt', '{10.0.0.0/8}', '{"a": 1}', 'full');
ROLLBACK;

-- Rolled back, the request has not been made.
BEGIN;
SELECT key_id AS lost_key_id FROM apikey.issue('idempotent', idempotency_key => 'rolled back') \gset
SELECT key_id = :'lost_key_id' AS same FROM apikey.issue('idempotent', idempotency_key => 'rolled back');
ROLLBACK;
SELECT key_id <> :'lost_key_id' AS new FROM apikey.issue('idempotent', idempotency_key => 'rolled back');
-- In one statement as well.
SELECT a.key_id = b.key_id AND a.token = b.token AS same
  FROM apikey.issue('idempotent', idempotency_key => 'twice') a, apikey.issue('idempotent', idempotency_key => 'twice') b;

DELETE FROM apikey.key WHERE owner LIKE 'idempotent%';
