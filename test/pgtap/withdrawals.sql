-- Table revocation: every way in which an unexpired token stops being good, or in which one of its claims does, leaves the row that mirrors
-- need, for as long as a token that it concerns can be shown.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SET LOCAL apikey.refresh_grace = '5min';
SELECT plan(59);

INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES ('withdrawn', '1 hour', '1 hour', '{chat:*}');
SELECT apikey.rotate_signing_key() \g /dev/null

-- A fresh key under a name; the expiry of its first token is kept.
CREATE TEMP TABLE held (name text PRIMARY KEY, key_id uuid, token text, expires_at timestamptz);
CREATE FUNCTION pg_temp.hold(name text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_temp.held SELECT hold.name, i.key_id, i.token, i.expires_at FROM apikey.issue('withdrawals', 'withdrawn', name => hold.name) i
$$;
CREATE FUNCTION pg_temp.id(wanted text) RETURNS uuid LANGUAGE sql AS 'SELECT h.key_id FROM pg_temp.held h WHERE h.name = wanted';
CREATE FUNCTION pg_temp.again(wanted text) RETURNS void LANGUAGE sql AS
    'UPDATE pg_temp.held h SET token = (SELECT r.token FROM apikey.refresh(h.token) r) WHERE h.name = wanted';

-- A key's rows: kind, generation (* is all), when it takes effect, and what until is.
CREATE FUNCTION pg_temp.rows_of(wanted text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.kind, coalesce(r.generation::text, '*'),
               CASE WHEN r.effective_at <= clock_timestamp() THEN 'now' WHEN r.effective_at = k.previous_valid_until THEN 'after the grace' ELSE 'later' END,
               CASE r.until WHEN h.expires_at THEN 'first expiry' WHEN k.expires_at THEN 'last expiry' WHEN k.previous_expires_at THEN 'previous expiry' ELSE r.until::text END)
      FROM apikey.revocation r JOIN pg_temp.held h USING (key_id) LEFT JOIN apikey.key k USING (key_id)
     WHERE h.name = wanted ORDER BY r.kind DESC, r.generation NULLS FIRST
$$;
CREATE FUNCTION pg_temp.withdrawn(wanted text, rows text[], description text) RETURNS text LANGUAGE sql AS
    'SELECT is(ARRAY(SELECT pg_temp.rows_of(wanted)), rows, description)';

-- Nothing to withdraw.
SELECT pg_temp.hold('good');
SELECT pg_temp.withdrawn('good', '{}', 'a good key has no row');
UPDATE apikey.key SET name = 'better', metadata = '{"a": 1}' WHERE key_id = pg_temp.id('good');
SELECT pg_temp.withdrawn('good', '{}', 'nor has one whose name or metadata changed: no token says them');
UPDATE apikey.key SET expires_at = expires_at + interval '1 minute' WHERE key_id = pg_temp.id('good');
SELECT pg_temp.withdrawn('good', '{}', 'nor one that lives longer');

-- What no claim says: other nodes must ask about a key that is bound to addresses or has a limit of its own.
INSERT INTO held SELECT 'bound', i.key_id, i.token, i.expires_at
  FROM apikey.issue('withdrawals', 'withdrawn', name => 'bound', allowed_cidrs => '{192.0.2.0/24}') i;
SELECT pg_temp.withdrawn('bound', '{changed 1 now first expiry}', 'a key bound to addresses is one to ask about from the start');
SELECT pg_temp.again('bound');
SELECT pg_temp.withdrawn('bound', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry,changed 2 now last expiry}', 'and so is its successor');
INSERT INTO held SELECT 'opaque', i.key_id, i.token, i.expires_at
  FROM apikey.issue('withdrawals', 'withdrawn', name => 'opaque', format => 'opaque', allowed_cidrs => '{192.0.2.0/24}') i;
SELECT pg_temp.withdrawn('opaque', '{}', 'about an opaque one they ask anyway');
SELECT pg_temp.hold('limited');
UPDATE apikey.key SET rate_limit = 10 WHERE key_id = pg_temp.id('limited');
SELECT pg_temp.withdrawn('limited', '{changed 1 now first expiry}', 'a key that gets a limit of its own is one to ask about');
UPDATE apikey.key SET rate_limit = NULL WHERE key_id = pg_temp.id('limited');
SELECT pg_temp.withdrawn('limited', '{changed 1 now first expiry}', 'that generation stays one, also when the limit goes');
SELECT pg_temp.again('limited');
SELECT pg_temp.withdrawn('limited', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry}', 'but not its successor');

-- All generations.
SELECT pg_temp.hold('revoked');
SELECT apikey.revoke(pg_temp.id('revoked')::text) \g /dev/null
SELECT pg_temp.withdrawn('revoked', '{withdrawn * now first expiry}', 'revoke() withdraws all generations');
SELECT pg_temp.hold('token');
SELECT apikey.revoke_token(token) FROM held WHERE name = 'token' \g /dev/null
SELECT pg_temp.withdrawn('token', '{withdrawn * now first expiry}', 'so does revoke_token()');
SELECT pg_temp.hold('sql');
UPDATE apikey.key SET state = 'revoked' WHERE key_id = pg_temp.id('sql');
SELECT pg_temp.withdrawn('sql', '{withdrawn * now first expiry}', 'so does plain UPDATE');
SELECT pg_temp.hold('deleted');
DELETE FROM apikey.key WHERE key_id = pg_temp.id('deleted');
SELECT pg_temp.withdrawn('deleted', '{withdrawn * now first expiry}', 'so does DELETE');
SELECT pg_temp.hold('replica');
SET LOCAL session_replication_role = replica;
DELETE FROM apikey.key WHERE key_id = pg_temp.id('replica');
RESET session_replication_role;
SELECT pg_temp.withdrawn('replica', '{withdrawn * now first expiry}', 'with session_replication_role = replica, too');

-- Out of service and back.
SELECT pg_temp.hold('disabled');
SELECT apikey.disable(pg_temp.id('disabled')::text) \g /dev/null
SELECT pg_temp.withdrawn('disabled', '{withdrawn * now first expiry}', 'disable() withdraws all generations');
SELECT apikey.enable(pg_temp.id('disabled')::text) \g /dev/null
SELECT pg_temp.withdrawn('disabled', '{}', 'enable() takes that back');
UPDATE apikey.key SET state = 'disabled' WHERE key_id = pg_temp.id('disabled');
UPDATE apikey.key SET state = 'active' WHERE key_id = pg_temp.id('disabled');
SELECT pg_temp.withdrawn('disabled', '{}', 'plain SQL does the same');
SELECT apikey.disable(pg_temp.id('disabled')::text) \g /dev/null
SELECT apikey.revoke(pg_temp.id('disabled')::text) \g /dev/null
SELECT pg_temp.withdrawn('disabled', '{withdrawn * now first expiry}', 'a disabled key that is revoked has one row');

-- Supersession.
SELECT pg_temp.hold('refreshed');
SELECT pg_temp.again('refreshed');
SELECT pg_temp.withdrawn('refreshed', '{withdrawn 1 after the grace first expiry}', 'refresh() withdraws the old generation at the end of its grace');
SELECT apikey.disable(pg_temp.id('refreshed')::text) \g /dev/null
SELECT apikey.enable(pg_temp.id('refreshed')::text) \g /dev/null
SELECT pg_temp.withdrawn('refreshed', '{withdrawn 1 after the grace first expiry}', 'which disable() and enable() leave alone');
SELECT pg_temp.again('refreshed');
SELECT pg_temp.withdrawn('refreshed', '{withdrawn 1 now first expiry,withdrawn 2 after the grace previous expiry}',
    'the next refresh ends the grace of the generation before: nothing proves that any more');
SELECT is((SELECT v.code FROM held h, apikey.validate(h.token) v WHERE h.name = 'refreshed'), 'VALID', 'the generation in force is good');
SELECT pg_temp.hold('at once');
SET LOCAL apikey.refresh_grace = 0;
SELECT pg_temp.again('at once');
SET LOCAL apikey.refresh_grace = '5min';
SELECT pg_temp.withdrawn('at once', '{withdrawn 1 now first expiry}', 'without a grace, at once');
SELECT pg_temp.hold('shortened');
SELECT pg_temp.again('shortened');
UPDATE apikey.key SET previous_valid_until = previous_valid_until + interval '2 minutes' WHERE key_id = pg_temp.id('shortened');
SELECT pg_temp.withdrawn('shortened', '{withdrawn 1 after the grace first expiry}', 'a grace that an admin prolongs while it lasts takes effect later');
UPDATE apikey.key SET previous_valid_until = clock_timestamp() WHERE key_id = pg_temp.id('shortened');
SELECT pg_temp.withdrawn('shortened', '{withdrawn 1 now first expiry}', 'and one that an admin ends does at once');
SELECT throws_ok(format('UPDATE apikey.key SET previous_valid_until = clock_timestamp() + interval ''1 year'' WHERE key_id = %L', pg_temp.id('shortened')),
    '55000', NULL, 'after which it cannot be prolonged: that would bring a superseded token back');
SELECT pg_temp.withdrawn('shortened', '{withdrawn 1 now first expiry}', 'nor is the record weakened');

-- Edits that only the owner of the tables can make.
SELECT pg_temp.hold('rehashed');
UPDATE apikey.key SET token_tag = decode('0001020304050607', 'hex') WHERE key_id = pg_temp.id('rehashed');
SELECT pg_temp.withdrawn('rehashed', '{withdrawn 1 now first expiry}', 'a token that no longer proves itself is withdrawn');
SELECT is((SELECT a.detail FROM apikey.audit_event a WHERE a.key_id = pg_temp.id('rehashed') AND a.event = 'changed'),
    '{"token_hash": "changed"}', 'and the audit trail says so, without the hash');
SELECT pg_temp.hold('jumped');
SELECT pg_temp.again('jumped');
UPDATE apikey.key SET generation = 7 WHERE key_id = pg_temp.id('jumped');
SELECT is((SELECT r.effective_at <= clock_timestamp() FROM apikey.revocation r WHERE r.key_id = pg_temp.id('jumped') AND r.generation = 2), true,
    'a jump of the generation leaves no grace');

-- Expired, out of service, and brought back into its time.
SELECT pg_temp.hold('late');
UPDATE apikey.key SET expires_at = clock_timestamp() - interval '2 minutes' WHERE key_id = pg_temp.id('late');
UPDATE apikey.key SET state = 'disabled' WHERE key_id = pg_temp.id('late');
DELETE FROM apikey.revocation WHERE key_id = pg_temp.id('late');
UPDATE apikey.key SET expires_at = (SELECT expires_at FROM held WHERE name = 'late') WHERE key_id = pg_temp.id('late');
SELECT pg_temp.withdrawn('late', '{withdrawn * now first expiry}', 'a disabled key that gets a later expiry is withdrawn until then');

SELECT pg_temp.hold('unrecorded');
SELECT pg_temp.again('unrecorded');
DELETE FROM apikey.revocation WHERE key_id = pg_temp.id('unrecorded');
UPDATE apikey.key SET previous_valid_until = clock_timestamp() WHERE key_id = pg_temp.id('unrecorded');
SELECT pg_temp.withdrawn('unrecorded', '{withdrawn 1 now first expiry}', 'whether there is a row already or not');

-- As long as any token lives: the first one here outlives its successors.
SELECT pg_temp.hold('outlived');
UPDATE apikey.key SET ttl = '1 minute' WHERE key_id = pg_temp.id('outlived');
SELECT pg_temp.again('outlived');
SELECT apikey.revoke(pg_temp.id('outlived')::text) \g /dev/null
SELECT pg_temp.withdrawn('outlived', '{withdrawn * now first expiry,withdrawn 1 after the grace first expiry,changed 1 now first expiry}', 'until is the expiry of the previous token where that is later');
SELECT pg_temp.hold('outlived twice');
UPDATE apikey.key SET ttl = '1 minute' WHERE key_id = pg_temp.id('outlived twice');
SELECT pg_temp.again('outlived twice');
SELECT pg_temp.again('outlived twice');
DELETE FROM apikey.key WHERE key_id = pg_temp.id('outlived twice');
SELECT is((SELECT r.until FROM apikey.revocation r WHERE r.key_id = pg_temp.id('outlived twice') AND r.generation IS NULL),
    (SELECT expires_at FROM held WHERE name = 'outlived twice'), 'or of one that is known by its withdrawal only');

-- Claims that are no longer true.
SELECT pg_temp.hold(name) FROM unnest('{role,permissions,environment,cidrs,owner}'::text[]) name \g /dev/null
UPDATE apikey.key SET role = 'basic' WHERE key_id = pg_temp.id('role');
UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = pg_temp.id('permissions');
UPDATE apikey.key SET environment = 'test' WHERE key_id = pg_temp.id('environment');
UPDATE apikey.key SET allowed_cidrs = '{10.0.0.0/8}' WHERE key_id = pg_temp.id('cidrs');
UPDATE apikey.key SET owner = 'somebody' WHERE key_id = pg_temp.id('owner');
SELECT pg_temp.withdrawn(name, '{changed 1 now first expiry}', format('another %s makes the claims untrue', name))
  FROM unnest('{role,permissions,environment,cidrs,owner}'::text[]) name;
SELECT is((SELECT v.code FROM held h, apikey.validate(h.token) v WHERE h.name = 'permissions'), 'VALID', 'a key whose claims changed is still good');
SELECT pg_temp.hold('both');
SELECT pg_temp.again('both');
UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = pg_temp.id('both');
SELECT pg_temp.withdrawn('both', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry,changed 2 now last expiry}',
    'within the grace the previous token''s claims are untrue, too');
