-- Helpers of the regression tests, for the session that includes them.

-- What a statement raises, in one line: SQLSTATE: message (hint).
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ': ' || SQLERRM || CASE WHEN hint <> '' THEN ' (' || hint || ')' ELSE '' END;
END
$$;

-- The JSON detail of the error that a statement raises.
CREATE FUNCTION pg_temp.attempt_detail(statement text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail::jsonb;
END
$$;

CREATE FUNCTION pg_temp.base64url(bytes bytea) RETURNS text LANGUAGE sql
    RETURN rtrim(translate(encode(bytes, 'base64'), E'+/\n', '-_'), '=');

-- Header (1) or claims (2) of a JWT, as text.
CREATE FUNCTION pg_temp.jwt_part(token text, part integer) RETURNS text LANGUAGE sql AS $$
    SELECT convert_from(decode(rpad(p, (length(p) + 3) / 4 * 4, '='), 'base64'), 'UTF8')
      FROM translate(split_part(token, '.', part), '-_', '+/') p
$$;

-- Makes time pass.
CREATE PROCEDURE pg_temp.expires_in(id uuid, rest interval) LANGUAGE sql AS $$
    UPDATE apikey.key SET expires_at = now() + rest WHERE key_id = id
$$;
CREATE PROCEDURE pg_temp.end_grace(id uuid) LANGUAGE sql AS $$
    UPDATE apikey.key SET previous_valid_until = now() WHERE key_id = id
$$;
