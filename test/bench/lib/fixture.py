"""Roles and tokens, made once and shared by the sections."""

import os

# More of a kind are made faster than issue() does, with a slow hash that is not slow.
ISSUED = 20_000


class Fixture:
    def __init__(self, server):
        self.server = server
        self.have = {}
        self.warmed = {}

    def prepare(self):
        self.server.sql("CREATE DATABASE bench", "postgres")
        self.server.script("bench/sql/setup.sql")
        self.server.script("bench/sql/peers.sql")

    def tokens(self, kind, count):
        """bench.token holds at least this many of the kind, which bench.issue_tokens() knows: all different, each with its own row."""
        have = self.have.get(kind, 0)
        if have < count:
            self._in_shares(have + 1, min(count, ISSUED), "SELECT bench.issue_tokens('{kind}', {first}, {last});", kind)
            self._in_shares(max(have, ISSUED) + 1, count, "SELECT bench.mint_tokens('{kind}', {first}, {last});", kind)
            self.server.sql("VACUUM ANALYZE bench.token, apikey.key")
            self.have[kind] = count

    def warm(self, kind, count):
        """Tokens that have been validated, each once since the server started."""
        self.tokens(kind, count)
        since = self.server.value("SELECT pg_postmaster_start_time()")
        if self.warmed.get(kind, ("", 0)) < (since, count):
            self._in_shares(1, count, "SELECT bench.accept_tokens('{kind}', {first}, {last});", kind)
            self.settle()
            self.warmed[kind] = (since, count)

    def settle(self):
        """No use is still being written down."""
        self.server.await_uses_written(self.token("jwt"))

    def token(self, kind, n=1):
        self.tokens(kind, n)
        return self.server.value(f"SELECT token FROM bench.token WHERE kind = '{kind}' AND n = {n}")

    def source(self, kind, count, rows):
        """A table of that many rows with the first so many tokens, in no order: neighbours there are no neighbours in apikey.key."""
        self.warm(kind, count)
        name = f"bench.source_{kind}_{count}"
        self.server.sql(f"""
            DROP TABLE IF EXISTS {name};
            SELECT setseed(0.5);
            CREATE TABLE {name} AS
                SELECT t.token, convert_to(t.token, 'UTF8') AS bytes
                  FROM bench.token t, generate_series(1, greatest(1, {rows} / {count})) copy
                 WHERE t.kind = '{kind}' AND t.n <= {count} ORDER BY random();
            VACUUM ANALYZE {name};
        """)
        return name

    def _in_shares(self, first, last, statement, kind):
        if last < first:
            return
        sessions = min(os.cpu_count(), max(1, (last - first + 1) // 16))
        bounds = [first + (last - first + 1) * i // sessions for i in range(sessions + 1)]
        self.server.parallel(
            statement.format(kind=kind, first=low, last=high - 1) for low, high in zip(bounds, bounds[1:])
        )
