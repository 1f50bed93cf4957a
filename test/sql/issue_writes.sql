-- issue() writes its rows past the planner. What is changed about the tables holds all the same, for the next key of a session that knew them before.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/sql/include/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
-- The events of keys of this test, by what was noted of them.
CREATE FUNCTION pg_temp.events() RETURNS TABLE (event text, name text, rows bigint) LANGUAGE sql AS $$
    SELECT e.event, e.detail ->> 'name', count(*) FROM apikey.audit_event e WHERE e.owner = 'writes' GROUP BY 1, 2 ORDER BY 1, 2
$$;
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'first ' || n);

-- A constraint that is added, and one whose function changes.
BEGIN;
ALTER TABLE apikey.key ADD CONSTRAINT later CHECK (name IS DISTINCT FROM 'forbidden');
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'forbidden') $$);
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'allowed') $$);
ROLLBACK;
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'forbidden') $$);
BEGIN;
CREATE FUNCTION public.fits(name text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
ALTER TABLE apikey.key ADD CONSTRAINT fits CHECK (public.fits(name));
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'fits') $$);
CREATE OR REPLACE FUNCTION public.fits(name text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN name <> 'fits'; END $$;
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'fits') $$);
ALTER TABLE apikey.key DROP CONSTRAINT fits;
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'fits') $$);
ROLLBACK;

-- Triggers: of rows, one that issues a key of its own, and of statements.
BEGIN;
CREATE FUNCTION public.rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'renamed ' || NEW.name; RETURN NEW; END $$;
CREATE TRIGGER rename BEFORE INSERT ON apikey.key FOR EACH ROW WHEN (NEW.name NOT LIKE 'kept%') EXECUTE FUNCTION public.rename();
SELECT count(*) FROM unnest('{second,kept second}'::text[]) n, apikey.issue('writes', name => n);
SELECT name FROM apikey.key WHERE owner = 'writes' AND name LIKE '%second' ORDER BY name;
CREATE FUNCTION public.issue_another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM apikey.issue(NEW.owner, name => 'another'); RETURN NULL; END $$;
CREATE TRIGGER issue_another AFTER INSERT ON apikey.key FOR EACH ROW WHEN (NEW.name LIKE 'kept for two%') EXECUTE FUNCTION public.issue_another();
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'kept for two ' || n);
CREATE FUNCTION public.issue_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM apikey.issue(NEW.owner, name => 'kept before'); RETURN NEW; END $$;
CREATE TRIGGER issue_before BEFORE INSERT ON apikey.key FOR EACH ROW WHEN (NEW.name LIKE 'kept after%') EXECUTE FUNCTION public.issue_before();
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'kept after ' || n);
SELECT * FROM pg_temp.events();
ROLLBACK;
BEGIN;
CREATE TABLE public.seen (relation text, rows bigint);
CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen SELECT TG_TABLE_NAME, count(*) FROM news; RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON apikey.key REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION public.see();
CREATE TRIGGER see AFTER INSERT ON apikey.audit_event REFERENCING NEW TABLE AS news FOR EACH STATEMENT EXECUTE FUNCTION public.see();
SELECT count(*) FROM apikey.issue('writes', name => 'third');
SELECT * FROM public.seen ORDER BY relation;
ROLLBACK;
BEGIN;
ALTER TABLE apikey.key DISABLE TRIGGER key_after_insert;
SELECT count(*) FROM apikey.issue('writes', name => 'no event');
SELECT * FROM pg_temp.events();
ROLLBACK;

-- Columns that others add have their defaults.
BEGIN;
ALTER TABLE apikey.key ADD COLUMN extra text DEFAULT 'extra';
ALTER TABLE apikey.audit_event ADD COLUMN extra text DEFAULT 'extra event';
SELECT count(*) FROM apikey.issue('writes', name => 'fourth');
SELECT k.extra, e.extra FROM apikey.key k JOIN apikey.audit_event e USING (key_id) WHERE k.name = 'fourth';
ROLLBACK;

-- Partitions: another one, one whose columns are in another order, one with a trigger of its own, none.
BEGIN;
ALTER TABLE apikey.audit_event DETACH PARTITION apikey.audit_event_default;
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'nowhere') $$) LIKE '23514: no partition of relation "audit_event" found for row%' AS nowhere;
CREATE TABLE public.these_days (LIKE apikey.audit_event INCLUDING DEFAULTS, CONSTRAINT these_days_check CHECK (detail ->> 'name' <> 'forbidden'));
DO $$ BEGIN EXECUTE format('ALTER TABLE apikey.audit_event ATTACH PARTITION public.these_days FOR VALUES FROM (%L) TO (%L)', now() - interval '1 day', now() + interval '1 day'); END $$;
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'these days ' || n);
SELECT pg_temp.attempt($$ SELECT apikey.issue('writes', name => 'forbidden') $$);
SELECT tableoid::regclass AS partition, count(*) FROM apikey.audit_event WHERE owner = 'writes' GROUP BY 1;
ALTER TABLE apikey.audit_event DETACH PARTITION public.these_days;
CREATE TABLE public.backwards (detail jsonb NOT NULL, client inet, actor_role name NOT NULL, actor name NOT NULL, code text, owner text, generation integer,
    key_id uuid, event text NOT NULL, at timestamptz NOT NULL, event_id uuid NOT NULL);
ALTER TABLE apikey.audit_event ATTACH PARTITION public.backwards DEFAULT;
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'backwards ' || n);
SELECT event, owner, generation, detail ->> 'name' AS name, at <= clock_timestamp() AS at, actor = session_user AS actor FROM public.backwards ORDER BY name;
ALTER TABLE apikey.audit_event DETACH PARTITION public.backwards;
CREATE FUNCTION public.reword() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.detail := NEW.detail || '{"name": "reworded"}'; RETURN NEW; END $$;
CREATE TABLE public.with_trigger (LIKE apikey.audit_event INCLUDING DEFAULTS);
CREATE TRIGGER reword BEFORE INSERT ON public.with_trigger FOR EACH ROW EXECUTE FUNCTION public.reword();
ALTER TABLE apikey.audit_event ATTACH PARTITION public.with_trigger DEFAULT;
SELECT count(*) FROM generate_series(1, 2) n, apikey.issue('writes', name => 'with trigger ' || n);
SELECT * FROM pg_temp.events();
ROLLBACK;
SELECT count(*) FROM apikey.issue('writes', name => 'last');
SELECT * FROM pg_temp.events();

-- The triggers of a new key are for that table only.
CREATE TABLE public.another (LIKE apikey.key INCLUDING DEFAULTS);
CREATE TRIGGER after_insert AFTER INSERT ON public.another FOR EACH ROW EXECUTE FUNCTION apikey.key_after_insert();
SELECT pg_temp.attempt($$ INSERT INTO public.another SELECT * FROM apikey.key WHERE owner = 'writes' $$);
DROP TRIGGER after_insert ON public.another;
CREATE TRIGGER before_insert BEFORE INSERT ON public.another FOR EACH ROW EXECUTE FUNCTION apikey.key_check_references();
SELECT pg_temp.attempt($$ INSERT INTO public.another SELECT * FROM apikey.key WHERE owner = 'writes' $$);
DROP TABLE public.another;
