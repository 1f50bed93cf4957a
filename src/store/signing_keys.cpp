#include <map>

#include "core/crypto.h"
#include "core/error.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/spi.h"
#include "store/master_key.h"
#include "store/row_reader.h"
#include "store/signing_keys.h"
#include "store/snapshot.h"
#include "store/withheld.h"

namespace apikey::store {
namespace {

enum : std::size_t { c_kid, c_algorithm, c_state, c_public_key, c_private_key, c_fingerprint, column_count };

constexpr std::array<Column, column_count> columns = {{
    {"kid", TEXTOID},
    {"algorithm", TEXTOID},
    {"state", TEXTOID},
    {"public_key", BYTEAOID},
    {"private_key", BYTEAOID},
    {"master_key_fingerprint", BYTEAOID},
}};

bool is_key(const char* column, Datum key) {
    const Datum kid = PointerGetDatum(column);
    return !VARATT_IS_COMPRESSED(column) && !VARATT_IS_EXTERNAL(column) &&
           pg::raw_text(kid) == pg::raw_text(key);
}

Table table("signing_key", columns, F_TEXTEQ, is_key);

SigningKeyState state_from_text(std::string_view text) {
    if (text == "pending") {
        return SigningKeyState::pending;
    }
    if (text == "active") {
        return SigningKeyState::active;
    }
    if (text == "verify_only") {
        return SigningKeyState::verify_only;
    }
    return SigningKeyState::retired;
}

std::string sealing_context(std::string_view kid, core::Algorithm algorithm) {
    return std::string(kid) + '.' + std::string(core::algorithm_name(algorithm));
}

/**
 * Keys that the session has made of rows, found by kid. A kid names its key material for good (a thumbprint,
 * or random), but an entry is only used for a row with the very same stored bytes, so that no edit of the
 * table can be served from here.
 */
class KeyCache {
  public:
    const core::SigningKey* find(const SigningKeyRow& row, core::ByteView stored) const {
        const auto entry = entries_.find(row.kid);
        if (entry == entries_.end() || entry->second.key.algorithm() != row.algorithm ||
            !std::equal(stored.begin(), stored.end(), entry->second.stored.begin(),
                        entry->second.stored.end())) {
            return nullptr;
        }
        return &entry->second.key;
    }

    const core::SigningKey& put(const SigningKeyRow& row, core::ByteView stored, core::SigningKey key) {
        if (entries_.size() >= max_entries) {
            entries_.clear();
        }
        const std::string kid(row.kid);
        entries_.erase(kid);
        Entry entry{core::Bytes(stored.begin(), stored.end()), std::move(key)};
        return entries_.emplace(kid, std::move(entry)).first->second.key;
    }

