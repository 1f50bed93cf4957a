-- The view metrics: each counter rises exactly when it should. In a database of its own, which starts with zeros.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set start_database :DBNAME
CREATE DATABASE regress_apikey_metrics;
\c regress_apikey_metrics
CREATE EXTENSION apikey;
\set ECHO none
\i :helpers
\set ECHO all

-- Everything is there from the start, as zero, but for what describes the server; entries are those of all databases.
SELECT name FROM apikey.metrics WHERE value <> 0 AND name <> 'apikey_proof_cache_entries' ORDER BY name;
SELECT m.name, t.type, (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(min(m.labels::text)::jsonb) k) AS labels, count(*) AS series
  FROM apikey.metrics m LEFT JOIN apikey.metric_types t ON t.name = regexp_replace(m.name, '(_seconds)_(bucket|sum|count)$', '\1')
 GROUP BY m.name, t.type ORDER BY m.name COLLATE "C";
-- But for what there is only with a mirror.
SELECT name AS never_seen FROM apikey.metric_types t WHERE name NOT IN ('apikey_mirror_watermark_age_seconds', 'apikey_rate_exchange_age_seconds', 'apikey_rate_nodes')
   AND NOT EXISTS (SELECT FROM apikey.metrics m WHERE m.name IN (t.name, t.name || '_count'));
SELECT name, labels FROM apikey.metrics GROUP BY name, labels HAVING count(*) > 1;
SELECT labels ->> 'version' = (SELECT extversion FROM pg_extension WHERE extname = 'apikey') AS version FROM apikey.metrics WHERE name = 'apikey_build_info';
SELECT abs(value - extract(epoch FROM pg_postmaster_start_time())) < 60 AS started_with_the_server FROM apikey.metrics WHERE name = 'apikey_start_time_seconds';
SELECT string_agg(labels ->> 'code', ' ' ORDER BY labels ->> 'code') FROM apikey.metrics WHERE name = 'apikey_refreshes_refused_total';
SELECT labels ->> 'traffic' AS traffic, string_agg(labels ->> 'code', ' ' ORDER BY labels ->> 'code') FROM apikey.metrics WHERE name = 'apikey_validations_total' GROUP BY 1 ORDER BY 1;
SELECT count, share, cumulative, bar = '' AS no_bar FROM apikey.latency_histogram() GROUP BY 1, 2, 3, 4;

-- What has changed since the last look. Nothing else happens in this database, and no worker writes away its events.
\set ECHO none
CREATE TEMP TABLE before AS SELECT name, labels, value FROM apikey.metrics;
CREATE FUNCTION pg_temp.risen() RETURNS TABLE (metric text, labels text, by double precision) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE now_seen AS SELECT name, m.labels, value FROM apikey.metrics m;
    RETURN QUERY
        SELECT substr(n.name, 8), (SELECT string_agg(l.value, ' ' ORDER BY l.key) FROM jsonb_each_text(n.labels) l), n.value - coalesce(b.value, 0)
          FROM now_seen n LEFT JOIN before b USING (name, labels)
         WHERE n.value <> coalesce(b.value, 0) AND n.name NOT LIKE 'apikey\_validation\_duration\_%' AND n.name NOT LIKE 'apikey\_mirror\_outbox\_%'
         ORDER BY n.name COLLATE "C", n.labels::text COLLATE "C";
    DELETE FROM before;
    INSERT INTO before TABLE now_seen;
    DROP TABLE now_seen;
END
$$;
\set ECHO all

-- Issued: what is committed, once.
SELECT * FROM apikey.issue('metrics') \gset one_
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT (apikey.issue('metrics')).generation FROM generate_series(1, 3);
ROLLBACK;
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT generation FROM apikey.issue('metrics', 'contributor');
SAVEPOINT taken_back;
SELECT (apikey.issue('metrics')).generation FROM generate_series(1, 2);
SAVEPOINT inner_one;
SELECT generation FROM apikey.issue('metrics');
RELEASE inner_one;
ROLLBACK TO taken_back;
SAVEPOINT kept;
SELECT generation FROM apikey.issue('metrics', 'contributor');
SAVEPOINT kept_too;
SELECT generation FROM apikey.issue('metrics', 'contributor');
RELEASE kept;
SELECT pg_temp.attempt('SELECT apikey.issue(''metrics''), 1 / 0');
COMMIT;
SELECT * FROM pg_temp.risen();
-- A failed transaction leaves nothing behind for the next.
BEGIN;
SELECT generation FROM apikey.issue('metrics');
SAVEPOINT failing;
SELECT generation / 0 FROM apikey.issue('metrics');
COMMIT;
SELECT generation FROM apikey.issue('metrics', ttl => '1 hour', name => 'opaque', format => 'opaque', idempotency_key => 'once');
SELECT * FROM pg_temp.risen();
SELECT (apikey.issue('metrics', ttl => '1 hour', name => 'opaque', format => 'opaque', idempotency_key => 'once')).generation FROM generate_series(1, 2);
SELECT pg_temp.attempt('SELECT apikey.issue(''metrics'', ttl => ''-1 day'')');
SELECT * FROM pg_temp.risen();
-- PREPARE TRANSACTION counts: the session does not learn what becomes of it.
BEGIN;
SELECT generation FROM apikey.issue('metrics');
PREPARE TRANSACTION 'regress_apikey_metrics';
SELECT * FROM pg_temp.risen();
COMMIT PREPARED 'regress_apikey_metrics';
SELECT * FROM pg_temp.risen();

