"""What every section is given: the server, the fixture, how long things may take, and the loop inside the server."""

import os
import re
from collections import defaultdict
from pathlib import Path

from lib import stats
from lib.fixture import Fixture
from lib.server import Server

# A validation that takes longer than this has derived the slow hash: nothing remembered it.
COLD_NS = 100_000


class Bench:
    def __init__(self, quick):
        self.quick = quick
        self.largest = 512 if quick else 1_000_000
        self.many = 256 if quick else 10_000
        self.mix_seconds = 3 if quick else 20
        self.short_seconds = 1 if quick else 2
        self.runs = 1 if quick else 3
        self.rounds = 2 if quick else 7
        self.server = Server()
        self.fixture = Fixture(self.server)
        self.remembers = False

    def prepare(self):
        """Every token of the run shall fit into shared memory at 60 % fill, those of both formats."""
        entries = 2 ** (int(2 * self.largest / 0.6) + 100_000).bit_length()
        self.server.set(cache_entries=entries, rate_entries=entries, databases="bench")
        self.fixture.prepare()
        self.check_answers()
        self.fixture.warm("jwt", 64)
        calls = self.over("no-op", {"check": "apikey.check_token(token)", "no-op": "bench.nop_check(token)"},
                          self.fixture.source("jwt", 64, 64), calls=200, rounds=3)  # fmt: skip
        self.remembers = stats.median(calls["check"]) < COLD_NS
        if not self.remembers:
            print("This version remembers no proof: every validation derives the slow hash.")

    def check_answers(self):
        """A benchmark of a function that says no is worth nothing, nor is one of a function that never does."""
        for what, good, bad in self.server.script("bench/sql/answers.sql"):
            if (good, bad) != ("t", "f"):
                raise RuntimeError(f"{what} answers {good} to a good token and {bad} to a bad one")

    def over(self, floor, expressions, source, calls, rounds):
        """Nanoseconds a call, over those of the floor in the same round. {name: [one a round]}, the floor's own as they are."""
        names = list(expressions)
        texts = ", ".join("'" + expressions[name].replace("'", "''") + "'" for name in names)
        per_round = defaultdict(dict)
        query = f"SELECT round, expression, ns FROM bench.rounds(ARRAY[{texts}], '{source}', {calls}, {rounds})"
        for round_number, index, ns in self.server.sql(query):
            per_round[int(round_number)][names[int(index) - 1]] = float(ns)
        return {
            name: [times[name] - (times[floor] if name != floor else 0.0) for times in per_round.values()] for name in names
        }

    def machine(self):
        """The processor and the versions; no names of hosts, no paths."""
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        version = self.server.value("SELECT split_part(current_setting('server_version'), ' ', 1)", "postgres")
        return f"{os.cpu_count()} × {model.group(1).strip() if model else 'unknown processor'}, PostgreSQL {version}"
