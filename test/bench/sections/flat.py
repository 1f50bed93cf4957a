"""Does a validation cost more when there are many keys? Two databases, the same 64 tokens' worth of work in each."""

from lib import stats
from lib.report import Section

TOKENS = 64


def run(bench):
    section = Section("The number of keys")
    few, many = (1_000, 20_000) if bench.quick else (10_000, 10_000_000)
    filled = {"bench_few": few, "bench_many": many}
    for database, keys in filled.items():
        prepare(bench.server, database, keys, 200 if bench.remembers else 3)
    calls, rounds = (192, 1) if not bench.remembers else (20_000, 3) if bench.quick else (200_000, 3)
    repeats = 2 if bench.quick else 7
    found = {database: [] for database in filled}
    for _ in range(repeats):
        for database in filled:
            found[database] += over_no_op(bench.server, database, calls, rounds)
    section.table(("rows in apikey.key", "ns over a no-op, median", "p10"),
                  [(filled[database], stats.median(times), stats.p10(times)) for database, times in found.items()])  # fmt: skip
    section.ratio(f"check_token with {many:,} keys ÷ with {few:,}", stats.median(found["bench_many"]) / stats.median(found["bench_few"]), at_most=1.5)
    size = bench.server.value("SELECT pg_size_pretty(pg_total_relation_size('apikey.key'))", "bench_many")
    section.note(f"apikey.key and its indexes have {size} with {many:,} keys. 64 tokens, warm, of keys that lie among the others.")
    for database in filled:
        bench.server.sql(f"DROP DATABASE {database}", "postgres")
    return section


def prepare(server, database, keys, copies):
    """The tokens lie in the middle of the keys, where an index is as deep as it gets."""
    server.sql(f"CREATE DATABASE {database}", "postgres")
    server.script("bench/sql/flat.sql", database)
    shares = [keys // 2 * i // len(server.processors) for i in range(len(server.processors) + 1)]
    for half in (0, 1):
        server.parallel((f"SELECT bench.fill({half}, {low}, {high});" for low, high in zip(shares, shares[1:])), database)
        if half == 0:
            server.sql(f"SELECT bench.issue({TOKENS}, {copies})", database)
    server.sql("VACUUM ANALYZE apikey.key; VACUUM ANALYZE bench.source; CHECKPOINT;", database)


def over_no_op(server, database, calls, rounds):
    answer = server.sql(f"""
        DO $$ BEGIN
            IF NOT (SELECT bool_and(apikey.check_token(token)) FROM bench.source) THEN RAISE EXCEPTION 'a token is refused'; END IF;
        END $$;
        SELECT round, expression, ns
          FROM bench.rounds(ARRAY['bench.nop_check(token)', 'apikey.check_token(token)'], 'bench.source', {calls}, {rounds});
    """, database)  # fmt: skip
    times = {(round_number, expression): float(ns) for round_number, expression, ns in answer}
    return [ns - times[round_number, "1"] for (round_number, expression), ns in times.items() if expression == "2"]