-- Validated: the first time a token has to prove itself, then it is remembered. Denials are counted, and wait in the ring.
SELECT code FROM apikey.validate(:'one_token');
SELECT * FROM pg_temp.risen();
SELECT code FROM apikey.validate(:'one_token');
SELECT apikey.check_token(:'one_token');
SELECT (apikey.require(:'one_token')).code;
SELECT * FROM pg_temp.risen();
-- Also what is rolled back.
BEGIN;
SELECT code FROM apikey.validate(:'one_token', 'dataset:write');
ROLLBACK;
SELECT * FROM pg_temp.risen();
SELECT code FROM apikey.validate('nonsense');
SELECT * FROM pg_temp.risen();
SELECT code FROM apikey.validate('ak_nonsense');
SELECT * FROM pg_temp.risen();
SELECT apikey.check_token(:'one_token' || 'A');
SELECT pg_temp.attempt('SELECT apikey.require(NULL)');
SELECT * FROM pg_temp.risen();
SELECT * FROM apikey.issue('metrics') \gset gone_
DELETE FROM apikey.key WHERE key_id = :'gone_key_id';
SELECT code FROM apikey.validate(:'gone_token');
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT apikey.disable(:'one_key_id');
SELECT code FROM apikey.validate(:'one_token');
ROLLBACK;
BEGIN;
SELECT already FROM apikey.revoke(:'one_key_id');
SELECT code FROM apikey.validate(:'one_token');
ROLLBACK;
BEGIN;
CALL pg_temp.expires_in(:'one_key_id', '0');
SELECT code FROM apikey.validate(:'one_token');
ROLLBACK;
BEGIN;
UPDATE apikey.key SET allowed_cidrs = '{10.0.0.0/8}' WHERE key_id = :'one_key_id';
SELECT code FROM apikey.validate(:'one_token', client => '192.0.2.1');
ROLLBACK;
SELECT * FROM pg_temp.risen();
SELECT code FROM apikey.validate(:'one_token', cost => 601);
SELECT * FROM pg_temp.risen();
SET apikey.free_tier = on;
SELECT code FROM apikey.validate(NULL, client => '192.0.2.1', cost => 30);
SELECT code FROM apikey.validate(NULL, client => '192.0.2.1');
SELECT code FROM apikey.validate(NULL, 'chat:write', client => '192.0.2.1');
SELECT * FROM pg_temp.risen();
SET apikey.free_tier_on_failure = on;
SELECT code FROM apikey.validate('nonsense', client => '192.0.2.2');
SELECT * FROM pg_temp.risen();
RESET apikey.free_tier_on_failure;
RESET apikey.free_tier;
-- An argument that makes no sense is no validation.
SELECT pg_temp.attempt('SELECT apikey.validate(''nonsense'', cost => -1)');
SELECT * FROM pg_temp.risen();

-- Refreshed: committed, and a generation that was not there before.
CALL pg_temp.expires_in(:'one_key_id', '1 hour');
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT generation FROM apikey.refresh(:'one_token');
ROLLBACK;
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT * FROM apikey.refresh(:'one_token') \gset two_
SAVEPOINT taken_back;
CALL pg_temp.expires_in(:'one_key_id', '1 hour');
SELECT generation FROM apikey.refresh(:'two_token');
ROLLBACK TO taken_back;
COMMIT;
SELECT * FROM pg_temp.risen();
SELECT generation, token = :'two_token' AS same FROM apikey.refresh(:'one_token');
SELECT * FROM pg_temp.risen();

-- Refused: by code, although the transaction fails, and each into the ring.
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token'));
SELECT * FROM pg_temp.risen();
SELECT pg_temp.attempt('SELECT apikey.refresh(NULL)');
SELECT pg_temp.attempt('SELECT apikey.refresh(''ak_nonsense'')');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'gone_token'));
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token' || 'A'));
SELECT * FROM pg_temp.risen();
BEGIN;
SELECT already FROM apikey.revoke(:'one_key_id');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token'));
ROLLBACK;
BEGIN;
SELECT apikey.disable(:'one_key_id');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token'));
ROLLBACK;
BEGIN;
CALL pg_temp.expires_in(:'one_key_id', '0');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token'));
ROLLBACK;
BEGIN;
CALL pg_temp.end_grace(:'one_key_id');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'one_token'));
ROLLBACK;
SET apikey.environments = 'test';
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'two_token'));
RESET apikey.environments;
SELECT * FROM pg_temp.risen();
SELECT * FROM apikey.issue('metrics', ttl => '1 hour', format => 'opaque') \gset opaque_
SELECT generation FROM apikey.refresh(:'opaque_token');
SELECT pg_temp.attempt(format('SELECT apikey.refresh(%L)', :'opaque_token'));
SELECT * FROM pg_temp.risen();

