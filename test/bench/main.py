#!/usr/bin/env python3
"""The driver of the benchmarks. test/bench/run calls it as the server's user, in the directory of a private server that runs."""

import argparse
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from lib import report
from lib.bench import Bench

SECTIONS = ("roundtrip", "inserver", "throughput", "limiter", "flat", "cold", "issue", "cache", "mirror", "pgcrypto", "node")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the names of the sections")
    parser.add_argument("--check", action="store_true", help="only check the other arguments")
    parser.add_argument("--write", nargs=2, type=Path, metavar=("DOCUMENT", "RESULTS"), help="put results into the document's tables")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to run, separated by commas")
    parser.add_argument("--quick", action="store_true", help="few iterations: the numbers mean nothing")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return options


def run(options):
    """Runs the sections, each whatever became of the others, and keeps what is done in results.json."""
    bench = Bench(quick=options.quick)
    results = {"machine": bench.machine(), "quick": options.quick, "sections": {}}
    failed = []
    bench.prepare()
    for name in SECTIONS:
        if name not in options.only:
            continue
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        try:
            # Those of the section before.
            if bench.remembers:
                bench.fixture.settle()
            section = importlib.import_module(f"sections.{name}").run(bench)
        except report.NotMeasured as reason:
            print(f"Not measured: {reason}", flush=True)
            continue
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        section.seconds = time.monotonic() - started
        results["sections"][name] = section.as_dict()
        Path("results.json").write_text(json.dumps(results, indent=1))
        print(report.section_text(section.as_dict()), flush=True)
    if failed:
        print(f"\nFAILED: {', '.join(failed)}")
    return 1 if failed else 0


def main():
    options = arguments()
    if options.list:
        print(",".join(SECTIONS))
        return 0
    if options.check:
        return 0
    if options.write:
        document, results = options.write
        document.write_text(report.fill_in(document.read_text(), json.loads(results.read_text()), SECTIONS))
        return 0
    # A shell that runs this in the background has SIGINT ignored, and sends SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Path("driver.pid").write_text(str(os.getpid()))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
