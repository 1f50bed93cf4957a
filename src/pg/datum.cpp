#include "pg/clock.h"
#include "pg/datum.h"
#include "pg/failure.h"
#include "pg/library_version.h"

namespace apikey::pg {

Datum text_datum(std::string_view text) {
    return call([&] {
        return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
    });
}

Datum bytes_datum(core::ByteView bytes) {
    return text_datum(core::text_of(bytes));
}

Datum interval_datum(std::int64_t microseconds) {
    return call([&] {
        auto* interval = static_cast<Interval*>(palloc0(sizeof(Interval)));
        interval->time = microseconds;
        return IntervalPGetDatum(interval);
    });
}

Datum uuid_datum(const core::Uuid& id) {
    return call([&] {
        auto* copy = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
        std::copy(id.bytes.begin(), id.bytes.end(), copy->data);
        return UUIDPGetDatum(copy);
    });
}

Datum jsonb_datum(const std::string& json) {
    return call([&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.c_str())); });
}

Datum text_array_datum(std::span<const std::string> elements) {
    return call([&] {
        auto* datums = static_cast<Datum*>(palloc(sizeof(Datum) * (elements.size() + 1)));
        for (std::size_t i = 0; i < elements.size(); i++) {
            datums[i] = PointerGetDatum(
                cstring_to_text_with_len(elements[i].data(), static_cast<int>(elements[i].size())));
        }
        return PointerGetDatum(
            construct_array(datums, static_cast<int>(elements.size()), TEXTOID, -1, false, TYPALIGN_INT));
    });
}

Datum inet_datum(const core::Network& network) {
    return call([&] {
        const bool ipv4 = network.family == core::Network::Family::ipv4;
        auto* value = static_cast<inet*>(palloc0(sizeof(inet)));
        ip_family(value) = ipv4 ? PGSQL_AF_INET : PGSQL_AF_INET6;
        ip_bits(value) = network.prefix_length;
        std::copy_n(network.address.begin(), ipv4 ? 4 : 16, ip_addr(value));
        SET_INET_VARSIZE(value);
        return InetPGetDatum(value);
    });
}

Datum array_datum(Oid element_type, std::span<const std::optional<Datum>> elements) {
    return call([&] {
        auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (elements.size() + 1)));
        auto* nulls = static_cast<bool*>(palloc(elements.size() + 1));
        for (std::size_t i = 0; i < elements.size(); i++) {
            values[i] = elements[i].value_or(Datum(0));
            nulls[i] = !elements[i];
        }
        std::int16_t length = 0;
        bool by_value = false;
        char alignment = 0;
        get_typlenbyvalalign(element_type, &length, &by_value, &alignment);
        int dimensions[] = {static_cast<int>(elements.size())};
        int lower_bounds[] = {1};
        return PointerGetDatum(construct_md_array(values, nulls, 1, dimensions, lower_bounds, element_type,
                                                  length, by_value, alignment));
    });
}

core::Uuid uuid_from_datum(Datum datum) {
    core::Uuid id;
    const pg_uuid_t* value = DatumGetUUIDP(datum);
    std::copy(std::begin(value->data), std::end(value->data), id.bytes.begin());
    return id;
}

namespace {

struct Elements {
    Datum* values;
    int count;
    bool has_null;
};

Elements deconstruct(Datum array, Oid element_type, int element_length, char alignment) {
    return call([&] {
        Elements elements{};
        bool* nulls = nullptr;
        deconstruct_array(DatumGetArrayTypeP(array), element_type, element_length, false, alignment,
                          &elements.values, &nulls, &elements.count);
        for (int i = 0; i < elements.count; i++) {
            elements.has_null |= nulls[i];
        }
        return elements;
    });
}

void refuse_null_element(const Elements& elements) {
    if (elements.has_null) {
        throw Failure(ERRCODE_NULL_VALUE_NOT_ALLOWED, "array must not contain NULLs");
    }
}

core::Network to_network(const inet* value) {
    core::Network network;
    network.family =
        ip_family(value) == PGSQL_AF_INET ? core::Network::Family::ipv4 : core::Network::Family::ipv6;
    network.prefix_length = ip_bits(value);
    std::copy_n(ip_addr(value), ip_addrsize(value), network.address.begin());
    return network;
}

}  // namespace

ArrayShape array_shape(Datum array) {
    return call([&] {
        ArrayType* value = DatumGetArrayTypeP(array);
        return ArrayShape{ARR_NDIM(value), ArrayGetNItems(ARR_NDIM(value), ARR_DIMS(value)),
                          array_contains_nulls(value)};
    });
}

