#!/usr/bin/env python3
"""Each rule of sql_lint is seen to pass a good sample and to fail bad ones."""

import sys
import tempfile
import unittest
from pathlib import Path

import sql_lint

GOOD = r"""
\echo Use "CREATE EXTENSION apikey" to load this file. \quit
/* a comment; with /* another; */ inside */
CREATE TYPE apikey.pair AS (a integer, b integer);
CREATE TABLE apikey.thing (id integer PRIMARY KEY, note text DEFAULT 'IF NOT EXISTS; OR REPLACE');
CREATE INDEX thing_note ON apikey.thing (note);
CREATE FUNCTION apikey.f(a int, b timestamptz DEFAULT now(), VARIADIC c text[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    CREATE TABLE IF NOT EXISTS scratch (a integer);
END
$body$;
COMMENT ON FUNCTION apikey.f(integer, timestamp with time zone, text[]) IS 'Does nothing; much';
CREATE FUNCTION apikey.g() RETURNS integer LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;
COMMENT ON FUNCTION apikey.g() IS 'Two';
CREATE FUNCTION apikey.h(internal) RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'apikey_h';
COMMENT ON FUNCTION apikey.h(internal) IS 'C needs no search_path';
CREATE TRIGGER thing_h BEFORE INSERT ON apikey.thing FOR EACH ROW EXECUTE FUNCTION apikey.h();
REVOKE EXECUTE ON FUNCTION apikey.h(internal) FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA apikey FROM PUBLIC;
"""

PLPGSQL = "CREATE FUNCTION apikey.f() RETURNS void LANGUAGE plpgsql {} AS $$ BEGIN END $$;"


def breaches(rule, sql):
    return list(rule(sql_lint.statements("sample.sql", sql)))


