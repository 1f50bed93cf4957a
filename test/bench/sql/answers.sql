-- What is asked, the answer to a good token, the answer to a bad one. In turn: another token of that form, and a permission that is lacking.
WITH good AS MATERIALIZED (
    SELECT 'jwt' AS kind, i.token FROM apikey.issue('answers', 'bench_limited') i
    UNION ALL SELECT 'opaque', i.token FROM apikey.issue('answers', 'bench_limited', format => 'opaque') i
    UNION ALL SELECT 'without limit', i.token FROM apikey.issue('answers', 'bench_unlimited') i
), bad AS MATERIALIZED (
    SELECT g.kind, g.token, overlay(g.token PLACING CASE substr(g.token, 70, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM 70) AS broken FROM good g
)
SELECT 'check_token, ' || kind, apikey.check_token(token), apikey.check_token(broken) FROM bad
UNION ALL SELECT 'check_token with a permission, ' || kind, apikey.check_token(token, 'chat:read'), apikey.check_token(token, 'billing:read') FROM bad
UNION ALL SELECT 'validate, ' || kind, (apikey.validate(token)).valid, (apikey.validate(broken)).valid FROM bad
UNION ALL
SELECT 'plpgsql', bench.plpgsql_check(t.token, 'chat:read'), bench.plpgsql_check(t.token || 'x', 'chat:read')
  FROM bench.token t WHERE t.kind = 'plpgsql' AND t.n = 1
UNION ALL
SELECT 'plpgsql with last used', bench.plpgsql_check_and_note(t.token, 'chat:read'), bench.plpgsql_check_and_note(t.token, 'billing:read')
  FROM bench.token t WHERE t.kind = 'plpgsql' AND t.n = 1
UNION ALL
SELECT 'UPDATE limiter', bench.sql_limit('key 1', 1000000000), bench.sql_limit('key 1', 1)
UNION ALL
SELECT 'bcrypt', crypt('a secret of the benchmarks', hash) = hash, crypt('another', hash) = hash FROM bench.bcrypt
UNION ALL
SELECT 'own PBKDF2', bench.own_pbkdf2('password', 'salt', 1000) = bench.openssl_pbkdf2('password', 'salt', 1000),
       bench.own_pbkdf2('password', 'salt', 1000) = bench.openssl_pbkdf2('password', 'salt', 1001);
