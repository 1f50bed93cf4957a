"""The mirror: how soon Redis knows of a revocation, how many it is told of in a second, and filling an empty Redis."""

import re
import subprocess
import threading
import time
from pathlib import Path

from lib import stats
from lib.redis import Redis
from lib.report import Section

DATABASE = "bench_mirror"
NAMESPACE = "bench"
CLIENT = "bench/mirror_client"
RATE = 1000
BUCKETS = "0123456789abcdef"
PAUSE = threading.Event()  # which nobody ever sets


def run(bench):
    section = Section("The mirror in Redis")
    commits, backlog, everything = (50, 5_000, 20_000) if bench.quick else (1500, 500_000, 1_000_000)
    server = bench.server
    prepare(server, everything)
    server.set(databases=DATABASE, redis_namespace=NAMESPACE)
    try:
        with Redis() as redis:
            mirror_into(server, redis)
            latency(section, server, redis, commits, bench.runs)
            push(section, server, redis, backlog, 1 if bench.quick else 3)
            fill_up(server, everything)
        resync(section, server, everything)
    finally:
        server.set(databases="bench", redis_namespace="", redis_url="")
        server.sql(f"DROP DATABASE {DATABASE}", "postgres")
    return section


def prepare(server, keys):
    server.sql(f"CREATE DATABASE {DATABASE}", "postgres")
    server.script("bench/sql/mirror.sql", DATABASE)
    shares = [keys * i // len(server.processors) for i in range(len(server.processors) + 1)]
    server.parallel((f"SELECT bench.fill({low}, {high});" for low, high in zip(shares, shares[1:])), DATABASE)
    server.sql("SELECT bench.filled()", DATABASE)
    server.sql("VACUUM ANALYZE apikey.key; VACUUM ANALYZE bench.victim; CHECKPOINT;", DATABASE)


def mirror_into(server, redis):
    """Returns once that Redis says that it is complete."""
    server.sql(f"ALTER SYSTEM SET apikey.redis_url = 'unix://{redis.socket}'", "postgres")
    server.sql("SELECT pg_reload_conf()", "postgres")
    await_true(lambda: ready(redis))


def ready(redis):
    return all(redis.command("HGET", f"{{ak:{NAMESPACE}:{bucket}}}:meta", "ready") == "1" for bucket in BUCKETS)


def await_true(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the mirror is not ready, or its outbox not empty")
        PAUSE.wait(0.01)


def withdrawn(server):
    return int(server.value("SELECT last_value FROM bench.next_victim", DATABASE))


# How soon.


def measure_latency(redis, commits):
    """Milliseconds from COMMIT to Redis: {"mirror": [...], "relay": [...]}, taken in turn."""
    done = subprocess.run([CLIENT, "latency", str(redis.socket), NAMESPACE, str(commits)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found = {"mirror": [], "relay": []}
    for line in done.stdout.splitlines():
        what, microseconds = line.split()
        found[what].append(float(microseconds) / 1000)
    return found


class Revokers:
    """with Revokers(server) as others: … Sessions that revoke so many keys a second meanwhile; others.rate is what came of it."""

    def __init__(self, server, rate):
        self.server, self.rate_wanted, self.rate = server, rate, 0.0

    def __enter__(self):
        Path("revoke.sql").write_text("SELECT bench.revoke_next();\n")
        command = ["pgbench", "-n", "-M", "prepared", "-c", "4", "-j", "1", "-T", "600", f"--rate={self.rate_wanted}", "-f", "revoke.sql", DATABASE]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        first = withdrawn(self.server)
        await_true(lambda: withdrawn(self.server) > first + self.rate_wanted // 4)
        self.since, self.before = time.monotonic(), withdrawn(self.server)
        return self

    def __exit__(self, *_):
        self.rate = (withdrawn(self.server) - self.before) / (time.monotonic() - self.since)
        self.process.kill()
        self.process.wait()


def latency(section, server, redis, commits, runs):
    rows = {}
    busy_rates = []
    for _ in range(runs):
        found = measure_latency(redis, commits)
        for who in found:
            rows.setdefault((who, "idle"), []).append(found[who])
        with Revokers(server, RATE) as others:
            found = measure_latency(redis, commits)
        busy_rates.append(others.rate)
        for who in found:
            rows.setdefault((who, "busy"), []).append(found[who])

    def over_runs(who, when, fraction):
        return [stats.percentile(run, fraction) for run in rows[who, when]]

    names = {"mirror": "the mirror", "relay": "LISTEN, and a table that is emptied"}
    situations = {"idle": "nothing else", "busy": f"{RATE:,} revocations a second beside it"}
    section.table(("COMMIT returned → visible in Redis, ms", "p50, median of the runs", "p50, highest", "p99, median", "p99, lowest", "p99, highest"),
                  [(f"{names[who]}; {situations[when]}", *(f"{value:.3f}" for value in (
                      stats.median(over_runs(who, when, 0.5)), max(over_runs(who, when, 0.5)), stats.median(over_runs(who, when, 0.99)),
                      min(over_runs(who, when, 0.99)), max(over_runs(who, when, 0.99)))))
                   for when in situations for who in names])  # fmt: skip
    for when, what, limits in (("idle", "nothing else", {"p50": 0.2, "p99": 1}), ("busy", "beside others", {})):
        for name, fraction in (("p50", 0.5), ("p99", 0.99)):
            section.ratio(f"{name} of the mirror, {what}, ms", stats.median(over_runs("mirror", when, fraction)), at_most=limits.get(name))
            section.ratio(f"{name} of the relay ÷ of the mirror, {what}",
                          stats.median(over_runs("relay", when, fraction)) / stats.median(over_runs("mirror", when, fraction)))  # fmt: skip
    section.note(f"{runs} × {commits:,} commits of each, in turn, seen by a client that asks Redis every 0.02 ms. The others made "
                 f"{stats.median(busy_rates):,.0f} revocations a second. {autogroup()}")  # fmt: skip


def autogroup():
    """Whether Linux groups processes by session decides about the tail on busy processors: docs/deployment.md."""
    setting = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return f"kernel.sched_autogroup_enabled is {setting.read_text().strip()}." if setting.exists() else ""


# How many.


def measure_floor(redis, count):
    output = subprocess.run([CLIENT, "floor", str(redis.socket), str(count)], capture_output=True, text=True, check=True).stdout
    return {kind: float(rate) for kind, rate in re.findall(r"^(\w+) (\d+)$", output, re.MULTILINE)}


def push(section, server, redis, backlog, rounds):
    """A backlog that one COMMIT makes, in shares with the floor measured between them."""
    rates, floors = [], {"append": [], "raw": []}
    share = backlog // rounds
    for _ in range(rounds):
        for kind, rate in measure_floor(redis, share).items():
            floors[kind].append(rate)
        receipt = server.value(f"SELECT bench.withdraw({share})", DATABASE)
        since = time.monotonic()
        if server.value(f"SELECT apikey.wait_mirrored('{receipt}', '5 minutes')", DATABASE) != "t":
            raise RuntimeError("the backlog did not come to Redis")
        rates.append(share / (time.monotonic() - since))
    await_true(lambda: server.value("SELECT count(*) FROM apikey.outbox", DATABASE) == "0")
    expect_members(server, redis)
    rows = (("the mirror: read, pushed, deleted from the outbox", rates), ("floor: SET EX and PUBLISH, redisAppendCommand", floors["append"]),
            ("floor: the same, formatted by hand", floors["raw"]))  # fmt: skip
    section.table(("a backlog", "revocations a second, median", "lowest", "highest"),
                  [(name, stats.median(found), min(found), max(found)) for name, found in rows])  # fmt: skip
    section.ratio("revocations a second out of a backlog", stats.median(rates), at_least=100_000)
    section.ratio("the mirror ÷ the floor, redisAppendCommand", stats.median(rates) / stats.median(floors["append"]))
    section.note(f"{rounds} × {share:,} revocations, written in one transaction each; the time is from its COMMIT to wait_mirrored(). The floor: one "
                 "thread, batches of 1,024, nobody subscribed.")  # fmt: skip


def expect_members(server, redis):
    """A benchmark of a mirror in which something is missing is worth nothing."""
    held = sum(int(redis.command("ZCARD", f"{{ak:{NAMESPACE}:{bucket}}}:rev")) for bucket in BUCKETS)
    expected = int(server.value("SELECT count(*) FROM apikey.revocation", DATABASE))
    if held != expected:
        raise RuntimeError(f"Redis holds {held} of {expected} withdrawals")


def fill_up(server, everything):
    have = int(server.value("SELECT count(*) FROM apikey.revocation", DATABASE))
    server.sql(f"SELECT bench.withdraw({everything - have})", DATABASE)
    await_true(lambda: server.value("SELECT count(*) FROM apikey.outbox", DATABASE) == "0")
    server.sql("VACUUM ANALYZE apikey.revocation; VACUUM apikey.outbox", DATABASE)


# Filling an empty Redis.


class Memory:
    """with Memory(pid) as memory: … The private memory of a process, before and at its highest, in MiB."""

    def __init__(self, pid):
        self.status = Path(f"/proc/{pid}/status")
        self.before = self.highest = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def now(self):
        return int(re.search(r"^RssAnon:\s+(\d+) kB", self.status.read_text(), re.MULTILINE).group(1)) / 1024

    def watch(self):
        while not self.done.wait(0.005):
            self.highest = max(self.highest, self.now())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def worker(server):
    """Its pid, once it runs."""
    question = f"SELECT pid FROM pg_stat_activity WHERE datname = '{DATABASE}' AND backend_type = 'apikey mirror'"
    await_true(lambda: server.sql(question, "postgres"))
    return server.value(question, "postgres")


def resync(section, server, everything):
    """A worker that has just begun and has found no Redis, and then an empty one."""
    server.restart()
    pid = worker(server)
    with Redis("cold") as cold, Memory(pid) as memory:
        since = time.monotonic()
        mirror_into(server, cold)
        seconds = time.monotonic() - since
        if worker(server) != pid:
            raise RuntimeError("the worker was started again meanwhile")
        expect_members(server, cold)
    section.table((f"{everything:,} withdrawals into an empty Redis", "seconds", "private memory before, MiB", "highest, MiB"),
                  [("until it says that it is complete", seconds, memory.before, memory.highest)])  # fmt: skip
    section.ratio(f"seconds until {everything:,} withdrawals are there", seconds, at_most=15)
    section.ratio("memory that the worker took for it, MiB", memory.highest - memory.before, at_most=64)
