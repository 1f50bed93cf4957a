#!/usr/bin/env bash
# cold_validation.sh [N]: what a validation costs that has to do everything: signature and PBKDF2. Prints medians over N (200) tokens,
# each validated once, next to two floors, all measured in the server and in turns, so that whatever else the machine does hits them alike.
#
#     PGHOST=/var/run/postgresql PGUSER=postgres PGDATABASE=mydb test/bench/cold_validation.sh
#
# The database is the one that libpq's environment variables name; it must have the extension, and the user must be allowed to issue keys of
# role basic and to validate. Everything happens in one transaction, which is rolled back.

set -euo pipefail

exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set "n=${1:-200}" <<'SQL'
\pset footer off
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL jit = off;
CREATE TEMP TABLE token ON COMMIT DROP AS
    SELECT n, f.format, (apikey.issue('bench', format => f.format)).token
      FROM generate_series(1, :n) n, (VALUES ('jwt'), ('opaque')) f(format);
CREATE TEMP TABLE sample (what text, ms double precision) ON COMMIT DROP;

DO $$
DECLARE
    t record;
    at timestamptz[];
BEGIN
    -- The first calls in a session load the library, make keys and fill caches.
    PERFORM (apikey.validate(i.token)).code, apikey.is_label('x'), sha256(i.token::bytea)
       FROM (SELECT i.token FROM apikey.issue('bench') i UNION ALL SELECT i.token FROM apikey.issue('bench', format => 'opaque') i) i;
    FOR t IN SELECT j.token AS jwt, o.token AS opaque FROM token j JOIN token o USING (n) WHERE j.format = 'jwt' AND o.format = 'opaque' LOOP
        at := ARRAY[clock_timestamp()];
        PERFORM apikey.is_label('x');
        at := at || clock_timestamp();
        PERFORM sha256(t.jwt::bytea);
        at := at || clock_timestamp();
        IF NOT (apikey.validate(t.jwt)).valid THEN
            RAISE EXCEPTION 'a jwt of this run is not valid';
        END IF;
        at := at || clock_timestamp();
        IF NOT (apikey.validate(t.opaque)).valid THEN
            RAISE EXCEPTION 'an opaque token of this run is not valid';
        END IF;
        at := at || clock_timestamp();
        INSERT INTO sample
        SELECT w.what, 1000 * extract(epoch FROM at[w.i + 1] - at[w.i])
          FROM (VALUES (1, '1. no-op: is_label(''x'')'), (2, '2. floor: sha256(token)'), (3, '3. validate(jwt)'), (4, '4. validate(opaque)')) w(i, what);
    END LOOP;
END
$$;

SELECT current_setting('server_version') AS "PostgreSQL", current_setting('apikey.pbkdf2_iterations') AS iterations, :n AS tokens;
SELECT what, to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), 'FM990.000') AS "median ms",
       to_char(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms), 'FM990.000') AS "p95 ms", to_char(max(ms), 'FM990.000') AS "max ms"
  FROM sample GROUP BY what ORDER BY what;
ROLLBACK;
SQL