  private:
    static constexpr std::size_t max_entries = 64;
    struct Entry {
        core::Bytes stored;
        core::SigningKey key;
    };
    std::map<std::string, Entry, std::less<>> entries_;
};

// Made on first use: nothing may be allocated when the library is loaded into the postmaster.
KeyCache& public_keys() {
    static KeyCache cache;
    return cache;
}
KeyCache& private_keys() {
    static KeyCache cache;
    return cache;
}

/** nullptr when the row is not what was sealed. */
const core::SigningKey* open_private_key(const SigningKeyRow& row, const core::MasterKeys& keys) {
    if (const auto* key = private_keys().find(row, row.private_key)) {
        return key;
    }
    const std::string context = sealing_context(row.kid, row.algorithm);
    const auto plain =
        core::aes256_gcm_open(keys.sealing_key.view(), core::bytes_of(context), row.private_key);
    if (!plain) {
        return nullptr;
    }
    return &private_keys().put(row, row.private_key,
                               core::SigningKey::from_private_bytes(row.algorithm, core::view(*plain)));
}

SigningKeyRow row_from_values(std::span<const Datum, column_count> values,
                              std::span<const bool, column_count> nulls) {
    const auto bytes = [&](std::size_t column) {
        return nulls[column] ? core::ByteView() : core::bytes_of(pg::text_view(values[column]));
    };
    SigningKeyRow row;
    row.kid = core::text_of(bytes(c_kid));
    row.algorithm = core::algorithm_from_name(core::text_of(bytes(c_algorithm))).value();
    row.state = state_from_text(core::text_of(bytes(c_state)));
    row.public_key = bytes(c_public_key);
    row.private_key = bytes(c_private_key);
    row.master_key_fingerprint = bytes(c_fingerprint);
    return row;
}

/** Where the signing key was that was asked for last: it is the same one most of the time. */
RowHint last_seen = 0;

/** The key that was in use when this session last looked, to look at first: by its primary key, which takes
 * no plan. There is only one in use. */
std::string& last_active_kid() {
    static std::string kid;
    return kid;
}

bool is_active(std::span<const Datum> values) {
    return pg::raw_text(values[c_state]) == "active";
}

std::optional<SigningKeyRow> lock_last_active() {
    if (last_active_kid().empty()) {
        return std::nullopt;
    }
    pg::call([] { CommandCounterIncrement(); });
    LatestSnapshot snapshot;
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls{};
    if (!table.lock_key_share(snapshot, pg::text_datum(last_active_kid()), last_seen, values, nulls,
                              is_active)) {
        return std::nullopt;
    }
    return row_from_values(values, nulls);
}

SigningKeyRow row_from_result(const pg::SpiSession& spi) {
    // Copied out of SPI's memory, which goes with the SPI session.
    const auto copy = [&](int column) -> core::ByteView {
        const auto value = pg::result_value(0, column);
        if (!value) {
            return {};
        }
        return pg::call([&]() -> core::ByteView {
            const MemoryContext before = MemoryContextSwitchTo(spi.memory());
            const core::ByteView bytes = pg::raw_bytes(PointerGetDatum(PG_DETOAST_DATUM_COPY(*value)));
            MemoryContextSwitchTo(before);
            return bytes;
        });
    };
    SigningKeyRow row;
    row.kid = core::text_of(copy(1));
    row.algorithm = core::algorithm_from_name(core::text_of(copy(2))).value();
    row.state = SigningKeyState::active;
    row.public_key = copy(3);
    row.private_key = copy(4);
    row.master_key_fingerprint = copy(5);
    return row;
}

std::optional<SigningKeyRow> select_active() {
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT s.kid, s.algorithm, s.public_key, s.private_key, s.master_key_fingerprint
              FROM apikey.signing_key s
             WHERE s.state = 'active'
               FOR KEY SHARE
        )sql");
    if (statement.run({}, pg::Visibility::latest) == 0) {
        return std::nullopt;
    }
    const SigningKeyRow row = row_from_result(spi);
    last_active_kid() = row.kid;
    return row;
}

void end_active_key() {
    const pg::SpiSession spi;
    static pg::Statement statement(
        "UPDATE apikey.signing_key s SET state = 'verify_only' WHERE s.state = 'active'");
    statement.run({}, pg::Visibility::latest);
}

std::string insert_key(core::Algorithm algorithm, std::string_view state, const core::MasterKeys& keys) {
    const core::SigningKey key = core::SigningKey::generate(algorithm);
    std::string kid = key.make_kid();
    std::array<std::uint8_t, 12> nonce;
    pg::random_bytes(nonce);
    const core::SecretBytes plain = key.private_bytes();
    const std::string context = sealing_context(kid, algorithm);
    const core::Bytes sealed =
        core::aes256_gcm_seal(keys.sealing_key.view(), nonce, core::bytes_of(context), core::view(plain));
    const core::Bytes public_bytes = key.public_bytes();

    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.signing_key (kid, algorithm, state, public_key, activated_at)
            VALUES ($1, $2, $3, $4, CASE WHEN $3 = 'active' THEN clock_timestamp() END)
        )sql",
        TEXTOID, TEXTOID, TEXTOID, BYTEAOID);
    const std::array<pg::Parameter, 4> parameters = {
        pg::text_datum(kid),
        pg::text_datum(core::algorithm_name(algorithm)),
        pg::text_datum(state),
        pg::Parameter::of(!public_bytes.empty(), pg::bytes_datum(public_bytes)),
    };
    const std::array<WithheldValue, 2> withheld = {{
        {"private_key", pg::bytes_datum(sealed)},
        {"master_key_fingerprint", pg::bytes_datum(keys.fingerprint)},
    }};
    const Withheld filling("signing_key", kid, withheld);
    without_quoting_the_row([&] { return statement.run(parameters); });
    return kid;
}

}  // namespace

void lock_signing_keys() {
    const pg::SpiSession spi;
    static pg::Statement statement("LOCK TABLE apikey.signing_key IN SHARE ROW EXCLUSIVE MODE");
    statement.run({});
}

std::optional<SigningKeyRow> find_signing_key(RowSnapshot& snapshot, std::string_view kid) {
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls{};
    if (table.find(snapshot, pg::text_datum(kid), last_seen, values, nulls) == Table::Found::nothing) {
        return std::nullopt;
    }
    return row_from_values(values, nulls);
}

bool lock_signing_key(std::string_view kid) {
    TransactionSnapshot snapshot;
    std::array<Datum, 1> value{};
    std::array<bool, 1> null{};
    return table.lock_key_share(snapshot, pg::text_datum(kid), last_seen, value, null);
}

