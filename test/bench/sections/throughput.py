"""Transactions per second with 2 and with 8 clients, who may use every processor."""

from lib import pgbench, stats
from lib.report import Section

BY_NUMBER = "\\set n random(1, {many})\nSELECT {function}(t.token, :permission) FROM bench.token t WHERE t.kind = '{kind}' AND t.n = :n"


def scripts(many):
    return {
        "no-op → boolean": "SELECT bench.nop_check(:jwt, :permission)",
        "check_token, one key": "SELECT apikey.check_token(:jwt, :permission)",
        "no-op → verdict": "SELECT * FROM bench.nop_validate(:jwt, :permission)",
        "validate, one key": "SELECT * FROM apikey.validate(:jwt, :permission)",
        "plpgsql with last used, one key": "SELECT bench.plpgsql_check_and_note(:plpgsql, :permission)",
        "plpgsql without, one key": "SELECT bench.plpgsql_check(:plpgsql, :permission)",
        "check_token, many keys": BY_NUMBER.format(many=many, function="apikey.check_token", kind="jwt"),
        "plpgsql with last used, many keys": BY_NUMBER.format(many=many, function="bench.plpgsql_check_and_note", kind="plpgsql"),
    }


def run(bench):
    section = Section("Throughput, 2 and 8 clients")
    bench.fixture.warm("jwt", bench.many)
    tokens = {"jwt": bench.fixture.token("jwt"), "permission": "chat:read",
              "plpgsql": bench.server.value("SELECT token FROM bench.token WHERE kind = 'plpgsql' AND n = 1")}  # fmt: skip
    found = {clients: pgbench.throughput(scripts(bench.many), clients, bench.short_seconds, bench.rounds, tokens) for clients in (2, 8)}
    section.table(("statement", "2 clients, per second", "8 clients, per second", "8 clients, lowest", "8 clients, highest"),
                  [(name, stats.median(found[2][name]), stats.median(times), min(times), max(times)) for name, times in found[8].items()])  # fmt: skip

    def ratio(above, below, clients, **target):
        value = stats.median(found[clients][above]) / stats.median(found[clients][below])
        section.ratio(f"{above} ÷ {below}, {clients} clients", value, **target)

    ratio("check_token, one key", "no-op → boolean", 2)
    ratio("check_token, one key", "no-op → boolean", 8, at_least=0.90)
    ratio("validate, one key", "no-op → verdict", 8)
    ratio("check_token, one key", "plpgsql without, one key", 8)
    ratio("check_token, many keys", "plpgsql with last used, many keys", 8, at_least=5)
    ratio("check_token, one key", "plpgsql with last used, one key", 8, at_least=20)
    section.note(f"Many keys are {bench.many:,}, drawn at random; a table that holds their tokens is read in the same statement, by both.")
    return section
