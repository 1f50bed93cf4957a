"""Nanoseconds a call inside the server, over a no-op: what is left of the cost without the client."""

from lib import stats
from lib.report import Section

EXPRESSIONS = {
    "no-op": "bench.nop_check(token)",
    "check_token(token)": "apikey.check_token(token)",
    "sha256(token::bytea)": "sha256(token::bytea)",
    "sha256(bytea)": "sha256(bytes)",
}
AT_MOST = {"jwt": 1.2, "opaque": 0.8}


def run(bench):
    section = Section("Inside the server, warm, over a no-op")
    sizes = (64, bench.many, bench.largest)
    if not bench.remembers:
        sizes = (64,)
        section.note("This version remembers no proof: every call derives the slow hash, and more tokens would show nothing else.")
    rows = []
    for count in sizes:
        for kind in ("jwt", "opaque"):
            rows += measure(bench, section, kind, count)
    section.table(("function", "token", "distinct tokens", "ns, median of the rounds", "p10"), rows)
    whole_verdict(bench, section)
    return section


def calls_and_rounds(bench):
    if not bench.remembers:
        return 192, 3
    return (20_000, 3) if bench.quick else (200_000, 15)


def measure(bench, section, kind, count):
    calls, rounds = calls_and_rounds(bench)
    source = bench.fixture.source(kind, count, min(calls, 20_000))
    size = int(bench.server.value(f"SELECT round(avg(octet_length(token))) FROM {source}"))
    found = bench.over("no-op", EXPRESSIONS, source, max(calls, count), rounds)
    ours = stats.median(found["check_token(token)"])
    for text in ("sha256(token::bytea)", "sha256(bytea)"):
        target = {"at_most": AT_MOST[kind]} if count == bench.many and text == "sha256(token::bytea)" else {}
        section.ratio(f"check_token ÷ {text}, {kind}, {count:,} tokens", ours / stats.median(found[text]), **target)
    return [(name, f"{kind}, {size} bytes", count, stats.median(times), stats.p10(times)) for name, times in found.items()]


def whole_verdict(bench, section):
    calls, rounds = calls_and_rounds(bench)
    source = bench.fixture.source("jwt", 64, min(calls, 20_000))
    found = bench.over("no-op → verdict", {"no-op → verdict": "bench.nop_validate(token)", "validate(token)": "apikey.validate(token)"},
                       source, calls, rounds)  # fmt: skip
    rows = [(name, stats.median(times), stats.p10(times)) for name, times in found.items()]
    section.table(("function, 64 jwt", "ns, median of the rounds", "p10"), rows)