SELECT pg_temp.again('both');
SELECT is((SELECT count(*) FROM apikey.revocation WHERE key_id = pg_temp.id('both') AND kind = 'changed' AND generation = 3), 0::bigint,
    'a token that is made afterwards says what is true');
SELECT pg_temp.hold('earlier');
UPDATE apikey.key SET expires_at = expires_at - interval '10 minutes' WHERE key_id = pg_temp.id('earlier');
SELECT pg_temp.withdrawn('earlier', '{changed 1 now first expiry}', 'an earlier expiry makes the claims untrue until the one that the token states');
UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = pg_temp.id('earlier');
SELECT pg_temp.withdrawn('earlier', '{changed 1 now first expiry}', 'which a later change does not bring forward');
SELECT apikey.revoke(pg_temp.id('earlier')::text) \g /dev/null
SELECT pg_temp.withdrawn('earlier', '{withdrawn * now first expiry,changed 1 now first expiry}', 'and a revocation lasts as long');

-- The previous token, within its grace: it ends with the key, whose expiry it does not state, and what binds the key binds it.
CREATE FUNCTION pg_temp.withdrawn_first(wanted text, rows text[], description text) RETURNS text LANGUAGE sql AS
    $$SELECT is(ARRAY(SELECT r FROM pg_temp.rows_of(wanted) r WHERE r ~ '^[a-z]+ 1 '), rows, description)$$;