std::vector<std::string_view> text_array(Datum array) {
    const Elements elements = deconstruct(array, TEXTOID, -1, TYPALIGN_INT);
    refuse_null_element(elements);
    std::vector<std::string_view> texts;
    texts.reserve(static_cast<std::size_t>(elements.count));
    for (int i = 0; i < elements.count; i++) {
        texts.push_back(text_view(elements.values[i]));
    }
    return texts;
}

std::vector<core::Network> cidr_array(Datum array) {
    const Elements elements = deconstruct(array, CIDROID, -1, TYPALIGN_INT);
    refuse_null_element(elements);
    std::vector<core::Network> networks;
    networks.reserve(static_cast<std::size_t>(elements.count));
    for (int i = 0; i < elements.count; i++) {
        networks.push_back(network_from_datum(elements.values[i]));
    }
    return networks;
}

core::Network network_from_datum(Datum inet_value) {
    return call([&] { return to_network(DatumGetInetPP(inet_value)); });
}

core::Instant instant(TimestampTz timestamp) {
    // Saturates: infinity, and PostgreSQL's last 30 years, lie beyond what can be counted from 1970.
    std::int64_t microseconds = 0;
    if (__builtin_add_overflow(timestamp, unix_epoch_us, &microseconds)) {
        return core::Instant::max();
    }
    return core::Instant(std::chrono::microseconds(microseconds));
}

TimestampTz timestamp(core::Instant instant) {
    return instant.time_since_epoch().count() - unix_epoch_us;
}

core::Instant now() {
    return instant(GetCurrentTimestamp());
}

std::int64_t unix_seconds(TimestampTz timestamp) {
    return std::chrono::floor<std::chrono::seconds>(instant(timestamp)).time_since_epoch().count();
}

std::string iso_timestamp(TimestampTz timestamp) {
    const char* text = call([&]() -> const char* {
        struct pg_tm parts;
        fsec_t fraction;
        if (timestamp2tm(timestamp, nullptr, &parts, &fraction, nullptr, nullptr) != 0) {
            ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
        }
        return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year, parts.tm_mon, parts.tm_mday,
                        parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<int>(fraction));
    });
    return text;
}

void random_bytes(std::span<std::uint8_t> out) {
    if (!pg_strong_random(out.data(), out.size())) {
        throw Failure(ERRCODE_INTERNAL_ERROR, "could not get strong random bytes");
    }
}

Datum user_name(Oid user) {
    return call([&] {
        auto* name = static_cast<Name>(palloc0(NAMEDATALEN));
        namestrcpy(name, GetUserNameFromId(user, false));
        return NameGetDatum(name);
    });
}

void throw_if_interrupted() {
    if (InterruptPending && (QueryCancelPending || ProcDiePending) && InterruptHoldoffCount == 0 &&
        CritSectionCount == 0) {
        throw Interrupted{};
    }
}

std::optional<std::string_view> text_argument(FunctionCallInfo fcinfo, int index) {
    if (PG_ARGISNULL(index)) {
        return std::nullopt;
    }
    return text_view(PG_GETARG_DATUM(index));
}

namespace {

/** Are these the columns of the descriptor, but for those that were dropped? */
bool is_shaped(TupleDesc descriptor, std::span<const Oid> types) {
    std::size_t next = 0;
    for (int i = 0; i < descriptor->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(descriptor, i);
        if (!attribute->attisdropped) {
            if (next == types.size() || attribute->atttypid != types[next]) {
                return false;
            }
            next++;
        }
    }
    return next == types.size();
}

/** For use inside pg::call(). Dropped columns are NULL. */
HeapTuple form_around_dropped(TupleDesc descriptor, const Datum* values, const bool* nulls) {
    const auto width = static_cast<std::size_t>(descriptor->natts);
    auto* all_values = static_cast<Datum*>(palloc0(sizeof(Datum) * width));
    auto* all_nulls = static_cast<bool*>(palloc0(width));
    for (std::size_t i = 0; i < width; i++) {
        all_nulls[i] = TupleDescAttr(descriptor, static_cast<int>(i))->attisdropped;
        if (!all_nulls[i]) {
            all_values[i] = *values++;
            all_nulls[i] = *nulls++;
        }
    }
    return heap_form_tuple(descriptor, all_values, all_nulls);
}

}  // namespace

Datum make_composite(FunctionCallInfo fcinfo, std::span<Datum> values, std::span<bool> nulls,
                     std::span<const Oid> types) {
    return call([&] {
        TupleDesc descriptor = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE ||
            !is_shaped(descriptor, types)) {
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("function result has another shape than this library expects"),
                            errhint("%s", remedy(raw_installed()))));
        }
        descriptor = BlessTupleDesc(descriptor);
        return HeapTupleGetDatum(descriptor->natts == static_cast<int>(values.size())
                                     ? heap_form_tuple(descriptor, values.data(), nulls.data())
                                     : form_around_dropped(descriptor, values.data(), nulls.data()));
    });
}

}  // namespace apikey::pg
