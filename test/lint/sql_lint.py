#!/usr/bin/env python3
"""The rules for SQL that PostgreSQL itself does not enforce: see RULES below. Prints each breach and exits with 1.

The install script, and the statements in C++, are read statement by statement with the standard library alone. Where pglast is
installed every statement, and every plpgsql body, must also parse.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

try:
    import pglast
except ImportError:
    pglast = None

SCHEMA = "apikey"
SEARCH_PATH = re.compile(r"\bset search_path (?:=|to) pg_catalog, pg_temp(?![\w,])")


class Statement(NamedTuple):
    file: str
    line: int
    text: str  # as written
    code: str  # lower case, blanks collapsed, without comments and dollar-quoted bodies
    bare: str  # the same without the content of string literals

    def problem(self, message):
        return f"{self.file}:{self.line}: {message}"


# ------------------------------------------------------------------------------------------------------------ reading SQL

TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:[A-Za-z_][A-Za-z_0-9]*)?\$)
    | (?P<escape>\b[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<meta>^[ \t]*\\[^\n]*)
    | (?P<end>;)
    | (?P<other>[A-Za-z_0-9$]+|\s+|.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def end_of_block_comment(sql, start):
    depth, position = 1, start + 2
    while depth and position < len(sql):
        step = re.compile(r"/\*|\*/").search(sql, position)
        if not step:
            return len(sql)
        depth += 1 if step.group() == "/*" else -1
        position = step.end()
    return position


def collapse(code):
    code = re.sub(r"\s+", " ", code).strip().lower()
    return re.sub(r" ?, ?", ", ", re.sub(r" ?\( ?", "(", re.sub(r" ?\)", ")", code)))


def statements(file, sql):
    """Splits a script into its statements, without psql's meta-commands."""
    found = []
    start, code, bare = None, [], []
    position = 0

    def finish(end):
        nonlocal start, code, bare
        if start is not None:
            text = sql[start:end].strip()
            found.append(
                Statement(file, sql.count("\n", 0, start) + 1, text, collapse("".join(code)), collapse("".join(bare)))
            )
        start, code, bare = None, [], []

    while position < len(sql):
        token = TOKEN.match(sql, position)
        kind, text, end = token.lastgroup, token.group(), token.end()
        if kind == "block":
            end = end_of_block_comment(sql, position)
        if kind == "dollar":
            closing = sql.find(text, end)
            end = len(sql) if closing < 0 else closing + len(text)

        if kind in ("comment", "block") or (kind == "meta" and start is None):
            code.append(" ")
            bare.append(" ")
        elif kind == "end":
            words = re.findall(r"\b(?:begin|case|end)\b", "".join(bare).lower())
            if "begin" in words and re.search(r"\bbegin\s+atomic\b", "".join(bare), re.I) and words.count("end") * 2 < len(words):
                code.append(text)
                bare.append(text)
            else:
                finish(position)
        else:
            if start is None and not text.isspace():
                start = position
            code.append(" $$ " if kind == "dollar" else text)
            bare.append(" $$ " if kind == "dollar" else "''" if kind in ("string", "escape") else text)
        position = end
    finish(len(sql))
    return found


# ------------------------------------------------------------------------------------------------------------ signatures

TYPE_NAMES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "bool": "boolean",
    "varchar": "character varying",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "float8": "double precision",
    "float4": "real",
    "decimal": "numeric",
}
TYPES_OF_SEVERAL_WORDS = ("double precision", "character varying", "bit varying", "timestamp with", "time with")


def split_top_level(text, separator=","):
    parts, depth, current = [], 0, []
    for character in text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == separator and depth == 0:
            parts.append("".join(current).strip())
            current = []
        else:
            current.append(character)
    parts.append("".join(current).strip())
    return [part for part in parts if part]


