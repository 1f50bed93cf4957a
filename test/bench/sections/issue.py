"""issue() with its audit row, against an INSERT of the same row into a table of the same shape that computes the slow hash too.

Both less the slow hash, which is to be slow. A JWT also less its signature, which is OpenSSL's and not ours to make cheaper.
"""

from lib import pgbench, stats
from lib.report import Section

NO_OP = "no-op → boolean"
INSERT = "INSERT of the row, with PBKDF2"
KDF = "PBKDF2, the extension's"
SIGNATURE = "OpenSSL's Ed25519 signature"
JWT = "issue(), jwt"
OPAQUE = "issue(), opaque"
HASH = "bench.own_pbkdf2('a password of thirty-two bytes .', 'a salt of sixte', current_setting('apikey.pbkdf2_iterations')::integer)"
SCRIPTS = {
    NO_OP: "SELECT bench.nop_check(:jwt)",
    KDF: f"SELECT {HASH}",
    SIGNATURE: "SELECT bench.openssl_sign(:input)",
    JWT: "SELECT * FROM apikey.issue('bench owner', 'bench_limited')",
    OPAQUE: "SELECT * FROM apikey.issue('bench owner', 'bench_limited', format => 'opaque')",
}


def run(bench):
    section = Section("Issuing a key")
    server = bench.server
    token = bench.fixture.token("jwt")
    variables = {"jwt": token, "input": token.rpartition(".")[0]}
    times = pgbench.mixed(server, SCRIPTS | {INSERT: bare_insert(server)}, bench.mix_seconds, bench.runs, variables)
    if server.value("SELECT count(*) > 0 FROM bench.bare_key") != "t":
        raise RuntimeError("nothing was inserted")
    section.table(("statement", "µs, median of the runs", "lowest", "highest"),
                  [(name, stats.median(found), min(found), max(found)) for name, found in times.items()])  # fmt: skip
    for name, less, target in (
        (OPAQUE, (KDF,), {"at_least": 0.9}),
        (JWT, (KDF, SIGNATURE), {"at_least": 0.9}),
        (JWT, (KDF,), {"at_least": 0.9}),
    ):
        what = " and the signature" if SIGNATURE in less else ""
        section.ratio(f"rate of {name}, less PBKDF2{what} ÷ rate of the bare INSERT, less PBKDF2", stats.median(rates(times, name, less)), **target)
    section.note("Each is a transaction of its own, flushed to disk. The bare INSERT has the same columns, constraints and indexes, and no triggers. "
                 "It computes the hash as well, since a disk that has had nothing to do for a millisecond is slower to flush. "
                 "What is taken off, PBKDF2 and the signature, is what it takes over the no-op when a statement does nothing else.")
    return section


def rates(times, name, less):
    """One for each run. What is taken off has been measured as a statement that does nothing else, so over the no-op."""
    found = []
    for run_times in zip(*times.values()):
        us = dict(zip(times, run_times))
        insert = us[INSERT] - (us[KDF] - us[NO_OP])
        found.append(insert / (us[name] - sum(us[part] - us[NO_OP] for part in less)))
    return found


def bare_insert(server):
    """The values of a row that issue() made, for a table with the same columns, constraints and indexes; the id and the hash are made each time."""
    server.sql("DROP TABLE IF EXISTS bench.bare_key; CREATE TABLE bench.bare_key (LIKE apikey.key INCLUDING ALL)")
    columns = server.sql("""SELECT quote_ident(attname), format_type(atttypid, NULL) FROM pg_attribute
                             WHERE attrelid = 'apikey.key'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'key_id'""")
    texts = ", ".join(f"quote_nullable({name}::text)" for name, _ in columns)
    (row,) = server.sql(f"SELECT {texts} FROM apikey.key WHERE format = 'jwt' LIMIT 1")
    values = ", ".join(HASH if name == "token_hash" else f"{value}::{type_name}" for value, (name, type_name) in zip(row, columns))
    names = ", ".join(name for name, _ in columns)
    return f"INSERT INTO bench.bare_key (key_id, {names}) VALUES (apikey.uuid_v7(), {values})"
