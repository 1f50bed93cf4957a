#include "core/error.h"
#include "pg/boundary.h"

namespace apikey::pg {
namespace {

/** palloc raises when memory is short, which must not happen inside a catch block. */
const char* copy(std::string_view text, const char* otherwise) noexcept {
    if (text.empty()) {
        return nullptr;
    }
    auto* memory = static_cast<char*>(
        MemoryContextAllocExtended(CurrentMemoryContext, text.size() + 1, MCXT_ALLOC_NO_OOM));
    if (memory == nullptr) {
        return otherwise;
    }
    text.copy(memory, text.size());
    memory[text.size()] = '\0';
    return memory;
}

constexpr const char* no_memory = "out of memory while reporting an error";

Report describe(int sqlstate, std::string_view message, std::string_view detail = {},
                std::string_view hint = {}) noexcept {
    Report report;
    report.sqlstate = sqlstate;
    report.message = copy(message, no_memory);
    report.detail = copy(detail, nullptr);
    report.hint = copy(hint, nullptr);
    return report;
}

}  // namespace

Report describe_current_exception() noexcept {
    try {
        throw;
    } catch (const Error& error) {
        Report report;
        report.postgres = error.data();
        return report;
    } catch (const Interrupted&) {
        Report report;
        report.interrupted = true;
        return report;
    } catch (const Failure& failure) {
        return describe(failure.sqlstate(), failure.what(), failure.detail(), failure.hint());
    } catch (const core::InvalidArgument& error) {
        return describe(ERRCODE_INVALID_PARAMETER_VALUE, error.what(), {}, error.hint());
    } catch (const std::bad_alloc&) {
        Report report;
        report.sqlstate = ERRCODE_OUT_OF_MEMORY;
        report.message = "out of memory";
        return report;
    } catch (const std::exception& error) {
        return describe(ERRCODE_INTERNAL_ERROR, error.what());
    } catch (...) {
        Report report;
        report.sqlstate = ERRCODE_INTERNAL_ERROR;
        report.message = "unknown C++ exception";
        return report;
    }
}

void raise(const Report& report) {
    if (report.postgres != nullptr) {
        ReThrowError(report.postgres);
    }
    if (report.interrupted) {
        CHECK_FOR_INTERRUPTS();
        // The cause went away in between (a cancel that was taken back): the work is undone all the same.
        ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling statement due to user request")));
    }
    ereport(ERROR,
            (errcode(report.sqlstate), errmsg_internal("%s", report.message == nullptr ? "" : report.message),
             report.detail == nullptr ? 0 : errdetail_internal("%s", report.detail),
             report.hint == nullptr ? 0 : errhint("%s", report.hint)));
    pg_unreachable();
}

}  // namespace apikey::pg
