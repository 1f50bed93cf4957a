-- Tokens that nobody has validated, and the loop that times their first validation next to its floors.

CREATE TABLE bench.cold (
    n integer PRIMARY KEY,
    jwt text NOT NULL,
    opaque text NOT NULL,
    public_key bytea NOT NULL,
    input bytea NOT NULL,
    signature bytea NOT NULL
);

-- base64url as in a JWS: without padding.
CREATE FUNCTION bench.from_base64url(value text) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    RETURN decode(rpad(translate(value, '-_', '+/'), (length(value) + 3) / 4 * 4, '='), 'base64');

CREATE PROCEDURE bench.prepare_cold(tokens integer)
    LANGUAGE plpgsql
AS $$
BEGIN
    TRUNCATE bench.cold;
    -- The first two prime the session that measures.
    INSERT INTO bench.cold
    SELECT n, j.token, o.token, s.public_key,
           convert_to(substring(j.token FROM '^[^.]+[.][^.]+'), 'UTF8'), bench.from_base64url(split_part(j.token, '.', 3))
      FROM generate_series(1, tokens + 2) n, apikey.issue('cold ' || n, 'bench_limited') j,
           apikey.issue('cold ' || n, 'bench_limited', format => 'opaque') o
      JOIN apikey.signing_key s ON s.state = 'active' AND s.algorithm = 'EdDSA';
    IF (SELECT count(*) <> tokens + 2 OR count(DISTINCT jwt) <> tokens + 2 OR NOT bool_and(bench.openssl_verify(public_key, input, signature))
               OR bool_or(bench.openssl_verify(public_key, input || 'x', signature)) FROM bench.cold) THEN
        RAISE EXCEPTION 'the tokens of this benchmark are not what they should be';
    END IF;
END
$$;

CREATE FUNCTION bench.measure_cold() RETURNS TABLE (what text, ms double precision)
    LANGUAGE plpgsql
AS $$
DECLARE
    t bench.cold;
    at timestamptz[];
    jwt_is_good boolean;
    opaque_is_good boolean;
    salt CONSTANT bytea := sha256('salt');
    iterations CONSTANT integer := current_setting('apikey.pbkdf2_iterations');
BEGIN
    FOR t IN SELECT * FROM bench.cold c ORDER BY c.n LOOP
        at := ARRAY[clock_timestamp()];
        PERFORM bench.nop_check(t.jwt);
        at := at || clock_timestamp();
        PERFORM sha256(t.jwt::bytea);
        at := at || clock_timestamp();
        PERFORM bench.openssl_verify(t.public_key, t.input, t.signature);
        at := at || clock_timestamp();
        PERFORM bench.own_pbkdf2(salt, substr(salt, 1, 16), iterations);
        at := at || clock_timestamp();
        PERFORM bench.openssl_pbkdf2(salt, substr(salt, 1, 16), iterations);
        at := at || clock_timestamp();
        jwt_is_good := apikey.check_token(t.jwt);
        at := at || clock_timestamp();
        opaque_is_good := apikey.check_token(t.opaque);
        at := at || clock_timestamp();
        IF NOT (jwt_is_good AND opaque_is_good) THEN
            RAISE EXCEPTION 'a token of this run is not valid';
        END IF;
        IF t.n > 2 THEN
            RETURN QUERY
            SELECT w.what, 1000 * extract(epoch FROM at[w.i + 1] - at[w.i])::double precision
              FROM unnest('{no-op,sha256,verify,own_kdf,openssl_kdf,jwt,opaque}'::text[]) WITH ORDINALITY w (what, i);
        END IF;
    END LOOP;
END
$$;
