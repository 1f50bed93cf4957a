"""The proof cache: how much of a working set it holds, and the shared memory for each token held."""

from lib.report import NotMeasured, Section

HITS, MISSES, BYTES = "apikey_proof_cache_hits_total", "apikey_proof_cache_misses_total", "apikey_proof_cache_bytes"


def run(bench):
    section = Section("Proof cache: hits and memory")
    server = bench.server
    if not bench.remembers or not server.has("cache_entries") or server.value("SELECT to_regclass('apikey.metrics') IS NOT NULL") != "t":
        raise NotMeasured("this version has no proof cache, or no metrics")
    before = server.value("SELECT setting FROM pg_settings WHERE name = 'apikey.cache_entries'", "postgres")
    entries = 1024 if bench.quick else 16_384
    bench.fixture.tokens("jwt", entries)
    server.set(cache_entries=entries)
    try:
        entries = int(server.value("SELECT setting FROM pg_settings WHERE name = 'apikey.cache_entries'", "postgres"))
        rows = [pass_at(bench, entries, fill) for fill in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    finally:
        server.set(cache_entries=int(before))
    size = rows[0][-1]
    section.table(("fill", "distinct tokens", "hit ratio of the second pass", "tokens held", "bytes for each token held"),
                  [(f"{fill:.0%}", tokens, f"{ratio:.4f}", held, size / max(1, held)) for fill, tokens, ratio, held, _ in rows])  # fmt: skip
    at_sixty = rows[1]
    section.ratio("bytes ÷ entries", round(size / entries, 1), at_most=64, digits=1)
    section.ratio("hit ratio at 60 % fill", at_sixty[2], at_least=0.99, digits=4)
    section.ratio("bytes ÷ tokens held, at 60 % fill", size / max(1, at_sixty[3]), at_most=110, digits=1)
    section.note(f"apikey.cache_entries = {entries:,}; {size:,} bytes of shared memory.")
    return section


def pass_at(bench, entries, fill):
    """Each of so many tokens once, and then once more with the counters read around it."""
    tokens = int(entries * fill)
    statement = f"SELECT bench.accept_tokens('jwt', 1, {tokens});"
    bench.server.sql(statement)
    before = counters(bench.server)
    bench.server.sql(statement)
    after = counters(bench.server)
    hits, misses = after[HITS] - before[HITS], after[MISSES] - before[MISSES]
    return fill, tokens, hits / max(1, hits + misses), int(hits), int(after[BYTES])


def counters(server):
    found = server.sql(f"SELECT name, sum(value) FROM apikey.metrics WHERE name IN ('{HITS}', '{MISSES}', '{BYTES}') GROUP BY name")
    return {name: float(value) for name, value in found}
