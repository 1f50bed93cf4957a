"""One hot key with a limit, 8 clients: what it costs to count."""

import os

from lib import pgbench, stats
from lib.redis import Redis
from lib.report import Section

CLIENTS = 8
MOST = 1_000_000_000
WINDOW_S = 60
GCRA = "GCRA script in Redis, EVALSHA"
BARE_GCRA = "GCRA script in Redis that answers 0 or 1 only, EVALSHA"
NO_OP = "no-op → boolean"
PIPELINE = 64
CHECK_PIPELINE = f"check_token, with a limit, {PIPELINE} in a pipeline"
GCRA_PIPELINE = f"GCRA script in Redis, EVALSHA, {PIPELINE} in a pipeline"


def run(bench):
    section = Section("Rate limit, 8 clients on one key")
    bench.fixture.warm("jwt", 64)
    bench.fixture.warm("jwt_unlimited", 1)
    tokens = {"jwt": bench.fixture.token("jwt"), "unlimited": bench.fixture.token("jwt_unlimited")}
    with Redis() as redis:
        full = (load(redis, "gcra_answer.lua"), str(MOST), str(MOST), str(WINDOW_S), "1")
        bare = (load(redis, "gcra.lua"), str(MOST), str(WINDOW_S * 1_000_000), "1")
        check_full(redis, full[0])
        check_bare(redis, bare[0])
        scripts = {
            "check_token, with a limit": "SELECT apikey.check_token(:jwt)",
            "check_token, without": "SELECT apikey.check_token(:unlimited)",
            "UPDATE of a row": f"SELECT bench.sql_limit('key 1', {MOST})",
            NO_OP: "SELECT bench.nop_check(:jwt)",
            CHECK_PIPELINE: "\n".join(["\\startpipeline", *["SELECT apikey.check_token(:jwt);"] * PIPELINE, "\\endpipeline"]),
            GCRA_PIPELINE: lambda seconds: gcra_rate(redis, seconds, *full, at_once=PIPELINE),
            GCRA: lambda seconds: gcra_rate(redis, seconds, *full),
            BARE_GCRA: lambda seconds: gcra_rate(redis, seconds, *bare),
        }
        found = pgbench.throughput(scripts, CLIENTS, bench.short_seconds, bench.rounds, tokens)
    found[CHECK_PIPELINE] = [PIPELINE * pipelines for pipelines in found[CHECK_PIPELINE]]
    section.table(("limiter", "per second, median", "lowest", "highest"),
                  [(name, stats.median(rates), min(rates), max(rates)) for name, rates in found.items()])  # fmt: skip
    limited = stats.median(found["check_token, with a limit"])
    section.ratio("with a limit ÷ without", limited / stats.median(found["check_token, without"]), at_least=0.9)
    section.ratio("check_token ÷ UPDATE of a row", limited / stats.median(found["UPDATE of a row"]), at_least=20)
    section.ratio("check_token ÷ GCRA in Redis", limited / stats.median(found[GCRA]), at_least=2)
    section.ratio("no-op ÷ GCRA in Redis: what any function in PostgreSQL could reach", stats.median(found[NO_OP]) / stats.median(found[GCRA]))
    section.ratio("check_token ÷ GCRA in Redis that answers 0 or 1 only", limited / stats.median(found[BARE_GCRA]))
    section.ratio(f"check_token ÷ GCRA in Redis, both {PIPELINE} in a pipeline", stats.median(found[CHECK_PIPELINE]) / stats.median(found[GCRA_PIPELINE]),
                  at_least=2)  # fmt: skip
    section.note("The limit is never reached. check_token decides whether the key is good as well; the others only count. A client that waits for "
                 "each answer measures mostly sockets and wake-ups; with 64 requests in a pipeline it is the limiters themselves.")
    return section


def load(redis, name):
    with open(f"bench/lua/{name}", encoding="utf-8") as text:
        return redis.command("SCRIPT", "LOAD", text.read())


def check_bare(redis, script):
    """The third of two is refused."""
    admitted = [redis.command("EVALSHA", script, "1", "try", "2", str(WINDOW_S * 1_000_000), "1") for _ in range(3)]
    if admitted != ["1", "1", "0"]:
        raise RuntimeError(f"the script in Redis admits {admitted} of three with a limit of two")


def check_full(redis, script):
    """The third of two is refused, and the answers say what is left, and when to come again: a place is free after half of the window."""
    for allowed, remaining, retry_after, reset_after in ((1, 1, -1, WINDOW_S / 2), (1, 0, -1, WINDOW_S), (0, 0, WINDOW_S / 2, WINDOW_S)):
        found = redis.command("EVALSHA", script, "1", "try in full", "2", "2", str(WINDOW_S), "1").split()
        # The clock goes on between two requests.
        late = [abs(float(value) - wanted) for value, wanted in zip(found[2:], (retry_after, reset_after))]
        if found[:2] != [str(allowed), str(remaining)] or len(late) != 2 or max(late) > 10:
            raise RuntimeError(f"the script in Redis answers {found} and not {allowed}, {remaining}, {retry_after}, {reset_after}")


def gcra_rate(redis, seconds, script, *limit, at_once=1):
    """The better of one thread and of as many as pgbench has, for about this long."""
    arguments = ("EVALSHA", script, "1", f"key of {script}", *limit)
    guess = redis.rate(CLIENTS, 1, 5_000 * at_once, *arguments, at_once=at_once)
    requests = max(1_000, int(guess * seconds / 2))
    return max(redis.rate(CLIENTS, threads, requests, *arguments, at_once=at_once) for threads in (1, min(CLIENTS, os.cpu_count())))
