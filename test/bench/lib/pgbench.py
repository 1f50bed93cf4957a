"""pgbench, in the two ways that give numbers that can be trusted on a machine that is not quiet (docs/benchmarks.md says why)."""

import os
import random
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from lib import stats


def _start(directory, scripts, clients, seconds, variables, database, prefix):
    command = [*prefix, "pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, os.cpu_count())), "-T", str(int(seconds))]
    for name, value in variables.items():
        command += ["-D", f"{name}={value}"]
    for index, text in enumerate(scripts):
        path = Path(directory, f"{index}.sql")
        path.write_text(text + "\n")
        command += ["-f", str(path)]
    return command + [database]


def _run(command, directory):
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    if done.returncode != 0 or "aborted" in done.stderr:
        raise RuntimeError(f"pgbench: {done.stderr.strip()[-2000:]}")
    return done.stdout


def mixed(server, scripts, seconds, runs, variables=None, database="bench"):
    """One client, on one processor with the server; each transaction draws one of the scripts. {name: [trimmed mean in us, one a run]}"""
    found = defaultdict(list)
    names = list(scripts)
    prefix = server.pin()
    try:
        for _ in range(runs):
            with tempfile.TemporaryDirectory(dir=os.getcwd()) as directory:
                command = _start(directory, scripts.values(), 1, seconds, variables or {}, database, prefix)
                _run(command[:-1] + ["-l", "--log-prefix=log", database], directory)
                latencies = defaultdict(list)
                for log in Path(directory).glob("log.*"):
                    for line in log.read_text().splitlines():
                        _, _, latency, script, *_ = line.split()
                        latencies[names[int(script)]].append(int(latency))
            for name in names:
                if len(latencies[name]) < 5:
                    raise RuntimeError(f"{name} ran {len(latencies[name])} times in {seconds} s")
                found[name].append(stats.trimmed_mean(latencies[name]))
    finally:
        server.unpin()
    return found


def throughput(scripts, clients, seconds, rounds, variables=None, database="bench"):
    """Every script alone, in short runs, in another order in each round. {name: [transactions per second, one a round]}

    A script may be a function instead: it is called with the seconds that it has, and returns its own rate.
    """
    found = defaultdict(list)
    for _ in range(rounds):
        for name, text in random.sample(list(scripts.items()), len(scripts)):
            if callable(text):
                found[name].append(text(seconds))
                continue
            with tempfile.TemporaryDirectory(dir=os.getcwd()) as directory:
                output = _run(_start(directory, [text], clients, seconds, variables or {}, database, []), directory)
            found[name].append(float(re.search(r"^tps = ([\d.]+)", output, re.MULTILINE).group(1)))
    return {name: found[name] for name in scripts}
