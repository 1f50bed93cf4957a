-- A token in a policy of row-level security. docs/deployment.md shows the second form, and says why not the first.
SELECT * FROM apikey.issue('policies') \gset
UPDATE apikey.key SET rate_limit = 100, rate_window = '31 days' WHERE key_id = :'key_id';
CREATE TABLE public.orders AS SELECT n FROM generate_series(1, 1000) n;
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
CREATE ROLE regress_orders_api;
GRANT SELECT ON public.orders TO regress_orders_api;
SELECT apikey.grant_access('regress_orders_api', 'application');
SELECT set_config('orders.token', :'token', false) <> '' AS set;

-- For each row: the limit is used up on the way, and the rows after that are left out without a word.
CREATE POLICY each_row ON public.orders USING (apikey.check_token(current_setting('orders.token'), 'chat:read'));
SET ROLE regress_orders_api;
SELECT count(*) FROM public.orders;
RESET ROLE;
SELECT rate_remaining FROM apikey.validate(:'token', cost => 0);
DROP POLICY each_row ON public.orders;

-- Once for the statement, and it takes nothing: all rows or none, also when the limit is used up.
CREATE POLICY once ON public.orders
    USING ((SELECT apikey.check_token(current_setting('orders.token', true), 'chat:read', cost => 0)));
SET ROLE regress_orders_api;
SELECT count(*) FROM public.orders;
SELECT count(*) FROM public.orders WHERE n % 2 = 0;
SELECT set_config('orders.token', 'another', false) AS token;
SELECT count(*) FROM public.orders;
RESET orders.token;
SELECT count(*) FROM public.orders;
RESET ROLE;
-- With a limit that is not used up it stays as it was.
UPDATE apikey.key SET rate_window = '30 days' WHERE key_id = :'key_id';
SELECT set_config('orders.token', :'token', false) <> '' AS set;
SET ROLE regress_orders_api;
SELECT count(*) FROM public.orders;
RESET ROLE;
SELECT rate_remaining FROM apikey.validate(:'token', cost => 0);
-- A revocation counts at the next statement.
SELECT already FROM apikey.revoke(:'key_id');
SET ROLE regress_orders_api;
SELECT count(*) FROM public.orders;
RESET ROLE;

DROP TABLE public.orders;
SELECT apikey.revoke_access('regress_orders_api');
DROP ROLE regress_orders_api;
DELETE FROM apikey.key WHERE owner = 'policies';
