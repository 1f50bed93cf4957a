"""The first validation of a token: signature and slow hash, against OpenSSL's own."""

from lib import stats
from lib.report import Section

NAMES = {
    "no-op": "no-op",
    "sha256": "sha256(token)",
    "verify": "OpenSSL's Ed25519 verification",
    "own_kdf": "PBKDF2, the extension's",
    "openssl_kdf": "PBKDF2, PKCS5_PBKDF2_HMAC",
    "jwt": "check_token(jwt), for the first time",
    "opaque": "check_token(opaque), for the first time",
}


def run(bench):
    section = Section("Cold: the first validation of a token")
    server = bench.server
    count = 20 if bench.quick else 300
    server.script("bench/sql/cold.sql")
    server.sql(f"CALL bench.prepare_cold({count})")
    # Whatever issue() left in shared memory is gone now.
    server.restart()
    rows = server.sql("SELECT what, ms FROM bench.measure_cold()")
    times = {what: [float(ms) for found, ms in rows if found == what] for what in NAMES}
    empty = stats.median(times["no-op"])
    median = {what: stats.median(found) - (empty if what != "no-op" else 0) for what, found in times.items()}
    section.table(("what", "ms, median", "p10", "p95"),
                  [(NAMES[what], *(f"{value:.4f}" for value in (stats.median(found), stats.p10(found), stats.percentile(found, 0.95))))
                   for what, found in times.items()])  # fmt: skip
    floor = median["verify"] + median["own_kdf"]
    section.ratio("check_token(jwt) ÷ (OpenSSL's verification + the extension's PBKDF2)", median["jwt"] / floor, at_most=1.1)
    section.ratio("check_token(opaque) ÷ the extension's PBKDF2", median["opaque"] / median["own_kdf"])
    section.ratio("OpenSSL's PBKDF2 ÷ the extension's", median["openssl_kdf"] / median["own_kdf"], at_least=2)
    section.ratio("(OpenSSL's verification + OpenSSL's PBKDF2) ÷ check_token(jwt)", (median["verify"] + median["openssl_kdf"]) / median["jwt"])
    iterations = server.value("SELECT current_setting('apikey.pbkdf2_iterations')")
    section.note(f"{count} tokens of each form, every measure in turn; {iterations} iterations. Ratios are over the no-op.")
    return section