def argument_list(text, opening):
    """What stands between the parenthesis at this position and the one that closes it."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return text[opening + 1 : position]
    return text[opening + 1 :]


def argument_type(argument):
    """The type of one declared argument, or None for an OUT argument."""
    argument = re.split(r"\bdefault\b|=", argument)[0].strip()
    words = argument.split()
    if words and words[0] in ("out", "table"):
        return None
    if words and words[0] in ("in", "inout", "variadic"):
        words = words[1:]
    if len(words) > 1 and not " ".join(words).startswith(TYPES_OF_SEVERAL_WORDS):
        words = words[1:]
    name, brackets = re.match(r"(.*?)((?:\[\])*)$", " ".join(words)).groups()
    name = name.removeprefix("pg_catalog.")
    return TYPE_NAMES.get(name, name) + brackets


def signature(statement, after):
    """("schema.function", its argument types) for what follows the words matched by the pattern `after`."""
    head = re.match(after + r"([\w.\"]+)\(", statement.bare)
    if not head:
        return None
    types = [argument_type(argument) for argument in split_top_level(argument_list(statement.bare, head.end() - 1))]
    return f"{head.group(1)}({', '.join(t for t in types if t)})"


# ------------------------------------------------------------------------------------------- the rules for install scripts

CREATE_FUNCTION = r"create (?:or replace )?(?:function|procedure) "
CREATE_NAMED = re.compile(
    r"create (?:or replace )?(?:global |local |temp |temporary |unlogged |recursive |constraint )*"
    r"(function|procedure|aggregate|table|view|materialized view|type|domain|sequence|operator|statistics|trigger|unique index|index)"
    r"(?: if not exists)?(?: concurrently)? ?(?P<name>[\w.\"]*)"
)


def no_replacing(script):
    """Nothing that exists already is taken for ours: no OR REPLACE, no IF NOT EXISTS."""
    for statement in script:
        for words in ("or replace", "if not exists"):
            if re.match(rf"(?:create|alter)\b.*\b{words}\b", statement.bare):
                yield statement.problem(f"{words.upper()} could adopt an object that somebody else made")


def qualified_names(script):
    """What is created, and what triggers and indexes refer to, is named with its schema."""
    for statement in script:
        created = CREATE_NAMED.match(statement.bare)
        if not created:
            continue
        kind, name = created.group(1), created.group("name")
        if kind in ("index", "unique index", "trigger"):
            if not re.search(rf"\bon (?:only )?{SCHEMA}\.", statement.bare):
                yield statement.problem(f"the table of {kind} {name} is not qualified with {SCHEMA}.")
            if kind == "trigger" and not re.search(rf"\bexecute (?:function|procedure) {SCHEMA}\.", statement.bare):
                yield statement.problem(f"the function of trigger {name} is not qualified with {SCHEMA}.")
        elif not name.startswith(f"{SCHEMA}."):
            yield statement.problem(f"{kind} {name} is not qualified with {SCHEMA}.")


def pinned_search_path(script):
    """SECURITY DEFINER functions, and all in plpgsql and sql, run with SET search_path = pg_catalog, pg_temp."""
    for statement in script:
        if not re.match(CREATE_FUNCTION, statement.bare):
            continue
        language = re.search(r"\blanguage '?(\w+)", statement.code)
        definer = re.search(r"\bsecurity definer\b", statement.bare)
        interpreted = language and language.group(1) in ("plpgsql", "sql")
        if (definer or interpreted) and not SEARCH_PATH.search(statement.bare):
            yield statement.problem(f"{signature(statement, CREATE_FUNCTION)} lacks SET search_path = pg_catalog, pg_temp")


def no_backslashes(script):
    """A text with a backslash, in a function's body too, means what the caller's standard_conforming_strings says."""
    for statement in script:
        if "\\" in statement.text:
            yield statement.problem("a backslash is an escape for callers with standard_conforming_strings = off: in a pattern write [.]")


def functions_have_comments(script):
    """Every function has its COMMENT ON FUNCTION."""
    commented = {signature(s, r"comment on (?:function|procedure) ") for s in script}
    for statement in script:
        made = signature(statement, CREATE_FUNCTION)
        if made and made not in commented:
            yield statement.problem(f"{made} has no COMMENT ON FUNCTION")


def functions_are_revoked(script):
    """EXECUTE on every function is taken from PUBLIC: one by one, or from all at once after the last one."""
    for index, statement in enumerate(script):
        made = signature(statement, CREATE_FUNCTION)
        if not made:
            continue
        for later in script[index + 1 :]:
            everything = re.match(
                rf"revoke (?:all|all privileges|execute) on all (?:functions|routines) in schema {SCHEMA} from public", later.bare
            )
            this = signature(later, r"revoke (?:all|all privileges|execute) on (?:function|procedure) ")
            if everything or (this == made and re.search(r"\bfrom public\b", later.bare)):
                break
        else:
            yield statement.problem(f"PUBLIC may execute {made}: no REVOKE follows it")


# Without a catalog, a variable of a composite type has no fields, and no type is an array (pglast 8).
NEEDS_CATALOG = ("is not a known variable", "VARIADIC parameter must be an array")


def statements_parse(script):
    """Every statement is PostgreSQL's grammar, as far as pglast's version of it goes."""
    if not pglast:
        return
    for statement in script:
        try:
            pglast.parse_sql(statement.text)
            language = re.search(r"\blanguage '?(\w+)", statement.code)
            if re.match(CREATE_FUNCTION, statement.bare) and language and language.group(1) == "plpgsql":
                # Not what it decodes: for some functions the JSON of version 8 is none.
                pglast.parser.parse_plpgsql_json(statement.text)
        except pglast.parser.ParseError as error:
            if not str(error.args[0]).endswith(NEEDS_CATALOG):
                yield statement.problem(f"does not parse: {error.args[0]}")


# An upgrade script may replace the functions of the version before it, and PUBLIC's rights on those are gone already.
UPGRADE_RULES = (qualified_names, pinned_search_path, no_backslashes, statements_parse)
INSTALL_RULES = (no_replacing, functions_have_comments, functions_are_revoked) + UPGRADE_RULES


def ascii_only(file, text):
    """What CREATE EXTENSION reads, comments included, is ASCII: it is converted to the database's encoding, which may lack the rest."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isascii():
            yield f"{file}:{number}: is not ASCII: CREATE EXTENSION fails in databases whose encoding lacks the character"


