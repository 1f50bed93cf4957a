#include "store/audit.h"

#include "core/uuid.h"
#include "pg/datum.h"
#include "pg/owner_scope.h"
#include "pg/spi.h"
#include "store/row_writer.h"

extern "C" {
#include "utils/fmgrprotos.h"
}

namespace apikey::store {
namespace {

enum : std::size_t {
    c_event_id,
    c_at,
    c_event,
    c_key_id,
    c_generation,
    c_owner,
    c_code,
    c_actor,
    c_actor_role,
    c_client,
    c_detail,
    column_count
};

constexpr std::array<Column, column_count> columns = {{
    {"event_id", UUIDOID},
    {"at", TIMESTAMPTZOID},
    {"event", TEXTOID},
    {"key_id", UUIDOID},
    {"generation", INT4OID},
    {"owner", TEXTOID},
    {"code", TEXTOID},
    {"actor", NAMEOID},
    {"actor_role", NAMEOID},
    {"client", INETOID},
    {"detail", JSONBOID},
}};

RowWriter writer("audit_event", columns);

/** What the columns' defaults say. */
void add_circumstances(std::span<Datum> values, std::span<bool> nulls) {
    std::array<std::uint8_t, 8> random;
    pg::random_bytes(random);
    const TimestampTz now = GetCurrentTimestamp();
    values[c_event_id] = pg::uuid_datum(core::uuid_v7(pg::instant(now), random));
    values[c_at] = TimestampTzGetDatum(now);
    values[c_actor] = pg::user_name(GetSessionUserId());
    values[c_actor_role] = pg::user_name(pg::acting_user());
    pg::call([&] {
        LOCAL_FCINFO(nothing, 0);
        InitFunctionCallInfoData(*nothing, nullptr, 0, InvalidOid, nullptr, nullptr);
        values[c_client] = inet_client_addr(nothing);
        nulls[c_client] = nothing->isnull;
    });
}

}  // namespace

void write_audit_event(const KeyEvent& event) {
    pg::refuse_in_restricted_operation("write to the audit trail");
    std::array<Datum, column_count> values{};
    std::array<bool, column_count> nulls{};
    add_circumstances(values, nulls);
    values[c_event] = pg::text_datum(event.event);
    const auto set = [&](std::size_t column, std::optional<Datum> value) {
        values[column] = value.value_or(0);
        nulls[column] = !value;
    };
    set(c_key_id, event.key_id);
    set(c_generation, event.generation ? std::optional(Int32GetDatum(*event.generation)) : std::nullopt);
    set(c_owner, event.owner);
    nulls[c_code] = true;
    values[c_detail] = event.detail;
    if (writer.insert(values, nulls)) {
        return;
    }
    const pg::SpiSession spi;
    static pg::Statement statement(
        R"sql(
            INSERT INTO apikey.audit_event (event, key_id, generation, owner, detail)
            VALUES ($1, $2, $3, $4, $5)
        )sql",
        TEXTOID, UUIDOID, INT4OID, TEXTOID, JSONBOID);
    const auto parameter = [&](std::size_t column) {
        return pg::Parameter::of(!nulls[column], values[column]);
    };
    const std::array<pg::Parameter, 5> parameters = {parameter(c_event), parameter(c_key_id),
                                                     parameter(c_generation), parameter(c_owner),
                                                     parameter(c_detail)};
    statement.run(parameters);
}

}  // namespace apikey::store