SELECT pg_temp.hold('ends first');
CREATE TEMP TABLE previous AS SELECT h.token FROM held h WHERE h.name = 'ends first';
SELECT pg_temp.again('ends first');
UPDATE apikey.key SET expires_at = expires_at - interval '10 minutes' WHERE key_id = pg_temp.id('ends first');
SELECT pg_temp.withdrawn_first('ends first', '{withdrawn 1 after the grace first expiry}', 'a key that ends earlier, but after the grace: nothing about the previous token');
UPDATE apikey.key SET expires_at = clock_timestamp() WHERE key_id = pg_temp.id('ends first');
SELECT is((SELECT v.code FROM previous p, apikey.validate(p.token) v), 'EXPIRED', 'a key that ends within the grace ends for the previous token, too');
SELECT pg_temp.withdrawn_first('ends first', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry}', 'which is one to ask about');
SELECT pg_temp.hold('limited late');
SELECT pg_temp.again('limited late');
UPDATE apikey.key SET rate_limit = 10 WHERE key_id = pg_temp.id('limited late');
SELECT pg_temp.withdrawn_first('limited late', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry}', 'so is one whose key gets a limit within the grace');
SELECT pg_temp.hold('brief successor');
UPDATE apikey.key SET ttl = '2 minutes' WHERE key_id = pg_temp.id('brief successor');
SELECT pg_temp.again('brief successor');
SELECT pg_temp.withdrawn_first('brief successor', '{withdrawn 1 after the grace first expiry,changed 1 now first expiry}', 'and one whose successor expires within the grace');

