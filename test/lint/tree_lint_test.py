#!/usr/bin/env python3
"""Each rule of tree_lint is seen to fail bad samples. They are put together here, because this file is read by it as well."""

import sys
import tempfile
import unittest
from pathlib import Path

import tree_lint

TOP = Path("/volume/of/somebody/apikey")


def breaches(name, line):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// first line\n{line}\n")
        return tree_lint.lint_tree(Path(directory), TOP)


class Rules(unittest.TestCase):
    def assert_fails(self, *samples, name="docs/sample.md"):
        for sample in samples:
            with self.subTest(sample):
                problems = breaches(name, sample)
                self.assertEqual(len(problems), 1, problems)
                self.assertTrue(problems[0].startswith(f"{name}:2: "), problems[0])

    def test_good_lines(self):
        for line in (
            "see /usr/lib/postgresql/15/bin, /tmp and https://example.com/volume/of/somebody",
            "a mirror, the registry of keys, method and means: todo(), Todo",
            "https://www.postgresql.org and https://issuer.example",
            '#include "pg/guard.h"',
        ):
            self.assertEqual(breaches("src/flow/sample.cpp", line), [])

    def test_paths_of_this_machine(self):
        self.assert_fails(
            "cd " + "/volume/of/somebody/apikey/src",
            "cp ../x '" + "/volume/of/else'",
            "ls /" + "home/jane/.bashrc",
            "ls /" + "Users/jane",
            "ls /" + "root/.cache",
        )

    def test_logs_in_one_place(self):
        self.assert_fails('ereport(LOG, (errmsg("x")));', "ereport(WARNING,", 'elog(DEBUG1, "x");', "ereport(LOG_SERVER_ONLY,", "ereport(", name="src/flow/sample.cpp")
        self.assertEqual(breaches("src/pg/log.cpp", 'ereport(LOG, (errmsg("x")));'), [])
        self.assertEqual(breaches("src/flow/sample.cpp", 'ereport(ERROR, (errmsg("x")));'), [])

    def test_private_hosts(self):
        self.assert_fails(
            "https://" + "registry.example.com/jose",
            "http://user:word@" + "pkg-mirror.example.com:8080/",
            "https://" + "build.corp/x",
            '      "resolved" ' + ': "https://example.com/jose.tgz",',
        )

    def test_unfinished_work(self):
        self.assert_fails("// TO" + "DO: the rest", "# FIX" + "ME", "/* XX" + "X */", "-- HA" + "CK")

    def test_core_stands_alone(self):
        self.assert_fails('#include "pg/guard.h"', '# include "postgres.h"', name="src/core/sample.h")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    sys.exit(not result.wasSuccessful())
