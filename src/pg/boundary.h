#pragma once

#include "pg/failure.h"
#include "pg/guard.h"

/**
 * The wall from C++ out to PostgreSQL: no C++ exception may cross a C frame, and ereport must not be called
 * while an exception object or a destructor is pending. Every SQL-callable function and hook runs its body in
 * pg::boundary().
 */
namespace apikey::pg {

/** What is left of an exception once it has been destroyed. Trivial, so that ereport can jump away from it.
 */
struct Report {
    ErrorData* postgres = nullptr;  ///< raise this again, unchanged
    bool interrupted = false;
    int sqlstate = 0;
    const char* message = nullptr;
    const char* detail = nullptr;
    const char* hint = nullptr;
};

/** To be called in a catch block: describes the exception in flight. Neither throws nor raises. */
Report describe_current_exception() noexcept;

/** ereport(ERROR) of what was described. To be called with no C++ object alive. */
[[noreturn]] void raise(const Report& report);

template <typename Body>
auto boundary(Body&& body) -> decltype(body()) {
    static_assert(std::is_void_v<decltype(body())> || std::is_trivially_copyable_v<decltype(body())>);
    Report report;
    try {
        return body();
    } catch (...) {
        report = describe_current_exception();
    }
    raise(report);
}

}  // namespace apikey::pg

/** Defines a SQL-callable function: PG_ENTRY(apikey_x) { ... return datum; } with `fcinfo` at hand. The body
 * is plain C++. */
#define PG_ENTRY(name)                                                                      \
    extern "C" {                                                                            \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                               \
    PG_FUNCTION_INFO_V1(name);                                                              \
    }                                                                                       \
    static Datum name##_body(FunctionCallInfo fcinfo);                                      \
    Datum name(PG_FUNCTION_ARGS) {                                                          \
        return ::apikey::pg::boundary([fcinfo]() -> Datum { return name##_body(fcinfo); }); \
    }                                                                                       \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)
