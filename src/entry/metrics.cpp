#include "flow/metrics.h"
#include "pg/boundary.h"
#include "pg/datum.h"

using namespace apikey;

PG_ENTRY(apikey_counters) {
    pg::call([&] { InitMaterializedSRF(fcinfo, 0); });
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    for (const flow::Sample& sample : flow::samples_in_memory()) {
        std::array<Datum, 3> values = {pg::text_datum(sample.name), pg::jsonb_datum(sample.labels.text()),
                                       Float8GetDatum(sample.value)};
        std::array<bool, 3> nulls{};
        pg::call(
            [&] { tuplestore_putvalues(result->setResult, result->setDesc, values.data(), nulls.data()); });
    }
    return Datum(0);
}
