-- Permissions: what a key may do is what its role and its own narrowing both allow, now; what is required may be an expression.
CREATE FUNCTION pg_temp.may(token text, VARIADIC permissions text[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(p || CASE WHEN apikey.check_token(token, p) THEN '' ELSE ' no' END, ', ' ORDER BY n) FROM unnest(permissions) WITH ORDINALITY u(p, n)
$$;

-- The seed roles.
SELECT role, permissions, apikey.check_token(token, 'chat:read') AS chat_read, apikey.check_token(token, 'chat:a:b') AS chat_a_b,
       apikey.check_token(token, 'dataset:write') AS dataset_write, apikey.check_token(token, 'node:start') AS node_start, apikey.check_token(token, 'admin:all') AS admin_all
  FROM unnest(ARRAY['basic', 'contributor', 'node_operator', 'admin']) r, apikey.issue('permissions', r) i, apikey.validate(i.token) v(valid, code, http_status,
       message, key_id, generation, owner_, role_, permissions);

-- Wildcards: one segment, or as the last one any number from one on; alone, everything.
INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES
    ('permissions_role', '1 day', '1 hour', '{a:*,b:*:read,*:own,c,d.e_f-1:g}'), ('permissions_all', '1 day', '1 hour', '{*}'), ('permissions_none', '1 day', '1 hour', '{}');
SELECT token FROM apikey.issue('permissions', 'permissions_role') \gset
SELECT pg_temp.may(:'token', 'a', 'a:b', 'a:b:c', 'ab', 'ab:c');
SELECT pg_temp.may(:'token', 'b:x:read', 'b:x:write', 'b:read', 'b:x:y:read', 'b:x', 'b:x:read:y');
SELECT pg_temp.may(:'token', 'x:own', 'own', 'x:y:own', 'x:own:y');
SELECT pg_temp.may(:'token', 'c', 'c:d', 'd.e_f-1:g', 'd:e');
SELECT pg_temp.may(token, 'a', 'a:b:c:d') AS "all", permissions FROM apikey.issue('permissions', 'permissions_all') i, LATERAL (SELECT (apikey.validate(i.token)).permissions) v;
SELECT pg_temp.may(token, 'a', '!a') AS "none", permissions FROM apikey.issue('permissions', 'permissions_none') i, LATERAL (SELECT (apikey.validate(i.token)).permissions) v;

-- Narrowing: the verdict names the pairwise intersections, without what another one covers, in order.
SELECT narrowing, (apikey.validate(token)).permissions AS effective, pg_temp.may(token, 'a:b', 'a:b:c', 'a:b:own', 'b:x:read', 'x:own') AS may
  FROM unnest(ARRAY['{a:b}', '{a:b,a:*,a:c}', '{*:own}', '{*}', '{b:x:*,a:b:*}', '{c,a:z,a:y,*:*:read}']) WITH ORDINALITY n(narrowing, i),
       apikey.issue('permissions', 'permissions_role', permissions => narrowing::text[]) ORDER BY i;

-- Both are read at each validation: the role may lose or gain what the key may do, never beyond its own narrowing.
SELECT * FROM apikey.issue('permissions', 'permissions_role', permissions => '{a:b,c}') \gset
SELECT pg_temp.may(:'token', 'a:b', 'a:c', 'c', 'z');
UPDATE apikey.role SET permissions = '{a:*,z}' WHERE name = 'permissions_role';
SELECT pg_temp.may(:'token', 'a:b', 'a:c', 'c', 'z'), (apikey.validate(:'token')).permissions;
UPDATE apikey.key SET permissions = '{z}' WHERE key_id = :'key_id';
SELECT pg_temp.may(:'token', 'a:b', 'a:c', 'c', 'z'), (apikey.validate(:'token')).permissions;
UPDATE apikey.key SET permissions = NULL WHERE key_id = :'key_id';
SELECT pg_temp.may(:'token', 'a:b', 'a:c', 'c', 'z'), (apikey.validate(:'token')).permissions;
UPDATE apikey.role SET permissions = '{}' WHERE name = 'permissions_role';
SELECT pg_temp.may(:'token', 'a:b', 'a:c', 'c', 'z'), (apikey.validate(:'token')).permissions;
SELECT code, detail FROM apikey.validate(:'token', 'a:b');

-- Expressions: ! before & before |, parentheses, blanks anywhere between; the detail names what is missing and what should not be there.
SELECT token FROM apikey.issue('permissions', 'contributor', permissions => '{chat:read,dataset:*}') \gset
SELECT e AS expression, code, detail ->> 'missing' AS missing, detail ->> 'forbidden' AS forbidden
  FROM unnest(ARRAY['chat:read', 'chat:write', 'chat:read & dataset:write', 'chat:read & chat:write', 'chat:write | dataset:write', 'chat:write | admin:all',
       '!chat:write', '!chat:read', '!!chat:read', 'chat:write & chat:read | dataset:read', 'chat:write & (chat:read | dataset:read)', '!chat:write & chat:read',
       '!(chat:write & chat:read)', '!(chat:read | admin:all)', 'chat:read & (dataset:write | admin:all) & !x:y', '( chat:read&dataset:a:b )', E'chat:read\t&\n!admin:all',
       'x & y | z & !chat:read']) WITH ORDINALITY u(e, n), apikey.validate(:'token', e) ORDER BY n;
SELECT detail ->> 'required' AS required FROM apikey.validate(:'token', ' chat:write  &x ');
-- Without a permission any proven key is good.
SELECT code FROM apikey.validate(:'token', NULL);

DELETE FROM apikey.key WHERE owner = 'permissions';
DELETE FROM apikey.role WHERE name LIKE 'permissions\_%';
