#pragma once

#include "core/bytes.h"
#include "core/network.h"
#include "core/instant.h"
#include "core/uuid.h"
#include "pg/guard.h"

/**
 * Values between PostgreSQL and C++. The functions that start with "raw_" call the backend without a wall of
 * their own and are for use inside pg::call(); the others may be called from C++ as they are. Views point
 * into palloc'd memory of the current context.
 */
namespace apikey::pg {

inline std::string_view raw_text(Datum datum) {
    const auto* text = reinterpret_cast<const struct varlena*>(PG_DETOAST_DATUM_PACKED(datum));
    return {VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text)};
}

inline core::ByteView raw_bytes(Datum datum) {
    return core::bytes_of(raw_text(datum));
}

inline std::string_view text_view(Datum datum) {
    const auto* value = DatumGetPointer(datum);
    if (!VARATT_IS_COMPRESSED(value) && !VARATT_IS_EXTERNAL(value)) {
        return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
    }
    return call([&] { return raw_text(datum); });
}

Datum text_datum(std::string_view text);
Datum bytes_datum(core::ByteView bytes);
/** Hours and less, as many as it takes; no days, whose length could vary. */
Datum interval_datum(std::int64_t microseconds);
Datum uuid_datum(const core::Uuid& id);
/** Parses JSON text that we wrote. */
Datum jsonb_datum(const std::string& json);
Datum text_array_datum(std::span<const std::string> elements);

Datum inet_datum(const core::Network& network);
/** An array of one dimension; an element that is not set is NULL. */
Datum array_datum(Oid element_type, std::span<const std::optional<Datum>> elements);

core::Uuid uuid_from_datum(Datum datum);

/** What an array looks like before its elements are looked at. An empty one has no dimensions. */
struct ArrayShape {
    int dimensions;
    int elements;
    bool has_null;
};
ArrayShape array_shape(Datum array);

/** Elements of a text[] without NULLs (Failure 22004 when there is one). An empty or multi-dimensional array
 * gives its elements in storage order. */
std::vector<std::string_view> text_array(Datum array);
std::vector<core::Network> cidr_array(Datum array);
core::Network network_from_datum(Datum inet_value);

/** PostgreSQL counts microseconds since 2000, core since 1970. */
core::Instant instant(TimestampTz timestamp);
TimestampTz timestamp(core::Instant instant);
/** The clock, not the transaction's start: a long transaction must not see yesterday's keys. */
core::Instant now();

std::int64_t unix_seconds(TimestampTz timestamp);

/** ISO 8601 in UTC, for JSON. */
std::string iso_timestamp(TimestampTz timestamp);

/** Strong random bytes (pg_strong_random), Failure when the source is not to be had. */
void random_bytes(std::span<std::uint8_t> out);

/** What a role is called, as a name. */
Datum user_name(Oid user);

/** For core's long computations: throws Interrupted when the session has been cancelled or terminated. */
void throw_if_interrupted();

/** The argument as text, or nullopt for SQL NULL. */
std::optional<std::string_view> text_argument(FunctionCallInfo fcinfo, int index);

/** The function's composite result. `types`: those of the columns; dropped attributes of the result's type
 * are left out of all three. Failure 55000 where the type is another. */
Datum make_composite(FunctionCallInfo fcinfo, std::span<Datum> values, std::span<bool> nulls,
                     std::span<const Oid> types);

}  // namespace apikey::pg
