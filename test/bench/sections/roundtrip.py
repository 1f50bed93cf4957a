"""What one client sees: a whole round trip, for each statement, on one processor together with the server."""

from lib import pgbench, stats
from lib.report import Section

READS = {
    "SELECT 1": "SELECT 1",
    "no-op → boolean": "SELECT bench.nop_check(:jwt)",
    "check_token(jwt)": "SELECT apikey.check_token(:jwt)",
    "check_token(opaque)": "SELECT apikey.check_token(:opaque)",
    "check_token(jwt, permission)": "SELECT apikey.check_token(:jwt, :permission)",
    "no-op → verdict": "SELECT * FROM bench.nop_validate(:jwt)",
    "validate(jwt)": "SELECT * FROM apikey.validate(:jwt)",
    "plpgsql: hash, look up, check": "SELECT bench.plpgsql_check(:plpgsql, :permission)",
}
# The one that writes has its own mix: its commits would disturb the others.
WITH_WRITES = {
    "check_token(jwt, permission)": READS["check_token(jwt, permission)"],
    "plpgsql: the same, and UPDATE last used": "SELECT bench.plpgsql_check_and_note(:plpgsql, :permission)",
}


def run(bench):
    section = Section("Round trip, one client")
    for kind in ("jwt", "opaque"):
        bench.fixture.warm(kind, 64)
    tokens = {"jwt": bench.fixture.token("jwt"), "opaque": bench.fixture.token("opaque"),
              "permission": "chat:read",
              "plpgsql": bench.server.value("SELECT token FROM bench.token WHERE kind = 'plpgsql' AND n = 1")}  # fmt: skip
    reads = pgbench.mixed(bench.server, READS, bench.mix_seconds, bench.runs, tokens)
    writes = pgbench.mixed(bench.server, WITH_WRITES, bench.mix_seconds / 2, bench.runs, tokens)

    rows = [(name, stats.median(times), min(times), max(times)) for name, times in reads.items()]
    noted = "plpgsql: the same, and UPDATE last used"
    rows.append((noted, stats.median(writes[noted]), min(writes[noted]), max(writes[noted])))
    section.table(("statement", "µs, median of the runs", "lowest", "highest"), rows)

    def ratio(what, found, above, below, **target):
        section.ratio(what, stats.median([a / b for a, b in zip(found[above], found[below])]), **target)

    ratio("check_token(jwt) ÷ no-op → boolean", reads, "check_token(jwt)", "no-op → boolean", at_most=1.05)
    ratio("check_token(opaque) ÷ no-op → boolean", reads, "check_token(opaque)", "no-op → boolean", at_most=1.05)
    ratio("check_token(jwt) ÷ SELECT 1", reads, "check_token(jwt)", "SELECT 1", at_most=1.10)
    ratio("check_token(jwt, permission) ÷ no-op → boolean", reads, "check_token(jwt, permission)", "no-op → boolean")
    ratio("validate(jwt) ÷ no-op → verdict", reads, "validate(jwt)", "no-op → verdict", at_most=1.06)
    ratio("plpgsql ÷ check_token(jwt, permission)", reads, "plpgsql: hash, look up, check", "check_token(jwt, permission)")
    ratio("plpgsql with last used ÷ check_token(jwt, permission)", writes, noted, "check_token(jwt, permission)")
    section.note(shape_note(bench, tokens))
    return section


def shape_note(bench, tokens):
    """The no-op's verdict must be of the size of a real one, or the comparison is not one."""
    columns = "(SELECT count(*) FROM jsonb_each_text(to_jsonb(v)) c WHERE c.value IS NOT NULL)"
    sizes = bench.server.sql(f"""SELECT pg_column_size(v), {columns} FROM apikey.validate('{tokens["jwt"]}') v
                       UNION ALL SELECT pg_column_size(v), {columns} FROM bench.nop_validate('{tokens["jwt"]}') v""")
    (real, real_columns), (empty, empty_columns) = sizes
    return f"A verdict has {real} bytes and {real_columns} columns that are not NULL; the no-op's has {empty} and {empty_columns}."
