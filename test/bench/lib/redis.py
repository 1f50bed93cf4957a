"""A private Redis on a unix socket, for the sections that compare with it."""

import csv
import subprocess
from pathlib import Path


class Redis:
    """with Redis() as redis: … It writes nothing to disk and listens nowhere else."""

    def __init__(self, name="redis"):
        self.socket = Path(f"socket/{name}.sock").resolve()
        self.process = None

    def __enter__(self):
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "ready to accept connections" in line.lower():
                return self
        self.__exit__()
        raise RuntimeError(f"redis-server: {''.join(said[-5:])}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def command(self, *arguments):
        done = subprocess.run(["redis-cli", "-s", str(self.socket), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def rate(self, clients, threads, requests, *arguments, at_once=1):
        """Requests per second of redis-benchmark: each client waits for its answer, or so many, before it asks again."""
        command = ["redis-benchmark", "-s", str(self.socket), "-c", str(clients), "-n", str(requests), "--threads", str(threads), "--csv",
                   "-P", str(at_once)]  # fmt: skip
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        heading, *answers = csv.reader(done.stdout.strip().splitlines())
        return float(answers[-1][heading.index("rps")])
