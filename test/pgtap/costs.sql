-- What the planner takes functions to cost. C functions cost 1, an operator's worth, where nobody says otherwise; PL/pgSQL and SQL 100.

BEGIN;
SET LOCAL search_path TO public, pg_catalog, pg_temp;
SELECT plan(4);

CREATE TEMP VIEW member_function AS
    SELECT p.oid::regprocedure::text AS function, p.procost, l.lanname
      FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
      JOIN pg_catalog.pg_proc p ON p.oid = d.objid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
     WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
       -- Nobody plans with those of triggers.
       AND p.prorettype <> 'trigger'::regtype;

SELECT is_empty($$SELECT function FROM member_function WHERE procost = 1$$, 'every function says what it costs');
SELECT is((SELECT count(*) FROM member_function WHERE function ~ '^apikey[.](validate|check_token|require)[(]' AND procost > 100), 3::bigint,
    'validations run after tests in a procedural language');
SELECT is_empty($$SELECT function, procost FROM member_function
     WHERE function ~ '^apikey[.](issue|refresh|revoke|revoke_token|revoke_owner|disable|enable|rotate_signing_key|stage_signing_key|adopt_master_key|'
           'retire_signing_key|grant_access|revoke_access|wait_mirrored|status)[(]' AND procost < 5000$$,
    'what writes, waits or counts runs after them');
-- These are evaluated for each row that is written.
SELECT set_eq($$SELECT function FROM member_function WHERE procost <= 10 AND function ~ '[.]is_'$$,
    ARRAY['apikey.is_environment(text)', 'apikey.is_grant_list(text[])', 'apikey.is_label(text)', 'apikey.is_revocation_reason(text)',
          'apikey.is_role_name(text)'], 'helpers of constraints are cheap');

SELECT * FROM finish();
ROLLBACK;