COLUMNS = 120


def lines_fit(file, text):
    """No line is wider than a window. A literal can go on in the next line: PostgreSQL joins those that only a line break parts."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS:
            yield f"{file}:{number}: has {len(line)} columns, more than {COLUMNS}"


LINE_RULES = (ascii_only, lines_fit)


def lint_script(files, rules, line_rules=LINE_RULES):
    """files: pairs of name and content that are run as one script."""
    script = [statement for file, sql in files for statement in statements(file, sql)]
    problems = [problem for file, sql in files for rule in line_rules for problem in rule(file, sql)]
    return problems + [problem for rule in rules for problem in rule(script)]


# ------------------------------------------------------------------------------------------------- the rules for SQL in C++

SOURCE_COLUMNS = 110  # as .clang-format has it, which leaves strings alone
SHORT = 80

SOURCE_TOKEN = re.compile(
    r"""
      (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<raw>\bR"(?P<delimiter>[^\s()\\]*)\((?P<inside>.*?)\)(?P=delimiter)")
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<word>\w(?:\w|(?<=\w)'(?=\w))*)
    | (?P<character>'(?:[^'\\\n]|\\.)*')
    | (?P<other>\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


class SourceStatement(NamedTuple):
    file: str
    line: int
    sql: str  # as written between the quotes
    delimiter: str  # of a raw string; None: an ordinary one
    pieces: int  # strings side by side, which the compiler joins

    def problem(self, message):
        return f"{self.file}:{self.line}: {message}"


def source_statements(file, text):
    """The SQL in a C++ file: what a pg::Statement is made of, raw string or not, and every R"sql(...)sql"."""
    found = []
    code, pieces = "", []

    def finish():
        nonlocal pieces
        if pieces and (re.search(r"\bStatement(?: \w+)? ?[({] ?$", code) or pieces[0][2] == "sql"):
            found.append(SourceStatement(file, pieces[0][0], "".join(sql for _, sql, _ in pieces), pieces[0][2], len(pieces)))
        pieces = []

    for token in SOURCE_TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "raw":
            line = text.count("\n", 0, token.start("inside")) + 1
            pieces.append((line, token["inside"], token["delimiter"]))
        elif kind == "string":
            line = text.count("\n", 0, token.start()) + 1
            pieces.append((line, token.group()[1:-1], None))
        elif kind == "comment" or token.group().isspace():
            if not pieces and not code.endswith(" "):
                code += " "
        else:
            if pieces:
                finish()
                code = ""
            code += token.group()
    finish()
    return found


def statements_are_laid_out(found):
    """A statement is one raw string, R"sql(...)sql", that keeps to the columns. Only a short one may be an ordinary string, on one line."""
    for statement in found:
        if statement.pieces > 1:
            yield statement.problem('SQL in several strings side by side: write one, R"sql(...)sql"')
        elif statement.delimiter is None and len(statement.sql) > SHORT:
            yield statement.problem(f'SQL of more than {SHORT} characters in an ordinary string: write R"sql(...)sql", on several lines')
        elif statement.delimiter not in (None, "sql"):
            yield statement.problem('SQL in a raw string of another name: write R"sql(...)sql"')
        for number, line in enumerate(statement.sql.split("\n"), statement.line):
            if statement.delimiter is not None and len(line) > SOURCE_COLUMNS:
                yield f"{statement.file}:{number}: SQL beyond column {SOURCE_COLUMNS}"


LAYOUT_RULES = (statements_are_laid_out,)
SOURCE_RULES = (no_backslashes, statements_parse)


def lint_source(file, text):
    found = source_statements(file, text)
    problems = [problem for rule in LAYOUT_RULES for problem in rule(found)]
    for statement in found:
        # The lines before it, so that a problem's number is the file's.
        problems += lint_script([(file, "\n" * (statement.line - 1) + statement.sql)], SOURCE_RULES, (ascii_only,))
    return problems


# --------------------------------------------------------------------------------------------------- the rules for test files

# Tests await what they need: a condition, a lock, a log line. (Written so that this line does not find itself.)
SLEEP = re.compile(r"\b(?:pg_[s]leep\w*|[u]sleep|[n]anosleep|[s]leep_for|[s]leep_until)\b|\bsleep *\(|\bsleep +[\d$]")
NOT_READ_FOR_SLEEPS = {"node_modules", "__pycache__", "corpus"}


def names(top, pattern):
    return {path.stem: path for path in sorted(top.glob(pattern))}


def no_sleeps(top):
    """No test sleeps."""
    for path in sorted((top / "test").rglob("*")):
        if not path.is_file() or NOT_READ_FOR_SLEEPS & set(path.parts):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if SLEEP.search(line):
                yield f"{path.relative_to(top)}:{number}: sleeps; await the condition instead"


def tests_have_expected_output(top):
    """Every regression test and spec has its expected output, and every expected output its test."""
    tests = names(top, "test/sql/*.sql") | names(top, "test/specs/*.spec")
    expected = names(top, "expected/*.out")
    for name, path in tests.items():
        if name not in expected:
            yield f"{path.relative_to(top)}: has no expected/{name}.out"
    for name, path in expected.items():
        # name_1.out is another answer that pg_regress accepts for name.
        if name not in tests and re.sub(r"_\d$", "", name) not in tests:
            yield f"{path.relative_to(top)}: belongs to no test/sql/{name}.sql or test/specs/{name}.spec"


def test_names_are_free(top):
    """pg_regress looks into ./sql first, and both runners write results/NAME.out."""
    regress, specs = names(top, "test/sql/*.sql"), names(top, "test/specs/*.spec")
    for name in regress.keys() & names(top, "sql/*.sql").keys():
        yield f"test/sql/{name}.sql: pg_regress would run sql/{name}.sql instead of it"
    for name in regress.keys() & specs.keys():
        yield f"test/specs/{name}.spec: has the name, and so the expected output, of test/sql/{name}.sql"


TEST_RULES = (no_sleeps, tests_have_expected_output, test_names_are_free)


def lint_tests(top):
    return [problem for rule in TEST_RULES for problem in rule(top)]


# ----------------------------------------------------------------------------------------------------------------------------


def main():
    top = Path(__file__).resolve().parents[2]

    def read(path):
        return str(path.relative_to(top)), path.read_text(encoding="utf-8")

    topics = [read(path) for path in sorted(top.glob("sql/[0-9]*.sql"))]
    if not topics:
        print("there are no sql/[0-9]*.sql to check")
        return 1
    problems = lint_script(topics, INSTALL_RULES)
    problems += ascii_only(*read(top / "apikey.control"))
    for path in sorted(top.glob("sql/apikey--*--*.sql")):
        problems += lint_script([read(path)], UPGRADE_RULES)
    for path in sorted(path for pattern in ("src/**/*.cpp", "src/**/*.h", "test/module/*.cpp") for path in top.glob(pattern)):
        problems += lint_source(*read(path))
    problems += lint_tests(top)
    for problem in problems:
        print(problem)
    if not pglast:
        print("(without pglast: nothing was parsed)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
