#!/usr/bin/env python3
"""What no file of the source tree may hold: traces of the machine that it was written on, unfinished work, in src/core anything of
the server, and log lines that carry the session's statement. Prints each breach and exits with 1."""

import re
import sys
from pathlib import Path, PurePosixPath

BUILT_DIRECTORIES = {".git", "build", "results", "output_iso", "tmp_check", "tmp_check_iso", "node_modules", "__pycache__"}
BUILT_SUFFIXES = {".o", ".d", ".bc", ".so", ".dylib"}

# Directories that mean the same on every machine, and names so common that finding them says nothing.
COMMON_DIRECTORIES = {
    "/", "/app", "/apikey", "/build", "/builds", "/code", "/data", "/home", "/mnt", "/opt", "/project", "/repo", "/root", "/src",
    "/srv", "/tmp", "/usr", "/usr/local", "/usr/local/src", "/usr/src", "/var", "/var/lib", "/var/tmp", "/workspace",
}  # fmt: skip


def paths_of_this_machine(line, top):
    """Where this tree lies, and what lies beside it, and anybody's home directory."""
    here = [directory for directory in (top, *top.parents) if str(directory) not in COMMON_DIRECTORIES]
    for directory in here:
        if re.search(r"(?<![\w.~/-])" + re.escape(str(directory)) + r"(?![\w.-])", line):
            return f"names the directory {directory} of this machine"
    if re.search(r"(?<![\w.~/-])/(?:(?:home|Users)/\w|root/)", line):
        return "names somebody's home directory"
    return None


def private_hosts(line, _top):
    """Package registries and hosts of some private network: everybody has his own."""
    host = re.search(r"\bhttps?://(?:[^\s/\"'@]*@)?([\w.-]+)", line)
    if host and re.search(r"(?:^|[.-])(?:registry|artifactory|nexus|mirror)(?:[.-]|$)|\.(?:internal|corp|lan)$", host.group(1)):
        return f"names the host {host.group(1)}"
    if re.search(r'^\s*"resolved"\s*:', line):
        return "a lock file records where packages were fetched from"
    return None


def unfinished_work(line, _top):
    """Markers of something left for later. (In two halves, because this file is read as well.)"""
    marker = re.search(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", line)
    return f"{marker.group()}: finish it, or write down the limit as one" if marker else None


LINE_RULES = (paths_of_this_machine, private_hosts, unfinished_work)


def core_stands_alone(name, line):
    """src/core includes its own headers, and system ones; the check that each header compiles keeps the server's out."""
    included = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
    if included and name.parts[:2] == ("src", "core") and not included.group(1).startswith("core/"):
        return f"src/core includes {included.group(1)}"
    return None


def logs_in_one_place(name, line):
    """ereport() below ERROR puts the session's statement, which may hold a token, beside the message: pg::log() does not."""
    if name.parts[:1] == ("src",) and name != PurePosixPath("src/pg/log.cpp"):
        if re.search(r"\b(?:ereport\w*|elog)\((?:LOG|DEBUG|INFO|NOTICE|WARNING|COMMERROR)|\b(?:ereport\w*|elog)\($", line):
            return "logs without pg::log()"
    return None


NAME_RULES = (core_stands_alone, logs_in_one_place)


def source_files(root):
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and not BUILT_DIRECTORIES & set(name.parts) and path.suffix not in BUILT_SUFFIXES:
            yield path, PurePosixPath(name)


def lint_tree(root, top=None):
    """root: what is read; top: where the tree is said to lie."""
    top = top or root
    problems = []
    for path, name in source_files(root):
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
            found = [rule(line, top) for rule in LINE_RULES] + [rule(name, line) for rule in NAME_RULES]
            problems += [f"{name}:{number}: {message}" for message in found if message]
    return problems


def main():
    problems = lint_tree(Path(__file__).resolve().parents[2])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