class ScriptRules(unittest.TestCase):
    def test_good_script(self):
        self.assertEqual(sql_lint.lint_script([("good.sql", GOOD)], sql_lint.INSTALL_RULES), [])

    def test_every_rule_has_bad_samples(self):
        for rule in sql_lint.INSTALL_RULES + sql_lint.LINE_RULES:
            self.assertTrue(hasattr(self, "test_" + rule.__name__), rule.__name__)

    def assert_fails(self, rule, *samples):
        for sample in samples:
            with self.subTest(sample):
                self.assertEqual(len(breaches(rule, sample)), 1)

    def test_no_replacing(self):
        self.assert_fails(
            sql_lint.no_replacing,
            "CREATE OR REPLACE FUNCTION apikey.f() RETURNS void LANGUAGE c AS 'x';",
            "create  or /* hidden */ replace view apikey.v AS SELECT 1;",
            "CREATE TABLE IF NOT EXISTS apikey.t ();",
            "ALTER TABLE apikey.t ADD COLUMN IF NOT EXISTS a integer;",
        )

    def test_qualified_names(self):
        self.assert_fails(
            sql_lint.qualified_names,
            "CREATE FUNCTION f() RETURNS void LANGUAGE c AS 'x';",
            "CREATE TABLE t ();",
            "CREATE UNLOGGED TABLE t ();",
            "CREATE VIEW public.v AS SELECT 1;",
            "CREATE TYPE apikeys.t AS ENUM ();",
            "CREATE SEQUENCE s;",
            "CREATE UNIQUE INDEX i ON t (a);",
            "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION apikey.f();",
            "CREATE TRIGGER g BEFORE INSERT ON apikey.t FOR EACH ROW EXECUTE FUNCTION f();",
        )

    def test_no_backslashes(self):
        self.assert_fails(
            sql_lint.no_backslashes,
            r"SELECT '1' ~ '\d';",
            r"CREATE FUNCTION apikey.f() RETURNS boolean LANGUAGE sql AS $$SELECT '1' ~ '\d'$$;",
        )

    def test_ascii_only(self):
        for sample in (
            "COMMENT ON TABLE apikey.t IS 'and so on\u2026';",
            "CREATE TABLE apikey.t (\n    a text -- na\u00efve\n);",
            "-- between statements: \u00a7\n",
            "CREATE FUNCTION apikey.f() RETURNS text LANGUAGE c AS 'f'; /* \u2192 */",
        ):
            with self.subTest(sample):
                self.assertEqual(len(sql_lint.lint_script([("sample.sql", sample)], ())), 1)
        self.assertEqual(list(sql_lint.ascii_only("sample.control", "comment = 'caf\u00e9'"))[0][:16], "sample.control:1")

    def test_lines_fit(self):
        widest = "-- ".ljust(sql_lint.COLUMNS, "x")
        self.assertEqual(len(widest), 120)
        self.assertEqual(sql_lint.lint_script([("sample.sql", f"{widest}\n{widest}")], ()), [])
        for sample in (
            widest + "x",
            "COMMENT ON TABLE apikey.t IS '" + widest + "';",
            "CREATE FUNCTION apikey.f() RETURNS integer LANGUAGE sql AS $$\n  SELECT 1 -- " + widest + "\n$$;",
        ):
            with self.subTest(sample):
                self.assertEqual(len(sql_lint.lint_script([("sample.sql", sample)], ())), 1)
        self.assertEqual(list(sql_lint.lines_fit("sample.sql", f"{widest}\n{widest}x"))[0][:12], "sample.sql:2")

    def test_pinned_search_path(self):
        self.assert_fails(
            sql_lint.pinned_search_path,
            PLPGSQL.format(""),
            PLPGSQL.format("SET search_path = pg_catalog"),
            PLPGSQL.format("SET search_path = pg_catalog, pg_temp, public"),
            PLPGSQL.format("SET search_path = pg_temp, pg_catalog"),
            "CREATE FUNCTION apikey.f() RETURNS void LANGUAGE c SECURITY DEFINER AS 'x';",
            "CREATE FUNCTION apikey.f() RETURNS integer LANGUAGE 'sql' AS $$ SELECT 1 $$;",
        )

    def test_functions_have_comments(self):
        self.assert_fails(
            sql_lint.functions_have_comments,
            PLPGSQL,
            PLPGSQL + "-- COMMENT ON FUNCTION apikey.f() IS 'no';",
            PLPGSQL + "COMMENT ON FUNCTION apikey.f(text) IS 'another f';",
        )

    def test_functions_are_revoked(self):
        self.assert_fails(
            sql_lint.functions_are_revoked,
            PLPGSQL,
            PLPGSQL + "REVOKE ALL ON FUNCTION apikey.f(text) FROM PUBLIC;",
            PLPGSQL + "REVOKE ALL ON FUNCTION apikey.f() FROM somebody;",
            "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA apikey FROM PUBLIC;" + PLPGSQL,
        )

    @unittest.skipUnless(sql_lint.pglast, "pglast is not installed")
    def test_statements_parse(self):
        self.assert_fails(
            sql_lint.statements_parse,
            "CREATE TABEL apikey.t ();",
            PLPGSQL.replace("END $$", "IF THEN END $$"),
        )


SOURCE = r"""
// pg::Statement in_a_comment("SELECT " "'\d'");
/* pg::Statement another("SELECT " "'\d'"); */
static pg::Statement brief("SELECT k.key_id FROM apikey.key k WHERE k.owner = $1", TEXTOID);
static pg::Statement raw(
    R"sql(
        SELECT k.key_id, '"; // no comment', 'a string that goes on'
                                             ' on the next line'
          FROM apikey.key k
         WHERE k.owner = $1 AND k.key_id = ANY ($2)
    )sql",
    TEXTOID, UUIDARRAYOID);
const char* hint = "SELECT name FROM apikey.role lists them, " "\\d or " R"(\d)";
const auto characters = {'"', '\'', '"'};
const int number = 1'000'000;
"""


