-- Wrong arguments: for each the SQLSTATE, the message, and the hint that says what would be right.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\pset format unaligned
\pset tuples_only on
SELECT * FROM apikey.issue('arguments') \gset

--
-- issue
--
-- NULL, where it cannot mean a default
SELECT pg_temp.attempt('SELECT apikey.issue(NULL)');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', NULL)');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => NULL)');
-- and where it does
BEGIN;
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ''basic'', NULL, NULL, NULL, ''live'', NULL, NULL, NULL, NULL)');
SELECT metadata FROM apikey.keys WHERE owner = 'a';
ROLLBACK;
-- Owner, name, idempotency key: 1 to 255 bytes without control characters
SELECT pg_temp.attempt('SELECT apikey.issue('''')');
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', repeat('o', 256)));
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', repeat(chr(228), 128)));
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', E'two\nlines'));
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', E'del\x7f'));
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', name => '''')');
SELECT pg_temp.attempt(format('SELECT apikey.issue(''a'', name => %L)', E'\t'));
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', idempotency_key => '''')');
SELECT pg_temp.attempt(format('SELECT apikey.issue(''a'', idempotency_key => %L)', repeat('i', 256)));
-- Nor characters that change the direction of writing: a name with one of them is shown as another.
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', 'a' || chr(c) || 'b')), count(*)
  FROM unnest(ARRAY[1564, 8206, 8207, 8234, 8235, 8236, 8237, 8238, 8294, 8295, 8296, 8297]) c GROUP BY 1;
SELECT pg_temp.attempt(format('SELECT apikey.issue(''a'', name => %L)', chr(8238)));
SELECT pg_temp.attempt(format('SELECT apikey.issue(''a'', idempotency_key => %L)', chr(8238)));
BEGIN;
SELECT pg_temp.attempt(format('SELECT apikey.issue(%L)', repeat('o', 255)));
ROLLBACK;
-- Role
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ''root'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', '''')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ''basic''''; --'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ''free'')');
-- Time to live
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''0'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''-1 day'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''-100000 years'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''7 days 1 microsecond'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ''contributor'', ttl => ''100 years'')');
BEGIN;
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''7 days'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''1 microsecond'')');
ROLLBACK;
-- Beyond the end of time; from PostgreSQL 17 on an interval can also be infinite itself.
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''178000000 years'')') ~ '^22023: ttl .* \(.+\)$';
SELECT split_part(pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''infinity'')'), ':', 1) IN ('22007', '22023');
SELECT split_part(pg_temp.attempt('SELECT apikey.issue(''a'', ttl => ''-infinity'')'), ':', 1) IN ('22007', '22023');
-- Narrowing
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{NULL}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ARRAY(SELECT ''chat:'' || n FROM generate_series(1, 65) n))');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat:read,Chat:Write}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat:}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{""}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat:re*}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat:read,chat:read}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat:read,dataset:read}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{chat}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', permissions => ''{{chat:read},{chat:write}}'')') ~ '^22023: permissions .* \(.+\)$';
-- Environment
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => '''')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => ''Live'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => ''pre-prod'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => ''abcdefghijklmnopq'')');
SET apikey.environments = 'live,test';
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', environment => ''dev'')');
RESET apikey.environments;
-- Format, addresses, metadata
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', format => ''JWT'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', format => '''')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ''{}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ''{NULL}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ''{10.0.0.1/8}'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ARRAY(SELECT (''10.0.'' || n || ''.0/24'')::cidr FROM generate_series(0, 255) n) || ''10.1.0.0/16''::cidr)');
BEGIN;
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ARRAY(SELECT (''10.0.'' || n || ''.0/24'')::cidr FROM generate_series(0, 255) n))');
ROLLBACK;
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', allowed_cidrs => ''{{10.0.0.0/8},{11.0.0.0/8}}'')') ~ '^22023: allowed_cidrs .* \(.+\)$';
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', metadata => ''[]'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', metadata => ''"x"'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', metadata => ''null'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', metadata => jsonb_build_object(''a'', repeat(''a'', 8192)))');
-- An idempotency key that was used for something else
BEGIN;
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', idempotency_key => ''i'')');
SELECT pg_temp.attempt('SELECT apikey.issue(''a'', name => ''other'', idempotency_key => ''i'')');
ROLLBACK;
-- Not one of these has left a key.
SELECT count(*) FROM apikey.key WHERE owner = 'a' OR length(owner) > 100;

--
-- validate, check_token, require
--
-- Cost
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L, cost => -1)', f, :'token')) FROM unnest(ARRAY['validate', 'check_token', 'require']) f;
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L, cost => NULL)', f, :'token')) FROM unnest(ARRAY['validate', 'check_token', 'require']) f;
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, cost => 0)', :'token'));
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, cost => 2147483647)', :'token'));
-- Permission: an expression, of which no more than one character is repeated
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L, '''')', f, :'token')) FROM unnest(ARRAY['validate', 'check_token', 'require']) f;
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, %L)', :'token', p))
  FROM unnest(ARRAY[' ', 'chat:', ':read', 'chat::read', 'Chat:Read', 'chat:read &', '& chat:read', 'chat:read chat:write', 'chat:read && chat:write',
                    '(chat:read', 'chat:read)', '()', '!', 'chat:*', '*', 'chat:read | ' || chr(252), E'chat:read\x01', 'chat:read,chat:write', '''']) WITH ORDINALITY x(p, n) ORDER BY n;
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, %L)', :'token', p))
  FROM unnest(ARRAY[repeat('a', 5000), repeat('a', 300), repeat('(', 33) || 'a' || repeat(')', 33), repeat('!', 33) || 'a',
                    repeat('a|', 100) || 'a']) WITH ORDINALITY x(p, n) ORDER BY n;
SELECT pg_temp.attempt(format('SELECT apikey.validate(%L, %L)', :'token', p))
  FROM unnest(ARRAY[repeat('(', 32) || 'a' || repeat(')', 32), repeat('!', 32) || 'a', repeat('a|', 99) || 'a', NULL]) WITH ORDINALITY x(p, n) ORDER BY n;

--
-- revoke, revoke_token, revoke_owner, disable, enable
--
SELECT pg_temp.attempt(call) FROM unnest(ARRAY['SELECT apikey.revoke(NULL)', 'SELECT apikey.disable(NULL)', 'SELECT apikey.enable(NULL)',
    'SELECT apikey.revoke_owner(NULL)', 'SELECT apikey.revoke_owner(''a'', NULL)', 'SELECT apikey.revoke_token(''a'', NULL)']) call;
SELECT pg_temp.attempt(format('SELECT apikey.revoke(%L, NULL)', :'key_id'));
SELECT pg_temp.attempt('SELECT apikey.revoke_token(NULL)');
SELECT pg_temp.attempt('SELECT apikey.refresh(NULL)');
-- An id that no key has
SELECT pg_temp.attempt(format('SELECT apikey.%s(''01900000-0000-7000-8000-000000000000'')', f)) FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;
SELECT pg_temp.attempt_detail(format('SELECT apikey.%s(''01900000-0000-7000-8000-000000000000'')', f)) FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;
-- Neither an id nor a token of ours
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L)', f, k))
  FROM unnest(ARRAY['revoke', 'disable', 'enable']) f,
       unnest(ARRAY['', 'garbage', '01900000000070008000000000000000', '{01900000-0000-7000-8000-000000000000}', '01900000-0000-7000-8000-000000000000 ',
                    repeat('A', 1048576), 'sk-live-of-another-system']) k
 GROUP BY 1;
-- A token that does not prove itself: forged, of a key that is gone, of one that is too old
SELECT left(:'token', -86) || repeat('A', 86) AS forged \gset
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L)', f, :'forged')) FROM unnest(ARRAY['revoke', 'revoke_token', 'disable', 'enable', 'refresh']) f;
BEGIN;
DELETE FROM apikey.key WHERE key_id = :'key_id';
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L)', f, :'token')) FROM unnest(ARRAY['revoke', 'revoke_token', 'disable', 'enable', 'refresh']) f;
ROLLBACK;
-- revoke_token takes no id, which is public.
SELECT pg_temp.attempt(format('SELECT apikey.revoke_token(%L)', :'key_id'));
SELECT code FROM apikey.validate(:'token');
-- Reasons
SELECT pg_temp.attempt(format(call, r)) FROM unnest(ARRAY['SELECT apikey.revoke_owner(''arguments'', %L)', 'SELECT apikey.revoke_token(''x'', %L)',
    'SELECT apikey.revoke(''x'', %L)']) call, unnest(ARRAY['', 'unspecified', 'because', 'KEY_COMPROMISE ']) r GROUP BY 1;
SELECT pg_temp.attempt(format('SELECT apikey.disable(%L, %L)', :'key_id', r)) FROM unnest(ARRAY['', E'two\nlines', repeat('r', 256)]) r;
BEGIN;
SELECT r, pg_temp.attempt(format('SELECT apikey.revoke((SELECT key_id FROM apikey.issue(''a''))::text, %L)', r))
  FROM unnest(ARRAY['UNSPECIFIED', 'KEY_COMPROMISE', 'SUPERSEDED', 'AFFILIATION_CHANGED', 'PRIVILEGE_WITHDRAWN']) r;
ROLLBACK;
-- Revoked is final.
SELECT already FROM apikey.revoke(:'key_id');
SELECT replace(pg_temp.attempt(format('SELECT apikey.%s(%L)', f, k)), :'key_id', '<key id>') FROM unnest(ARRAY['enable', 'disable']) f, unnest(ARRAY[:'key_id', :'token']) k;

--
-- Everything else
--
SELECT pg_temp.attempt('SELECT apikey.normalize_role(''root'')');
SELECT pg_temp.attempt('SELECT apikey.normalize_role(''a role!'')');
SELECT pg_temp.attempt(format('SELECT apikey.%s(%L)', f, a)) FROM unnest(ARRAY['rotate_signing_key', 'stage_signing_key']) f, unnest(ARRAY['', 'eddsa', 'RS256', 'none']) a GROUP BY 1;
SELECT apikey.rotate_signing_key(NULL) IS NULL, apikey.stage_signing_key(NULL) IS NULL;
SELECT pg_temp.attempt('SELECT apikey.retire_signing_key(''no such key'')');
SELECT pg_temp.attempt('SELECT apikey.retire_signing_key(NULL)');
SELECT pg_temp.attempt('SELECT apikey.grant_access(''no_such_role'', ''admin'')');
SELECT pg_temp.attempt('SELECT apikey.grant_access(''public'', ''admin'')');
SELECT pg_temp.attempt(format('SELECT apikey.grant_access(%L, ''application'')', current_user)) LIKE '22023: database role "%" is a superuser (A superuser needs no grant, and an application should not be one: create a role for it.)';
SELECT pg_temp.attempt('SELECT apikey.grant_access(''pg_monitor'', ''root'')');
SELECT pg_temp.attempt('SELECT apikey.jwk(''RS256'', '''', ''k'')');

-- Settings
SELECT pg_temp.attempt(format('SET apikey.environments = %L', e)) FROM unnest(ARRAY['Live', 'a,,b', 'pre-prod', 'a b']) e;
SELECT pg_temp.attempt(format('SET apikey.issuer = %L', i)) FROM unnest(ARRAY['', E'a\nb']) i;
SELECT replace(pg_temp.attempt(format('SET apikey.audience = %L', repeat('a', 256))), repeat('a', 256), 'a...a');
SELECT split_part(pg_temp.attempt(format('SET apikey.refresh_grace = %L', g)), ' (', 1) FROM unnest(ARRAY['25h', '-1']) g;
SELECT pg_temp.attempt('SET apikey.pbkdf2_iterations = 10001');
SELECT pg_temp.attempt('SET apikey.no_such_setting = 1');

DELETE FROM apikey.key WHERE owner = 'arguments';
