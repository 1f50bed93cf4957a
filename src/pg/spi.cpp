#include "pg/failure.h"
#include "pg/spi.h"

namespace apikey::pg {

SpiSession::SpiSession() : memory_(CurrentMemoryContext), exceptions_(std::uncaught_exceptions()) {
    call([] { SPI_connect(); });
}

SpiSession::~SpiSession() {
    // When an exception passes, the boundary raises an error and (sub)transaction abort closes the SPI
    // session.
    if (std::uncaught_exceptions() == exceptions_) {
        SPI_finish();
    } else {
        MemoryContextSwitchTo(memory_);
    }
}

std::uint64_t Statement::run(std::span<const Parameter> parameters, Visibility visibility) {
    if (static_cast<int>(parameters.size()) != count_) {
        throw std::logic_error("wrong number of statement parameters");
    }
    const int result = call([&] {
        if (plan_ == nullptr) {
            // A generic plan: a custom one would hold hashes as constants, for debug_print_plan to show, and
            // cost planning each time.
            SPIPlanPtr plan = SPI_prepare_cursor(sql_, count_, types_.data(), CURSOR_OPT_GENERIC_PLAN);
            if (plan == nullptr) {
                elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
            }
            SPI_keepplan(plan);
            plan_ = plan;
        }
        auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (parameters.size() + 1)));
        auto* nulls = static_cast<char*>(palloc(parameters.size() + 1));
        for (std::size_t i = 0; i < parameters.size(); i++) {
            values[i] = parameters[i].value;
            nulls[i] = parameters[i].null ? 'n' : ' ';
        }
        Snapshot snapshot = InvalidSnapshot;
        if (visibility == Visibility::latest) {
            // The locks that the statement takes come first: a snapshot from before a wait would miss what
            // was committed meanwhile, and see little in a table that was written anew.
            CachedPlan* locked = SPI_plan_get_cached_plan(plan_);
            if (locked != nullptr) {
                ReleaseCachedPlan(locked, CurrentResourceOwner);
            }
            CommandCounterIncrement();
            snapshot = GetLatestSnapshot();
        }
        return SPI_execute_snapshot(plan_, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
    });
    if (result < 0) {
        throw Failure(ERRCODE_INTERNAL_ERROR, "SPI_execute_snapshot failed");
    }
    return SPI_processed;
}

std::optional<Datum> result_value(std::uint64_t row, int number) {
    if (row >= SPI_processed) {
        throw Failure(ERRCODE_INTERNAL_ERROR, "a statement returned fewer rows than it must");
    }
    bool null = false;
    const Datum value =
        call([&] { return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, &null); });
    if (null) {
        return std::nullopt;
    }
    return value;
}

}  // namespace apikey::pg