SELECT pg_temp.hold('expired');
UPDATE apikey.key SET expires_at = clock_timestamp() - interval '1 day' WHERE key_id = pg_temp.id('expired');
DELETE FROM apikey.key WHERE key_id = pg_temp.id('expired');
SELECT pg_temp.withdrawn('expired', '{withdrawn * now first expiry,changed 1 now first expiry}', 'so does a deletion of a key that was made to expire');
SELECT pg_temp.hold('later');
SELECT apikey.revoke(pg_temp.id('later')::text) \g /dev/null
UPDATE apikey.key SET expires_at = expires_at + interval '1 hour' WHERE key_id = pg_temp.id('later');
SELECT pg_temp.withdrawn('later', '{withdrawn * now last expiry}', 'a revoked key that is made to live longer stays withdrawn for longer');
SELECT pg_temp.hold('renamed');
UPDATE apikey.role SET name = 'renamed' WHERE name = 'withdrawn';
SELECT pg_temp.withdrawn('renamed', '{changed 1 now first expiry}', 'a renamed role makes the claims of its keys untrue');
UPDATE apikey.role SET name = 'withdrawn' WHERE name = 'renamed';

-- A retired signing key.
CREATE TEMP TABLE old_key AS SELECT s.kid FROM apikey.signing_key s WHERE s.state = 'active';
SELECT pg_temp.hold('signed');
SELECT pg_temp.hold('moved on');
SELECT apikey.rotate_signing_key() \g /dev/null
SELECT pg_temp.again('moved on');
SELECT pg_temp.hold('new');
SELECT set_has('SELECT d.key_id, d.generation, d.expires_at FROM old_key, apikey.retire_signing_key(old_key.kid) d',
    $$SELECT key_id, 1, expires_at FROM held WHERE name = 'signed'
      UNION ALL SELECT h.key_id, 1, k.previous_valid_until FROM held h JOIN apikey.key k USING (key_id) WHERE h.name = 'moved on'$$, 'retiring says which tokens would die');
SELECT pg_temp.withdrawn('signed', '{}', 'and without confirm leaves them alone');
SELECT apikey.retire_signing_key(kid, confirm => true) FROM old_key \g /dev/null
SELECT pg_temp.withdrawn('signed', '{withdrawn * now first expiry}', 'retiring a signing key withdraws what it signed');
SELECT pg_temp.withdrawn('moved on', '{withdrawn 1 now first expiry}', 'of a key that has moved on, the old token only');
SELECT pg_temp.withdrawn('new', '{}', 'what the new one signed is good');

-- A row is not taken back by a later event.
SELECT is_empty($$SELECT h.name, v.code FROM held h, apikey.validate(h.token) v WHERE v.valid
    AND EXISTS (SELECT FROM apikey.revocation r WHERE r.key_id = h.key_id AND r.kind = 'withdrawn' AND r.effective_at <= clock_timestamp()
                AND coalesce(r.generation, v.generation) = v.generation)$$, 'no token is both valid and withdrawn');

SELECT * FROM finish();
ROLLBACK;