bool lock_signing_key_for_update(std::string_view kid) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT FROM apikey.signing_key s WHERE s.kid = $1 FOR UPDATE", TEXTOID);
    const std::array<pg::Parameter, 1> parameters = {pg::text_datum(kid)};
    return statement.run(parameters, pg::Visibility::latest) == 1;
}

bool try_lock_signing_key_for_update(std::string_view kid) {
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT FROM apikey.signing_key s WHERE s.kid = $1 FOR UPDATE SKIP LOCKED",
                                   TEXTOID);
    const std::array<pg::Parameter, 1> parameters = {pg::text_datum(kid)};
    return statement.run(parameters, pg::Visibility::latest) == 1;
}

RowLockers find_signing_key_lockers(std::string_view kid) {
    LatestSnapshot snapshot;
    return table.find_lockers(snapshot, pg::text_datum(kid));
}

std::optional<bool> active_key_is_under(const core::MasterKeys& keys) {
    if (!last_active_kid().empty()) {
        LatestSnapshot snapshot;
        const auto row = find_signing_key(snapshot, last_active_kid());
        if (row && row->state == SigningKeyState::active) {
            return std::ranges::equal(row->master_key_fingerprint, keys.fingerprint);
        }
    }
    if (table.is_untouched()) {
        return std::nullopt;
    }
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            SELECT s.kid, s.master_key_fingerprint = $1
              FROM apikey.signing_key s
             WHERE s.state = 'active'
        )sql",
        BYTEAOID);
    const std::array<pg::Parameter, 1> parameters = {pg::bytes_datum(keys.fingerprint)};
    if (statement.run(parameters, pg::Visibility::latest) == 0) {
        return std::nullopt;
    }
    last_active_kid() = pg::text_view(pg::result_value(0, 1).value());
    return DatumGetBool(pg::result_value(0, 2).value());
}

const core::SigningKey* verification_key(const SigningKeyRow& row, const core::MasterKeys* keys) {
    if (row.public_key.empty()) {
        const bool ours =
            keys != nullptr && core::equal_constant_time(row.master_key_fingerprint, keys->fingerprint);
        return ours ? open_private_key(row, *keys) : nullptr;
    }
    if (const auto* key = public_keys().find(row, row.public_key)) {
        return key;
    }
    try {
        return &public_keys().put(row, row.public_key,
                                  core::SigningKey::from_public_bytes(row.algorithm, row.public_key));
    } catch (const core::InvalidArgument&) {
        return nullptr;
    }
}

const core::SigningKey& unseal(const SigningKeyRow& row, const core::MasterKeys& keys) {
    if (!core::equal_constant_time(row.master_key_fingerprint, keys.fingerprint)) {
        log_master_key_mismatch();
        throw unavailable("The signing key in use was sealed under another master key.");
    }
    const core::SigningKey* key = open_private_key(row, keys);
    if (key == nullptr) {
        throw pg::Failure(ERRCODE_DATA_CORRUPTED,
                          "signing key \"" + std::string(row.kid) + "\" cannot be unsealed",
                          "Its row was altered after it had been written.");
    }
    return *key;
}

SigningKeyRow lock_active_signing_key(const core::MasterKeys& keys) {
    if (const auto row = lock_last_active()) {
        return *row;
    }
    if (const auto row = select_active()) {
        return *row;
    }
    lock_signing_keys();
    if (const auto row = select_active()) {
        return *row;
    }
    insert_key(core::Algorithm::EdDSA, "active", keys);
    return select_active().value();
}

std::string activate_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys) {
    end_active_key();
    {
        const pg::SpiSession spi;
        // A pending key from before adopt_master_key() was sealed under the lost master key, and stays where
        // it is.
        static pg::Statement statement(
            R"sql(
                UPDATE apikey.signing_key s
                   SET state = 'active'
                 WHERE s.kid = (SELECT p.kid
                                  FROM apikey.signing_key p
                                 WHERE p.state = 'pending' AND p.algorithm = $1
                                   AND p.master_key_fingerprint = $2
                                 ORDER BY p.created_at, p.kid
                                 LIMIT 1)
                RETURNING s.kid
            )sql",
            TEXTOID, BYTEAOID);
        const std::array<pg::Parameter, 2> parameters = {pg::text_datum(core::algorithm_name(algorithm)),
                                                         pg::bytes_datum(keys.fingerprint)};
        if (statement.run(parameters, pg::Visibility::latest) == 1) {
            return std::string(pg::text_view(pg::result_value(0, 1).value()));
        }
    }
    return insert_key(algorithm, "active", keys);
}

std::string activate_fresh_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys) {
    end_active_key();
    return insert_key(algorithm, "active", keys);
}

std::string add_pending_signing_key(core::Algorithm algorithm, const core::MasterKeys& keys) {
    return insert_key(algorithm, "pending", keys);
}

}  // namespace apikey::store
