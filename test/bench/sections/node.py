"""The same Node.js client, 16 requests at once: check_token, and npm Better Auth's API-key plugin on the same server."""

import json
import random
import subprocess
from pathlib import Path

from lib import stats
from lib.redis import Redis
from lib.report import NotMeasured, Section

CLIENT = Path("bench/node/client.mjs")
AT_ONCE = 16
# What client.mjs calls them: what they are.
MODES = {
    "check_token": "check_token, with a limit",
    "select": "SELECT $1: what the client can do at all",
    "database": "Better Auth on Postgres",
    "database_unlimited": "Better Auth on Postgres, its rate limit off",
    "redis": "Better Auth with Redis",
    "memory": "Better Auth in the memory of the process",
}
TARGETS = {"database": 25, "redis": 10, "memory": 5}


def run(bench):
    section = Section("From Node.js, 16 at once")
    if not Path("bench/node/node_modules").is_dir():
        raise NotMeasured("npm could not install the packages")
    bench.fixture.warm("jwt", 64)
    bench.server.sql("DROP DATABASE IF EXISTS better_auth", "postgres")
    bench.server.sql("CREATE DATABASE better_auth", "postgres")
    seconds, rounds = (1, 1) if bench.quick else (3, 5)
    found = {mode: [] for mode in MODES}
    with Redis() as redis:
        for _ in range(rounds):
            for mode in random.sample(list(MODES), len(MODES)):
                found[mode].append(rate(mode, seconds, redis.socket))
    section.table(("client", "per second, median", "lowest", "highest"),
                  [(MODES[mode], stats.median(rates), min(rates), max(rates)) for mode, rates in found.items()])  # fmt: skip
    ours = stats.median(found["check_token"])
    for mode in ("database", "database_unlimited", "redis", "memory"):
        target = {"at_least": TARGETS[mode]} if mode in TARGETS else {}
        section.ratio(f"check_token ÷ {MODES[mode]}", ours / stats.median(found[mode]), **target)
    section.note(f"{versions()}. 64 keys in turn, a permission is asked for, limits are never reached.")
    return section


def rate(mode, seconds, redis_socket):
    command = ["node", str(CLIENT), mode, str(AT_ONCE), str(seconds), str(redis_socket)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"client.mjs {mode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)["perSecond"]


def versions():
    names = json.loads(Path("bench/node/package.json").read_text())["dependencies"]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"Node.js {node}, " + ", ".join(f"{name} {names[name]}" for name in ("pg", "better-auth", "@better-auth/api-key"))