-- revoke_token() records its denials too, and has no counter of its own; a wrong reason is no denial.
SELECT pg_temp.attempt('SELECT apikey.revoke_token(NULL)');
SELECT pg_temp.attempt('SELECT apikey.revoke_token(''ak_nonsense'')');
SELECT pg_temp.attempt(format('SELECT apikey.revoke_token(%L)', :'gone_token'));
SELECT pg_temp.attempt('SELECT apikey.revoke_token(''ak_nonsense'', ''no reason'')');
SELECT * FROM pg_temp.risen();
SELECT already FROM apikey.revoke_token(:'opaque_token');
SELECT * FROM pg_temp.risen();

-- Keys, as their table has them: by state, inside their refresh window, and what became of those that were due.
DELETE FROM apikey.key;
SELECT count(*) FROM generate_series(1, 10) n, LATERAL apikey.issue('metrics', 'contributor', n::text);
UPDATE apikey.key SET expires_at = now() + interval '24 hours' WHERE name = '1';
UPDATE apikey.key SET expires_at = now() + interval '25 hours' WHERE name = '2';
UPDATE apikey.key SET expires_at = now(), generation = 2 WHERE name = '3';
UPDATE apikey.key SET expires_at = now() WHERE name IN ('4', '5', '6', '7', '8');
UPDATE apikey.key SET state = 'disabled' WHERE name = '4';
UPDATE apikey.key SET state = 'revoked' WHERE name IN ('5', '9');
UPDATE apikey.key SET generation = 3 WHERE name = '10';
SELECT name, labels, value FROM apikey.metrics WHERE name LIKE 'apikey\_keys%' AND labels ->> 'role' = 'contributor' ORDER BY name, labels::text;
SELECT sum(value) AS of_other_roles FROM apikey.metrics WHERE name LIKE 'apikey\_keys%' AND labels ->> 'role' <> 'contributor';

-- The histogram has every validation in it, in one range each, however long they took.
SELECT range FROM apikey.latency_histogram();
SELECT sum(h.count) = (SELECT sum(value) FROM apikey.metrics WHERE name = 'apikey_validations_total') AS all_of_them, round(sum(h.share)) AS share,
       max(h.cumulative) AS cumulative, max(length(h.bar)) AS longest_bar, bool_and((h.count > 0) = (h.bar <> '')) AS bars
  FROM apikey.latency_histogram() h;
SELECT bool_and(steps.value >= steps.before) AS rises, max(steps.value) = (SELECT value FROM apikey.metrics WHERE name = 'apikey_validation_duration_seconds_count') AS total
  FROM (SELECT value, lag(value, 1, 0) OVER (ORDER BY (labels ->> 'le')::float8) AS before
          FROM apikey.metrics WHERE name = 'apikey_validation_duration_seconds_bucket') steps;
-- Nothing in a bucket took longer than its bound, nor less than the one before, so the sum lies between these.
SELECT s.value > 0 AND s.value <= sum(b.n * b.upper) AND s.value >= sum(b.n * b.lower) AS sum_fits
  FROM (SELECT (labels ->> 'le')::float8 AS upper, lag((labels ->> 'le')::float8, 1, 0) OVER w AS lower, value - lag(value, 1, 0) OVER w AS n
          FROM apikey.metrics WHERE name = 'apikey_validation_duration_seconds_bucket'
        WINDOW w AS (ORDER BY (labels ->> 'le')::float8)) b, apikey.metrics s
 WHERE b.n > 0 AND s.name = 'apikey_validation_duration_seconds_sum' GROUP BY s.value;

-- An auditor sees all of it, an application nothing.
CREATE ROLE regress_apikey_auditor;
CREATE ROLE regress_apikey_application;
SELECT apikey.grant_access('regress_apikey_auditor', 'auditor'), apikey.grant_access('regress_apikey_application', 'application');
SET ROLE regress_apikey_auditor;
SELECT count(*) = count(value) AS complete, count(DISTINCT name) AS names FROM apikey.metrics;
SELECT count(*) FROM apikey.latency_histogram();
SELECT count(*) FROM apikey.metric_types;
SET ROLE regress_apikey_application;
SELECT count(*) FROM apikey.metrics;
SELECT count(*) FROM apikey.counters();
SELECT count(*) FROM apikey.latency_histogram();
RESET ROLE;

\c :start_database
DROP DATABASE regress_apikey_metrics;
DROP ROLE regress_apikey_auditor, regress_apikey_application;
