"""pgcrypto's crypt(): what a check costs that hashes passwords each time."""

from lib import stats
from lib.report import Section


def run(bench):
    section = Section("pgcrypto's bcrypt")
    calls = 1 if bench.quick else 3
    rows = []
    medians = {}
    for cost in (8, 10):
        found = bench.over("one", {"one": "crypt('a secret of the benchmarks', hash) = hash"}, f"bench.bcrypt WHERE cost = {cost}", calls, bench.rounds)
        medians[cost] = stats.median(found["one"])
        rows.append((f"crypt(), bcrypt cost {cost}", medians[cost] / 1e6, stats.p10(found["one"]) / 1e6))
    source = bench.fixture.source("jwt", 64, 6400)
    found = bench.over("no-op", {"no-op": "bench.nop_check(token)", "check": "apikey.check_token(token)"}, source,
                       6400 if bench.remembers else 64, bench.rounds)  # fmt: skip
    ours = stats.median(found["check"])
    rows.append(("check_token(jwt), warm, over a no-op", ours / 1e6, stats.p10(found["check"]) / 1e6))
    section.table(("check", "ms, median", "p10"), [(name, f"{middle:.4f}", f"{low:.4f}") for name, middle, low in rows])
    for cost, median in medians.items():
        section.ratio(f"bcrypt cost {cost} ÷ check_token", median / ours)
    return section