class SourceRules(unittest.TestCase):
    def assert_fails(self, expected, *samples):
        for sample in samples:
            with self.subTest(sample):
                problems = sql_lint.lint_source("src/store/sample.cpp", "// first line\n" + sample)
                self.assertEqual(len(problems), 1, problems)
                self.assertRegex(problems[0], "^src/store/sample[.]cpp:" + expected)

    def test_good_source(self):
        self.assertEqual(sql_lint.lint_source("src/store/sample.cpp", SOURCE), [])
        found = sql_lint.source_statements("src/store/sample.cpp", SOURCE)
        self.assertEqual([(s.line, s.delimiter, s.pieces) for s in found], [(4, None, 1), (6, "sql", 1)])
        self.assertEqual(found[0].sql, "SELECT k.key_id FROM apikey.key k WHERE k.owner = $1")
        self.assertTrue(found[1].sql.strip().startswith("SELECT k.key_id, '\"; // no"))

    def test_every_rule_has_bad_samples(self):
        for rule in sql_lint.LAYOUT_RULES + sql_lint.SOURCE_RULES:
            self.assertTrue(hasattr(self, "test_" + rule.__name__), rule.__name__)

    def test_statements_are_laid_out(self):
        long = "SELECT " + ", ".join(["1"] * 40)
        self.assert_fails(
            "2: ",
            'static pg::Statement s("SELECT 1 " "WHERE true");',
            'static pg::Statement s("SELECT 1 "  // why\n    "WHERE true", TEXTOID);',
            'static pg::Statement s(R"sql(SELECT 1)sql" R"sql( WHERE true)sql");',
            'static pg::Statement s("SELECT 1 " R"sql(WHERE true)sql");',
            f'static pg::Statement s("{long}");',
            f'static pg::Statement s{{"{long}"}};',
            f'run(pg::Statement("{long}"));',
            'static pg::Statement s(R"(SELECT 1)");',
            'static pg::Statement s(R"text(SELECT 1)text");',
        )
        self.assert_fails("3: SQL beyond", f'static pg::Statement s(R"sql(\n{long}\n)sql");')

    def test_no_backslashes(self):
        self.assert_fails(
            "2: a backslash",
            r"""static pg::Statement s("SELECT '1' ~ '\\d'");""",
            r"""static pg::Statement s(R"sql(SELECT '1' ~ '\d')sql");""",
            r"""constexpr const char* s = R"sql(SELECT '1' ~ '\d')sql";""",
        )
        self.assert_fails("4: a backslash", 'static pg::Statement s(R"sql(\n\n    SELECT\n    \'1\' ~ \'\\d\'\n)sql");')

    def test_ascii_only(self):
        self.assert_fails(
            "2: is not ASCII", "static pg::Statement s(\"SELECT '\u2026'\");", "static pg::Statement s(R\"sql(SELECT '\u2026')sql\");"
        )

    @unittest.skipUnless(sql_lint.pglast, "pglast is not installed")
    def test_statements_parse(self):
        self.assert_fails(
            "2: does not parse",
            'static pg::Statement s("SELECT k.key_id FORM apikey.key k");',
            'static pg::Statement s(R"sql(SELECT k.key_id FORM apikey.key k)sql");',
        )
        self.assert_fails("3: does not parse", 'static pg::Statement s(\n    R"sql(UPDATE apikey.key k\n    WHERE true)sql");')


class TestFileRules(unittest.TestCase):
    def breaches(self, rule, files):
        with tempfile.TemporaryDirectory() as directory:
            top = Path(directory)
            for name, content in files.items():
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_text(content)
            return list(rule(top))

    def test_good_tree(self):
        files = {
            "sql/10_types.sql": "",
            "test/sql/a.sql": "SELECT 1;",
            "test/specs/b.spec": "",
            "expected/a.out": "",
            "expected/a_1.out": "",
            "expected/b.out": "",
        }
        for rule in sql_lint.TEST_RULES:
            self.assertEqual(self.breaches(rule, files), [])

    def test_every_rule_has_bad_samples(self):
        for rule in sql_lint.TEST_RULES:
            self.assertTrue(hasattr(self, "test_" + rule.__name__), rule.__name__)

    def test_no_sleeps(self):
        # Not spelled out, because this file is checked as well.
        word = "sle" + "ep"
        for sample in (f"SELECT pg_{word}(1);", f"{word}(1);", f"u{word}(1);", f"{word} 5", f"std::this_thread::{word}_for(1s);"):
            with self.subTest(sample):
                self.assertEqual(len(self.breaches(sql_lint.no_sleeps, {"test/t/001_x.pl": sample})), 1)

    def test_tests_have_expected_output(self):
        for name in ("test/sql/a.sql", "test/specs/a.spec", "expected/a.out", "expected/a_1.out"):
            with self.subTest(name):
                self.assertEqual(len(self.breaches(sql_lint.tests_have_expected_output, {name: ""})), 1)

    def test_test_names_are_free(self):
        for other in ("sql/a.sql", "test/specs/a.spec"):
            with self.subTest(other):
                self.assertEqual(len(self.breaches(sql_lint.test_names_are_free, {"test/sql/a.sql": "", other: ""})), 1)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    sys.exit(not result.wasSuccessful())
