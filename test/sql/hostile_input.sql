-- validate() answers whatever it is given, and never raises: not for any text, nor for tokens forged with what an attacker can know.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT apikey.rotate_signing_key() AS kid \gset
SELECT * FROM apikey.issue('hostile') \gset
SELECT * FROM apikey.issue('hostile', format => 'opaque') \gset opaque_
CREATE TEMP TABLE attack (n serial, name text, token text);

-- A token with this header and these claims, and a signature of the right size.
CREATE FUNCTION pg_temp.forge(header text, claims bytea, signature bytea DEFAULT decode(repeat('00', 64), 'hex')) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.base64url(convert_to(header, 'UTF8')) || '.' || pg_temp.base64url(claims) || '.' || pg_temp.base64url(signature)
$$;
SELECT pg_temp.jwt_part(:'token', 1) AS header, pg_temp.jwt_part(:'token', 2) AS claims \gset
-- Forging what is right gives the right beginning: what is refused below is refused for the fault it has.
SELECT starts_with(:'token', regexp_replace(pg_temp.forge(:'header', convert_to(:'claims', 'UTF8')), '[^.]+$', '')) AS forge_works;

--
-- No token at all
--
INSERT INTO attack (name, token) VALUES
    ('empty', ''), ('blank', ' '), ('a word', 'password'), ('a megabyte', repeat('A', 1048576)),
    ('a megabyte of JWT', 'eyJ0eXAiOiJhcGlrZXkrand0' || repeat('A', 1048576)), ('a megabyte of opaque', 'ak_' || repeat('A', 1048576)),
    ('a megabyte of dots', repeat('.', 1048576)), ('JWT and a megabyte of dots', :'token' || repeat('.', 1048576)),
    ('one dot', '.'), ('two dots', '..'), ('three dots', '...'), ('beginning only', 'eyJ0eXAiOiJhcGlrZXkrand0'),
    ('beginning and dots', 'eyJ0eXAiOiJhcGlrZXkrand0..'), ('opaque beginning', 'ak_'), ('opaque underscores', 'ak_' || repeat('_', 90)),
    ('SQL', '''; DROP TABLE apikey.key; --'), ('percent', '%s%n%d%m'), ('JSON', '{"alg":"none"}'), ('a UUID', :'key_id');
SELECT name, code, detail ->> 'reason' AS reason FROM attack, apikey.validate(token) ORDER BY n;
SELECT code FROM apikey.validate(NULL);

-- What people do to a good token on its way: the reason says what it is likely to be, with what else one calls as well.
SELECT name, opaque.code, jwt.detail ->> 'reason' AS jwt, CASE WHEN opaque.detail = jwt.detail THEN 'the same' ELSE opaque.detail ->> 'reason' END AS opaque
  FROM (VALUES (1, 'line break after', '%s' || chr(10)), (2, 'Windows line break after', '%s' || chr(13) || chr(10)), (3, 'blank after', '%s '),
               (4, 'blank before', ' %s'), (5, 'no-break space before', chr(160) || '%s'), (6, 'Bearer', 'Bearer %s'), (7, 'header', 'Authorization: Bearer %s'),
               (8, 'quotation marks', '"%s"'), (9, 'comma after', '%s,'), (10, 'zero-width space after', '%s' || chr(8203)),
               (11, 'byte order mark', chr(65279) || '%s'), (12, 'cut off', left(:'token', 40) || chr(8230)), (13, 'twice', '%1$s%1$s'), (14, 'more after', '%s_copy'),
               (15, 'percent-encoded', '%s%%0A')) m(n, name, pattern),
       apikey.validate(format(pattern, :'token')) jwt, apikey.validate(format(pattern, :'opaque_token')) opaque ORDER BY n;
SELECT f AS function, pg_temp.attempt_detail(format('SELECT apikey.%s(%L)', f, t)) ->> 'reason' AS reason
  FROM unnest(ARRAY['require', 'refresh', 'revoke_token']) WITH ORDINALITY f(f, n), unnest(ARRAY[:'token' || chr(10), 'Bearer ' || :'opaque_token', :'opaque_token' || 'x']) WITH ORDINALITY t(t, m)
 ORDER BY n, m;
-- Also where a key is named by a token of it.
SELECT f AS function, pg_temp.attempt_detail(format('SELECT apikey.%s(%L)', f, :'token' || chr(10))) ->> 'reason' AS reason FROM unnest(ARRAY['revoke', 'disable', 'enable']) f;

-- Control characters, noncharacters, the ends of Unicode: alone, before, within and after a good token of either format.
SELECT code, valid, count(*)
  FROM unnest(ARRAY[1, 7, 8, 9, 10, 13, 27, 31, 32, 127, 128, 133, 160, 173, 8206, 8232, 12288, 55295, 57344, 65279, 65533, 65535, 1114111]) c,
       unnest(ARRAY[:'token', :'opaque_token']) t,
       unnest(ARRAY[chr(c), chr(c) || t, t || chr(c), overlay(t PLACING chr(c) FROM 40), overlay(t PLACING chr(c) FROM 40 FOR 0)]) x,
       apikey.validate(x)
 GROUP BY 1, 2;

--
-- Forged headers
--
TRUNCATE attack;
INSERT INTO attack (name, token)
SELECT h.name, pg_temp.forge(h.header, convert_to(:'claims', 'UTF8')) FROM (VALUES
    ('as issued', :'header'),
    ('alg none', '{"typ":"apikey+jwt","alg":"none","kid":"k"}'), ('alg None', '{"typ":"apikey+jwt","alg":"None","kid":"k"}'),
    ('alg nONE', '{"typ":"apikey+jwt","alg":"nONE","kid":"k"}'), ('alg empty', '{"typ":"apikey+jwt","alg":"","kid":"k"}'),
    ('alg eddsa', '{"typ":"apikey+jwt","alg":"eddsa","kid":"k"}'), ('alg RS256', '{"typ":"apikey+jwt","alg":"RS256","kid":"k"}'),
    ('alg a list', '{"typ":"apikey+jwt","alg":["EdDSA"],"kid":"k"}'), ('alg missing', '{"typ":"apikey+jwt","kid":"k"}'),
    ('alg twice', '{"typ":"apikey+jwt","alg":"EdDSA","alg":"none","kid":"k"}'),
    ('alg HS256', replace(:'header', 'EdDSA', 'HS256')), ('alg ES256', replace(:'header', 'EdDSA', 'ES256')),
    ('kid missing', '{"typ":"apikey+jwt","alg":"EdDSA"}'), ('kid empty', '{"typ":"apikey+jwt","alg":"EdDSA","kid":""}'),
    ('kid unknown', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k"}'), ('kid number', '{"typ":"apikey+jwt","alg":"EdDSA","kid":1}'),
    ('kid SQL', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"x'' OR ''1''=''1"}'), ('kid path', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"../../dev/null"}'),
    ('kid quoted', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"\""}'), ('kid too long', format('{"typ":"apikey+jwt","alg":"EdDSA","kid":"%s"}', repeat('k', 65))),
    ('jwk', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","jwk":{"kty":"OKP","crv":"Ed25519","x":"AA"}}'),
    ('jku', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","jku":"https://example.com/jwks"}'),
    ('x5u', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","x5u":"https://example.com/x"}'), ('x5c', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","x5c":[]}'),
    ('crit', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","crit":["exp"]}'), ('b64', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k","b64":false}'),
    ('typ JWT', replace(:'header', 'apikey+jwt', 'JWT')), ('typ longer', replace(:'header', 'apikey+jwt', 'apikey+jwtx')),
    ('typ twice', '{"typ":"apikey+jwt","typ":"JWT","alg":"EdDSA","kid":"k"}'),
    ('other order', '{"alg":"EdDSA","typ":"apikey+jwt","kid":"k"}'), ('blanks', '{ "typ":"apikey+jwt","alg":"EdDSA","kid":"k"}'),
    ('cut off', '{"typ":"apikey+jwt"'), ('a tail', '{"typ":"apikey+jwt","alg":"EdDSA","kid":"k"}x'), ('a comment', '{"typ":"apikey+jwt",/**/"alg":"EdDSA","kid":"k"}'),
    ('nested 100,000 deep', '{"typ":"apikey+jwt","x":' || repeat('[', 100000)),
    ('nested 1,000 deep', '{"typ":"apikey+jwt","x":' || repeat('[', 1000)), ('objects 500 deep', '{"typ":"apikey+jwt","x":' || repeat('{"x":', 500))
) h(name, header);
SELECT name, code, detail ->> 'reason' AS reason FROM attack, apikey.validate(token) ORDER BY n;

--
-- Forged claims: all of them under a header that is right
--
TRUNCATE attack;
INSERT INTO attack (name, token)
SELECT c.name, pg_temp.forge(:'header', convert_to(c.claims, 'UTF8')) FROM (VALUES
    ('empty', ''), ('null', 'null'), ('a list', '[]'), ('no claims', '{}'), ('a string', '"x"'), ('not closed', '{"iss":"apikey"'),
    ('nested 100,000 deep', repeat('[', 100000) || repeat(']', 100000)), ('nested 2,500 deep', repeat('[', 2500) || repeat(']', 2500)),
    ('sub twice', replace(:'claims', '"sub":', '"sub":"root","sub":')), ('exp twice', replace(:'claims', '"exp":', '"exp":1,"exp":')),
    ('jti twice', replace(:'claims', '"jti":', '"jti":"x","jti":')), ('unknown claim', replace(:'claims', '"iss":', '"admin":true,"iss":')),
    ('role a list', replace(:'claims', '"basic"', '["admin"]')), ('sub empty', replace(:'claims', '"hostile"', '""')),
    ('sub with NUL', replace(:'claims', '"hostile"', '"host\u0000ile"')), ('sub with escape', replace(:'claims', '"hostile"', '"host\u001bile"')),
    ('lone surrogate', replace(:'claims', '"hostile"', '"\ud800"')), ('exp a string', regexp_replace(:'claims', '"exp":(\d+)', '"exp":"\1"')),
    ('exp negative', regexp_replace(:'claims', '"exp":\d+', '"exp":-1')), ('exp a fraction', regexp_replace(:'claims', '"exp":\d+', '"exp":1.5')),
    ('exp an exponent', regexp_replace(:'claims', '"exp":\d+', '"exp":1e9')), ('exp huge', regexp_replace(:'claims', '"exp":\d+', '"exp":99999999999999999999999')),
    ('exp infinite', regexp_replace(:'claims', '"exp":\d+', '"exp":Infinity')), ('no exp', regexp_replace(:'claims', '"exp":\d+,', '')),
    ('jti upper case', regexp_replace(:'claims', '"jti":"[^"]+"', '"jti":"0190ABCD-0000-7000-8000-000000000000.1"')),
    ('jti generation 0', replace(:'claims', '.1"', '.0"')), ('jti generation 01', replace(:'claims', '.1"', '.01"')),
    ('jti generation -1', replace(:'claims', '.1"', '.-1"')), ('jti generation 2^31', replace(:'claims', '.1"', '.2147483648"')),
    ('jti generation 2^31-1', replace(:'claims', '.1"', '.2147483647"')), ('jti no generation', replace(:'claims', '.1"', '"')),
    ('jti generation 2', replace(:'claims', '.1"', '.2"')), ('jti blank', replace(:'claims', '.1"', '.1 "')), ('jti no key', replace(:'claims', :'key_id', '')),
    ('another role', replace(:'claims', '"basic"', '"admin"')), ('another owner', replace(:'claims', '"hostile"', '"root"')),
    ('another key', replace(:'claims', :'key_id', '0190abcd-0000-7000-8000-000000000000')), ('the opaque key', replace(:'claims', :'key_id', :'opaque_key_id')),
    ('no nonce', regexp_replace(:'claims', ',"nonce":"[^"]+"', '')), ('nonce short', regexp_replace(:'claims', '"nonce":"[^"]+"', '"nonce":"AAAA"')),
    ('another nonce', regexp_replace(:'claims', '"nonce":"[^"]+"', '"nonce":"AAAAAAAAAAAAAAAAAAAAAA"')), ('as issued', :'claims')
) c(name, claims);
SELECT name, code, detail ->> 'reason' AS reason FROM attack, apikey.validate(token) ORDER BY n;

-- Bytes that are not UTF-8 can only come in base64url.
SELECT name, code, detail ->> 'reason' AS reason FROM (VALUES
    (1, 'stray continuation', '\x80'::bytea), (2, 'overlong NUL', '\xc080'), (3, 'overlong slash', '\xe080af'), (4, 'surrogate', '\xeda080'),
    (5, 'beyond Unicode', '\xf4908080'), (6, 'cut off', '\xe282'), (7, 'FF FE', '\xfffe')) b(n, name, bytes),
    apikey.validate(pg_temp.forge(:'header', convert_to('{"iss":"apikey","sub":"', 'UTF8') || bytes || convert_to('","x":1}', 'UTF8')))
 ORDER BY n;
SELECT name, code, detail ->> 'reason' AS reason FROM (VALUES (1, 'byte order mark', '\xefbbbf'::bytea), (2, 'NUL after', ''), (3, 'UTF-16', '\xfffe7b00')) b(n, name, bytes),
    apikey.validate(pg_temp.forge(:'header', bytes || convert_to(:'claims', 'UTF8') || CASE n WHEN 2 THEN '\x00' ELSE '' END::bytea))
 ORDER BY n;

--
-- A good token, altered
--
CREATE FUNCTION pg_temp.refused(token text) RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT valid AND code IN ('MALFORMED', 'NOT_FOUND', 'SIGNATURE_INVALID') AND v.key_id IS NULL AND NOT apikey.check_token(token)
      FROM apikey.validate(token) v
$$;
-- Each character in turn, cut off at each length, each character left out or doubled.
SELECT name,
       bool_and(pg_temp.refused(overlay(t PLACING CASE substr(t, i, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM i))) AS altered,
       bool_and(pg_temp.refused(left(t, i - 1))) AS cut_off,
       bool_and(pg_temp.refused(overlay(t PLACING '' FROM i FOR 1))) AS left_out,
       bool_and(pg_temp.refused(overlay(t PLACING substr(t, i, 1) FROM i FOR 0))) AS doubled,
       bool_and(pg_temp.refused(overlay(t PLACING CASE substr(t, i, 1) WHEN lower(substr(t, i, 1)) THEN upper(substr(t, i, 1)) ELSE lower(substr(t, i, 1)) END FROM i)))
           FILTER (WHERE substr(t, i, 1) ~ '[A-Za-z]') AS other_case
  FROM (VALUES ('jwt', :'token'), ('opaque', :'opaque_token')) x(name, t), generate_series(1, length(t)) i
 GROUP BY name ORDER BY name;
-- Every other last character of a signature: those that differ in unused bits only would be a second spelling.
SELECT bool_and(pg_temp.refused(left(:'token', -1) || c)) AS last_character
  FROM regexp_split_to_table('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', '') c WHERE c <> right(:'token', 1);
SELECT x AS appended, bool_and(pg_temp.refused(t || x)) AS refused
  FROM unnest(ARRAY['=', '==', ' ', '.', '_', '+', '/', '%00', '0']) x, unnest(ARRAY[:'token', :'opaque_token']) t GROUP BY x ORDER BY x COLLATE "C";
SELECT bool_and(pg_temp.refused(f)) AS upper_and_lower FROM unnest(ARRAY[upper(:'token'), lower(:'token'), upper(:'opaque_token'), lower(:'opaque_token')]) f;
-- Parts of two good tokens put together.
SELECT * FROM apikey.issue('hostile') \gset other_
SELECT bool_and(pg_temp.refused(format('%s.%s.%s', split_part(a, '.', 1), split_part(b, '.', 2), split_part(a, '.', 3)))) AS other_claims,
       bool_and(pg_temp.refused(format('%s.%s.%s', split_part(a, '.', 1), split_part(a, '.', 2), split_part(b, '.', 3)))) AS other_signature
  FROM (VALUES (:'token', :'other_token'), (:'other_token', :'token')) x(a, b);

-- An opaque token that names a known key, with a checksum that is right, and the secret of another key.
CREATE FUNCTION pg_temp.with_checksum(body text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    crc bigint := 4294967295;
    digits CONSTANT text := '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
    encoded text := '';
BEGIN
    FOR i IN 1 .. length(body) LOOP
        crc := crc # ascii(substr(body, i, 1));
        FOR b IN 1 .. 8 LOOP
            crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
        END LOOP;
    END LOOP;
    crc := crc # 4294967295;
    FOR i IN 1 .. 6 LOOP
        encoded := substr(digits, (crc % 62)::integer + 1, 1) || encoded;
        crc := crc / 62;
    END LOOP;
    RETURN body || encoded;
END
$$;
SELECT pg_temp.with_checksum(left(:'opaque_token', -6)) = :'opaque_token' AS checksum_works;
SELECT * FROM apikey.issue('hostile', format => 'opaque') \gset other_
SELECT name, code, detail FROM (VALUES
    (1, 'secret of another key', left(:'opaque_token', 36) || substr(left(:'other_token', -6), 37)),
    (2, 'another environment', overlay(left(:'opaque_token', -6) PLACING 'prod' FROM 4 FOR 4))) b(n, name, body),
    apikey.validate(pg_temp.with_checksum(body)) ORDER BY n;
DELETE FROM apikey.key WHERE key_id = :'other_key_id';
SELECT code AS deleted FROM apikey.validate(:'other_token');
-- The checksum comes before the look-up.
SELECT code, detail ->> 'reason' AS reason FROM apikey.validate(overlay(:'other_token' PLACING '000000' FROM length(:'other_token') - 5));

--
-- A generation whose hash is no longer kept has nothing but its signature: forgeries of it must not even pass for superseded.
--
CREATE FUNCTION pg_temp.hmac(key bytea, message bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
    FOR i IN 0 .. length(key) - 1 LOOP
        inner_pad := set_byte(inner_pad, i, get_byte(key, i) # 54);
        outer_pad := set_byte(outer_pad, i, get_byte(key, i) # 92);
    END LOOP;
    RETURN sha256(outer_pad || sha256(inner_pad || message));
END
$$;
-- RFC 4231, test case 2.
SELECT pg_temp.hmac('Jefe', 'what do ya want for nothing?') = '\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843' AS hmac_works;
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT * FROM apikey.refresh(:'token') \gset second_
CALL pg_temp.expires_in(:'key_id', '1 hour');
SELECT generation FROM apikey.refresh(:'second_token');
SELECT code FROM apikey.validate(:'token');
SELECT apikey.rotate_signing_key('HS256') AS hs256, apikey.rotate_signing_key('ES256') AS es256, apikey.rotate_signing_key() <> '' AS rotated \gset
SELECT replace(:'header', 'EdDSA', 'HS256') AS hs256_header, replace(:'header', 'EdDSA', 'ES256') AS es256_header \gset
SELECT name, code FROM (VALUES
    (1, 'no signature', left(:'token', -86)),
    (2, 'zeroes', pg_temp.forge(:'header', convert_to(:'claims', 'UTF8'))),
    (3, 'HMAC under the public key', pg_temp.forge(:'hs256_header', convert_to(:'claims', 'UTF8'),
        (SELECT pg_temp.hmac(public_key, convert_to(left(pg_temp.forge(:'hs256_header', convert_to(:'claims', 'UTF8'), ''), -1), 'UTF8'))
           FROM apikey.signing_key WHERE kid = :'kid'))),
    (4, 'HMAC under no key', pg_temp.forge(replace(:'hs256_header', :'kid', :'hs256'), convert_to(:'claims', 'UTF8'),
        (SELECT pg_temp.hmac('', convert_to(left(pg_temp.forge(replace(:'hs256_header', :'kid', :'hs256'), convert_to(:'claims', 'UTF8'), ''), -1), 'UTF8'))))),
    (5, 'ES256 of zeroes', pg_temp.forge(replace(:'es256_header', :'kid', :'es256'), convert_to(:'claims', 'UTF8'))),
    (6, 'ES256 with the Ed25519 key', pg_temp.forge(:'es256_header', convert_to(:'claims', 'UTF8'))),
    (7, 'unknown kid', pg_temp.forge(replace(:'header', :'kid', 'k'), convert_to(:'claims', 'UTF8'))),
    (8, 'another role', replace(:'token', split_part(:'token', '.', 2), pg_temp.base64url(convert_to(replace(:'claims', 'basic', 'admin'), 'UTF8')))),
    (9, 'the token', :'token')) f(n, name, token), apikey.validate(token) ORDER BY n;

-- What writes refuses in the same words, and repeats nothing of what it was given.
SELECT DISTINCT pg_temp.attempt(format(call, t)) FROM unnest(ARRAY['', 'password', repeat('A', 1048576), left(:'token', -1) || '!', '{"alg":"none"}']) t,
       unnest(ARRAY['SELECT apikey.refresh(%L)', 'SELECT apikey.revoke_token(%L)', 'SELECT apikey.require(%L)']) call;

-- Nothing above has changed anything.
SELECT count(*) AS keys, count(*) FILTER (WHERE state = 'active') AS active FROM apikey.key WHERE owner = 'hostile';
SELECT code FROM apikey.validate(:'opaque_token');
DELETE FROM apikey.key WHERE owner = 'hostile';
