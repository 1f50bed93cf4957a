"""One hot key with a limit, 8 clients: what it costs to count."""

import os

from lib import pgbench, stats
from lib.redis import Redis
from lib.report import Section

CLIENTS = 8
MOST = 1_000_000_000
WINDOW_US = 60_000_000


def run(bench):
    section = Section("Rate limit, 8 clients on one key")
    bench.fixture.warm("jwt", 64)
    bench.fixture.warm("jwt_unlimited", 1)
    tokens = {"jwt": bench.fixture.token("jwt"), "unlimited": bench.fixture.token("jwt_unlimited")}
    with Redis() as redis:
        script = prepare_gcra(redis)
        scripts = {
            "check_token, with a limit": "SELECT apikey.check_token(:jwt)",
            "check_token, without": "SELECT apikey.check_token(:unlimited)",
            "UPDATE of a row": f"SELECT bench.sql_limit('key 1', {MOST})",
            "GCRA script in Redis, EVALSHA": lambda seconds: gcra_rate(redis, script, seconds),
        }
        found = pgbench.throughput(scripts, CLIENTS, bench.short_seconds, bench.rounds, tokens)
    section.table(("limiter", "per second, median", "lowest", "highest"),
                  [(name, stats.median(rates), min(rates), max(rates)) for name, rates in found.items()])  # fmt: skip
    limited = stats.median(found["check_token, with a limit"])
    section.ratio("with a limit ÷ without", limited / stats.median(found["check_token, without"]), at_least=0.9)
    section.ratio("check_token ÷ UPDATE of a row", limited / stats.median(found["UPDATE of a row"]), at_least=20)
    section.ratio("check_token ÷ GCRA in Redis", limited / stats.median(found["GCRA script in Redis, EVALSHA"]), at_least=2)
    section.note("The limit is never reached. check_token decides whether the key is good as well; the other two only count.")
    return section


def prepare_gcra(redis):
    """Loads the script, and sees that it counts: the third of two is refused."""
    with open("bench/lua/gcra.lua", encoding="utf-8") as text:
        script = redis.command("SCRIPT", "LOAD", text.read())
    admitted = [redis.command("EVALSHA", script, "1", "try", "2", str(WINDOW_US), "1") for _ in range(3)]
    if admitted != ["1", "1", "0"]:
        raise RuntimeError(f"the script in Redis admits {admitted} of three with a limit of two")
    return script


def gcra_rate(redis, script, seconds):
    """The better of one thread and of as many as pgbench has, for about this long."""
    arguments = ("EVALSHA", script, "1", "key", str(MOST), str(WINDOW_US), "1")
    guess = redis.rate(CLIENTS, 1, 5_000, *arguments)
    requests = max(1_000, int(guess * seconds / 2))
    return max(redis.rate(CLIENTS, threads, requests, *arguments) for threads in (1, min(CLIENTS, os.cpu_count())))
