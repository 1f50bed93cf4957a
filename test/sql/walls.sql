-- The walls between PostgreSQL and C++: whatever is raised or thrown below a SQL-callable function reaches the client with all of its
-- fields, every C++ destructor on the way has run, PostgreSQL's stacks are as they were, and the session goes on.
\getenv libdir PG_LIBDIR
\getenv dlsuffix PG_DLSUFFIX
\set library :libdir '/apikey_wall_test' :dlsuffix

CREATE SCHEMA wall_test;
SET search_path TO wall_test, public;
CREATE FUNCTION wall_run(scenario text, depth integer) RETURNS void LANGUAGE c STRICT AS :'library', 'wall_run';
CREATE FUNCTION wall_observed(OUT constructed bigint, OUT destroyed bigint, OUT stacks_restored boolean, OUT memory_restored boolean)
    LANGUAGE c VOLATILE STRICT AS :'library', 'wall_observed';

-- Runs a scenario below three C++ frames, in a subtransaction, and says what arrived.
CREATE FUNCTION probe(scenario text) RETURNS TABLE (field text, value text) LANGUAGE plpgsql AS $$
DECLARE
    fields text[] := '{"no error"}';
    f1 text; f2 text; f3 text; f4 text; f5 text; f6 text; f7 text; f8 text; f9 text;
BEGIN
    BEGIN
        EXECUTE format('SELECT wall_run(%L, 3)', scenario);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        GET STACKED DIAGNOSTICS
            f1 = MESSAGE_TEXT, f2 = PG_EXCEPTION_DETAIL, f3 = PG_EXCEPTION_HINT, f4 = PG_EXCEPTION_CONTEXT, f5 = SCHEMA_NAME,
            f6 = TABLE_NAME, f7 = COLUMN_NAME, f8 = PG_DATATYPE_NAME, f9 = CONSTRAINT_NAME;
        fields := ARRAY[SQLSTATE, f1, f2, f3, f4, f5, f6, f7, f8, f9];
    END;
    RETURN QUERY
        SELECT n, v FROM unnest('{sqlstate,message,detail,hint,context,schema,table,column,datatype,constraint}'::text[], fields)
                         WITH ORDINALITY AS u(n, v, i)
         WHERE v <> '' AND (n <> 'context' OR scenario = 'postgres_error') ORDER BY i;
    RETURN QUERY
        SELECT 'destructors', CASE WHEN o.constructed = o.destroyed THEN 'all' ELSE 'NOT all' END || ' of ' || o.constructed
          FROM wall_observed() o
        UNION ALL
        SELECT 'restored', CASE WHEN o.stacks_restored THEN 'stacks' ELSE 'NO stacks' END
               || CASE WHEN scenario LIKE 'starved%' THEN '' WHEN o.memory_restored THEN ', memory' ELSE ', NO memory' END
          FROM wall_observed() o;
END
$$;
\pset format unaligned
\pset tuples_only on
\pset fieldsep ': '

-- Without an error, pg::call() is transparent.
SELECT * FROM probe('no_error');

-- A PostgreSQL error unwinds C++ and keeps every field, although another memory context and a callback were current.
SELECT * FROM probe('postgres_error');

-- Exceptions of ours: SQLSTATE, detail and hint are theirs, and no text is taken for a format.
SELECT * FROM probe('failure');
SELECT * FROM probe('bare_failure');
SELECT * FROM probe('invalid_argument');
SELECT * FROM probe('crypto_error');

-- Exceptions of anybody: out of memory has its own SQLSTATE, all else is an internal error.
SELECT * FROM probe('bad_alloc');
SELECT * FROM probe('exception');
SELECT * FROM probe('thrown_int');

-- Cancelled in the middle of C++: first with the reason gone by the time PostgreSQL looks, then with a real one.
SELECT * FROM probe('interrupted');
SELECT * FROM probe('cancelled');

-- A C++ exception that passes pg::call() takes its jump buffer off the stack, so that a PostgreSQL error afterwards lands right.
SELECT * FROM probe('exception_through_call');
SELECT * FROM probe('exception_then_postgres_error');

-- Walls within walls, deeper than PostgreSQL's stack of errors in flight.
SELECT * FROM probe('nested_calls');
SELECT * FROM probe('nested_entries');

-- No memory left to describe the error with: it is still an error, with its SQLSTATE where that is known.
SELECT * FROM probe('starved_postgres_error');
SELECT * FROM probe('starved_failure');

-- At top level, where the whole transaction aborts.
SELECT wall_run('postgres_error', 1);
SELECT * FROM wall_observed() \g (format=aligned tuples_only=off)
SELECT wall_run('failure', 1);
SELECT * FROM wall_observed() \g (format=aligned tuples_only=off)
BEGIN;
SELECT wall_run('exception', 1);
SELECT 'not reached';
ROLLBACK;

-- A thousand times each, in one transaction: nothing is left in memory, and every destructor has run each time.
CREATE FUNCTION repeated(scenario text, times integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seen record;
    errors integer := 0;
    before bigint;
    after bigint;
BEGIN
    FOR i IN -49 .. times LOOP
        IF i = 1 THEN
            SELECT sum(total_bytes) INTO before FROM pg_backend_memory_contexts;
        END IF;
        BEGIN
            PERFORM wall_run(scenario, 3);
        EXCEPTION WHEN OTHERS OR query_canceled THEN
            errors := errors + 1;
        END;
        SELECT * INTO seen FROM wall_observed();
        IF seen.constructed <> seen.destroyed OR NOT seen.stacks_restored THEN
            RETURN format('%s of %s destructors ran, stacks restored: %s', seen.destroyed, seen.constructed, seen.stacks_restored);
        END IF;
    END LOOP;
    SELECT sum(total_bytes) INTO after FROM pg_backend_memory_contexts;
    RETURN format('%s errors, memory %s', errors, CASE WHEN after - before < 64 * 1024 THEN 'constant' ELSE 'grew' END);
END
$$;
SELECT s, repeated(s, 1000)
  FROM unnest('{postgres_error,failure,invalid_argument,bad_alloc,exception,thrown_int,interrupted,cancelled,exception_through_call,
                exception_then_postgres_error,nested_calls,nested_entries}'::text[]) s;

-- The same walls in the extension: what a trigger raises below apikey.issue() reaches its caller unchanged, and the session goes on.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'ZZ123', MESSAGE = 'the message', DETAIL = 'the detail', HINT = 'the hint',
        SCHEMA = 'the_schema', TABLE = 'the_table', COLUMN = 'the_column', DATATYPE = 'the_type', CONSTRAINT = 'the_constraint';
END
$$;
CREATE TRIGGER wall_test BEFORE INSERT ON apikey.key FOR EACH ROW EXECUTE FUNCTION refuse();
DO $$
DECLARE
    message text; detail text; hint text; schema_ text; table_ text; column_ text; datatype text; constraint_ text;
BEGIN
    PERFORM apikey.issue('wall');
EXCEPTION WHEN SQLSTATE 'ZZ123' THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, schema_ = SCHEMA_NAME,
        table_ = TABLE_NAME, column_ = COLUMN_NAME, datatype = PG_DATATYPE_NAME, constraint_ = CONSTRAINT_NAME;
    RAISE NOTICE '%', concat_ws(', ', message, detail, hint, schema_, table_, column_, datatype, constraint_);
END
$$;
DROP TRIGGER wall_test ON apikey.key;
SELECT owner FROM apikey.issue('wall');

SET client_min_messages TO warning;
DROP SCHEMA wall_test CASCADE;
DELETE FROM apikey.key WHERE owner = 'wall';
