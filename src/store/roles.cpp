#include <cstring>

#include "core/role_name.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/memory_scope.h"
#include "pg/owner_scope.h"
#include "pg/spi.h"
#include "store/keys.h"
#include "store/roles.h"
#include "store/row_reader.h"

namespace apikey::store {
namespace {

enum : std::size_t {
    c_name,
    c_ttl,
    c_permissions,
    c_rate_limit,
    c_rate_window,
    c_refresh_window,
    c_format,
    c_issuable_by,
    column_count
};

constexpr std::array<Column, column_count> columns = {{
    {"name", TEXTOID},
    {"ttl", INTERVALOID},
    {"permissions", TEXTARRAYOID},
    {"rate_limit", INT8OID},
    {"rate_window", INTERVALOID},
    {"refresh_window", INTERVALOID},
    {"format", TEXTOID},
    {"issuable_by", NAMEARRAYOID},
}};

bool is_key(const char* column, Datum key) {
    const Datum name = PointerGetDatum(column);
    return !VARATT_IS_COMPRESSED(column) && !VARATT_IS_EXTERNAL(column) &&
           pg::raw_text(name) == pg::raw_text(key);
}

Table table("role", columns, F_TEXTEQ, is_key);

/**
 * The roles that this session has read, each as of a state of the database: while that has not changed
 * (LatestSnapshot::committed_state), neither has the role, and reading it again would give the same.
 * Otherwise they tell where to look. Each validation asks for a role, and there are few.
 */
struct Known {
    std::size_t length = 0;
    std::array<char, 64> name{};  // role names have 63 characters at most
    RowHint hint = 0;
    std::uint64_t state = 0;
    pg::SessionMemory memory;  // of what `row` points to
    RoleRow row{};
};

Known& known_role(std::string_view name) {
    static std::array<Known, 16> all;
    static std::size_t next = 0;
    for (Known& known : all) {
        if (known.length == name.size() && memcmp(known.name.data(), name.data(), name.size()) == 0) {
            return known;
        }
    }
    Known& known = all[next++ % all.size()];
    known.length = std::min(name.size(), known.name.size());
    memcpy(known.name.data(), name.data(), known.length);
    known.hint = 0;
    known.state = 0;
    return known;
}

std::string known_roles() {
    const pg::OwnerScope as_owner(tables_owner());
    const pg::SpiSession spi;
    static pg::Statement statement("SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM apikey.role r");
    statement.run({}, pg::Visibility::latest);
    const auto names = pg::result_value(0, 1);
    return names ? std::string(pg::text_view(*names)) : std::string("none");
}

}  // namespace

std::optional<RoleRow> find_role(LatestSnapshot& snapshot, std::string_view name) {
    Known& known = known_role(name);
    const std::uint64_t state = snapshot.committed_state();
    if (state != 0 && state == known.state) {
        return known.row;
    }
    known.state = 0;
    const pg::MemoryScope scope(known.memory.empty());
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls{};
    const Table::Found found = table.find(snapshot, pg::text_datum(name), known.hint, values, nulls);
    if (found == Table::Found::nothing) {
        return std::nullopt;
    }
    RoleRow& row = known.row;
    row = {};
    row.name = pg::raw_text(values[c_name]);
    row.ttl = nulls[c_ttl] ? nullptr : DatumGetIntervalP(values[c_ttl]);
    row.permissions = values[c_permissions];
    if (!nulls[c_rate_limit]) {
        row.rate_limit = DatumGetInt64(values[c_rate_limit]);
    }
    row.rate_window = nulls[c_rate_window] ? nullptr : DatumGetIntervalP(values[c_rate_window]);
    row.refresh_window = nulls[c_refresh_window] ? nullptr : DatumGetIntervalP(values[c_refresh_window]);
    row.format = pg::raw_text(values[c_format]);
    if (!nulls[c_issuable_by]) {
        row.issuable_by = values[c_issuable_by];
    }
    known.state = snapshot.committed_state();
    return row;
}

bool lock_role(std::string_view name) {
    TransactionSnapshot snapshot;
    std::array<Datum, 1> value{};
    std::array<bool, 1> null{};
    return table.lock_key_share(snapshot, pg::text_datum(name), known_role(name).hint, value, null);
}

RoleRow require_role(LatestSnapshot& snapshot, std::string_view spelling) {
    const std::string name = core::normalize_role_name(spelling);
    if (core::is_valid_role_name(name)) {
        if (const auto row = find_role(snapshot, name)) {
            return *row;
        }
    }
    throw pg::Failure(ERRCODE_INVALID_PARAMETER_VALUE,
                      core::is_valid_role_name(name) ? "role \"" + name + "\" does not exist"
                                                     : "that is not the name of a role",
                      {}, "Known roles: " + known_roles() + ".");
}

}  // namespace apikey::store
