-- What a validation costs is known to the planner, so that it runs after cheaper tests: it counts as a request.
SELECT * FROM apikey.issue('costs') \gset
UPDATE apikey.key SET rate_limit = 600, rate_window = '31 days' WHERE key_id = :'key_id';

-- The order of two tests that are written in either order.
EXPLAIN (COSTS OFF) SELECT g FROM generate_series(1, 1000) g WHERE g % 100 = 0 AND apikey.check_token('t');
EXPLAIN (COSTS OFF) SELECT g FROM generate_series(1, 1000) g WHERE apikey.check_token('t') AND g % 100 = 0;
-- Also where the other test is a function in a procedural language.
CREATE FUNCTION pg_temp.wanted(n integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN n % 100 = 0; END $$;
EXPLAIN (COSTS OFF) SELECT g FROM generate_series(1, 1000) g WHERE (apikey.validate('t')).valid AND pg_temp.wanted(g);

-- 10 rows of 1000 pass the cheap test, and 10 of the key's 600 requests are used.
SELECT count(*) FROM generate_series(1, 1000) g WHERE apikey.check_token(:'token') AND g % 100 = 0;
SELECT rate_limit - rate_remaining AS used FROM apikey.validate(:'token', cost => 0);
SELECT count(*) FROM generate_series(1, 1000) g WHERE (apikey.require(:'token')).valid AND g % 100 = 0;
SELECT rate_limit - rate_remaining AS used FROM apikey.validate(:'token', cost => 0);

DELETE FROM apikey.key WHERE owner = 'costs';
