"""The private server: SQL through psql, settings, and on which processor it runs."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

SEPARATOR = "\x1f"
DATA = Path("data")
PAUSE = threading.Event()  # which nobody ever sets


class SqlError(Exception):
    pass


def psql(database, path="-"):
    return ["psql", "-X", "-q", "-A", "-t", "-F", SEPARATOR, "-v", "ON_ERROR_STOP=1", "-d", database, "-f", str(path)]


def rows_of(output):
    return [tuple(line.split(SEPARATOR)) for line in output.splitlines() if line]


class Server:
    def __init__(self):
        self.processors = sorted(os.sched_getaffinity(0))

    def sql(self, text, database="bench"):
        """Runs statements; rows as tuples of strings."""
        return self._psql(psql(database), text)

    def value(self, text, database="bench"):
        return self.sql(text, database)[0][0]

    def script(self, path, database="bench"):
        """Runs a file; \\ir in it is relative to it."""
        return self._psql(psql(database, path), "")

    @staticmethod
    def _psql(command, text):
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SqlError(f"{done.stderr.strip()}\nin: {text[:500]}")
        return rows_of(done.stdout)

    def parallel(self, scripts, database="bench"):
        """Each script in a session of its own, all at once."""
        sessions = []
        try:
            for text in scripts:
                session = subprocess.Popen(psql(database), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                sessions.append(session)
                session.stdin.write(text)
                session.stdin.close()
            for session in sessions:
                error = session.stderr.read()
                if session.wait() != 0:
                    raise SqlError(error.strip())
        finally:
            for session in sessions:
                if session.poll() is None:
                    session.kill()
                    session.wait()

    def known_settings(self):
        """Settings of the extension, with the largest value that each takes."""
        return dict(self.sql("SELECT name, coalesce(max_val, '') FROM pg_settings WHERE name LIKE 'apikey.%'", "postgres"))

    def set(self, **settings):
        """Those of apikey's settings that this version has, for instance cache_entries=1024; then a restart."""
        known = self.known_settings()
        for name, value in settings.items():
            largest = known.get(f"apikey.{name}")
            if largest is None:
                continue
            if largest and isinstance(value, int):
                value = min(value, int(float(largest)))
            self.sql(f"ALTER SYSTEM SET apikey.{name} = '{value}'", "postgres")
        self.restart()

    def await_uses_written(self, token, database="bench"):
        """Returns when every use so far is in the tables: what the maintenance worker still writes would be measured with the next thing.

        A use that is seen there was written by a pass over shared memory, which may not have come to its end. When the third one is, each
        after the one before, a pass has both begun and ended since we began."""
        if not self.has("usage_interval") or database not in self.value("SHOW apikey.databases", "postgres"):
            return
        key_id = self.value(f"SELECT key_id FROM apikey.validate('{token}')", database)
        self._use_every("1s")
        for _ in range(3):
            began = self.value("SELECT clock_timestamp()", database)
            self.value(f"SELECT apikey.check_token('{token}')", database)
            deadline = time.monotonic() + 600
            seen = f"SELECT count(*) FROM apikey.key_usage WHERE key_id = '{key_id}' AND last_used_at >= '{began}'"
            while self.value(seen, database) == "0":
                if time.monotonic() > deadline:
                    raise SqlError("uses are not written down")
                PAUSE.wait(0.1)
        self._use_every(None)

    def _use_every(self, interval):
        what = f"SET apikey.usage_interval = '{interval}'" if interval else "RESET apikey.usage_interval"
        self.sql(f"ALTER SYSTEM {what}", "postgres")
        self.sql("SELECT pg_reload_conf()", "postgres")

    def restart(self):
        """Shared memory starts empty."""
        subprocess.run(["pg_ctl", "--pgdata", DATA, "--log", "server.log", "--silent", "--wait", "--mode=fast", "restart"],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip

    def has(self, name):
        return f"apikey.{name}" in self.known_settings()

    def pin(self):
        """The postmaster, and so every session from here on, runs on one processor. Returns what a client is started with to join it."""
        self._place([self.processors[-1]])
        return ["taskset", "-c", str(self.processors[-1])] if shutil.which("taskset") else []

    def unpin(self):
        self._place(self.processors)

    def _place(self, processors):
        os.sched_setaffinity(int((DATA / "postmaster.pid").read_text().split()[0]), processors)
