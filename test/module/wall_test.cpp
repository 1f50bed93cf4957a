/**
 * C++ behind SQL functions that raise, throw and count destructors: test/sql/walls.sql proves the walls
 * between PostgreSQL and C++ (pg/guard.h, pg/boundary.h) with them. For tests only, a library of its own.
 */
#include <csignal>
#include <limits>
#include <new>

#include "core/error.h"
#include "pg/boundary.h"
#include "pg/datum.h"
#include "pg/module_magic.h"

extern "C" {
APIKEY_MODULE_MAGIC("apikey_wall_test", nullptr);
}

using namespace apikey;

namespace {

struct Observed {
    std::int64_t constructed = 0;
    std::int64_t destroyed = 0;
    bool stacks_restored = false;
    bool memory_restored = false;
};

Observed observed;

/** Stands for every C++ object that owns something. */
class Witness {
  public:
    Witness() noexcept { observed.constructed++; }
    Witness(const Witness& /*other*/) noexcept { observed.constructed++; }
    Witness& operator=(const Witness&) = default;
    ~Witness() { observed.destroyed++; }
};

/** An exception that owns something: it must be gone before PostgreSQL takes over. */
class WitnessedException : public std::exception {
  public:
    const char* what() const noexcept override { return "a C++ exception, 100% of it"; }

  private:
    Witness witness_;
};

/** The callable of pg::call() may hold trivial locals only, and so throws from a function of its own. */
[[noreturn]] void throw_exception() {
    throw WitnessedException();
}

struct PostgresState {
    sigjmp_buf* exception_stack = PG_exception_stack;
    ErrorContextCallback* context_stack = error_context_stack;
    MemoryContext memory = CurrentMemoryContext;

    void compare() const {
        observed.stacks_restored =
            exception_stack == PG_exception_stack && context_stack == error_context_stack;
        observed.memory_restored = memory == CurrentMemoryContext;
    }
};

void add_context(void* /*argument*/) {
    errcontext("the context of the error");
}

/** An error with every field that a client can see, raised from another memory context and with a callback of
 * its own. */
void raise_everything() {
    static ErrorContextCallback callback;
    callback = {error_context_stack, add_context, nullptr};
    error_context_stack = &callback;
    MemoryContextSwitchTo(TopMemoryContext);
    ereport(ERROR,
            (errcode(ERRCODE_CHECK_VIOLATION), errmsg("the message, 100%% of it"), errdetail("the detail"),
             errhint("the hint"), err_generic_string(PG_DIAG_SCHEMA_NAME, "the_schema"),
             err_generic_string(PG_DIAG_TABLE_NAME, "the_table"),
             err_generic_string(PG_DIAG_COLUMN_NAME, "the_column"),
             err_generic_string(PG_DIAG_DATATYPE_NAME, "the_type"),
             err_generic_string(PG_DIAG_CONSTRAINT_NAME, "the_constraint")));
}

#if PG_VERSION_NUM >= 170000
void* no_memory(MemoryContext /*context*/, Size /*size*/, int flags) {
    if ((flags & MCXT_ALLOC_NO_OOM) == 0) {
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("the context has no memory")));
    }
    return nullptr;
}
#else
void* no_memory(MemoryContext /*context*/, Size /*size*/) {
    return nullptr;
}
#endif

/** From here on palloc fails, as it does when the machine has no memory left. */
void starve() {
    pg::call([] {
        static MemoryContextMethods methods;
        MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "starved", ALLOCSET_SMALL_SIZES);
        methods = *context->methods;
        methods.alloc = no_memory;
        context->methods = &methods;
        MemoryContextSwitchTo(context);
    });
}

void no_error() {
    const int answer = pg::call([] { return 42; });
    if (answer != 42) {
        throw std::logic_error("pg::call() lost its result");
    }
}

void postgres_error() {
    pg::call([] { raise_everything(); });
}

void failure() {
    throw pg::Failure(MAKE_SQLSTATE('P', 'T', '4', '0', '9'), "the message, 100%s of it, %d",
                      "the detail, %n", "the hint, %m");
}

void bare_failure() {
    throw pg::Failure(ERRCODE_INSUFFICIENT_PRIVILEGE, "nothing but a message");
}

void invalid_argument() {
    throw core::InvalidArgument("what is wrong", "what would be right");
}

void crypto_error() {
    throw core::CryptoError("the cryptographic library failed");
}

void bad_alloc() {
    volatile std::size_t too_much = std::numeric_limits<std::ptrdiff_t>::max();
    ::operator delete(::operator new(too_much));
}

void thrown_int() {
    throw 42;
}

void interrupted() {
    throw pg::Interrupted{};
}

/** A signal to oneself is delivered before kill() returns. */
void cancelled() {
    kill(getpid(), SIGINT);
    pg::throw_if_interrupted();
    throw std::logic_error("the interruption went unnoticed");
}

void exception_through_call() {
    pg::call([] { throw_exception(); });
}

void exception_then_postgres_error() {
    try {
        pg::call([] { throw_exception(); });
    } catch (const WitnessedException&) {
        postgres_error();
    }
}

/** A C++ function called by PostgreSQL, called by a C++ function, and so on. */
void postgres_error_below_calls(int depth) {
    const Witness witness;
    pg::call([depth] {
        if (depth == 0) {
            raise_everything();
        }
        postgres_error_below_calls(depth - 1);
    });
}

void nested_calls() {
    postgres_error_below_calls(20);
}

void nested_entries();

void starved_postgres_error() {
    starve();
    postgres_error();
}

void starved_failure() {
    starve();
    failure();
}

struct Scenario {
    std::string_view name;
    void (*run)();
};

constexpr std::array scenarios = {
    Scenario{"no_error", no_error},
    Scenario{"postgres_error", postgres_error},
    Scenario{"failure", failure},
    Scenario{"bare_failure", bare_failure},
    Scenario{"invalid_argument", invalid_argument},
    Scenario{"crypto_error", crypto_error},
    Scenario{"bad_alloc", bad_alloc},
    Scenario{"exception", throw_exception},
    Scenario{"thrown_int", thrown_int},
    Scenario{"interrupted", interrupted},
    Scenario{"cancelled", cancelled},
    Scenario{"exception_through_call", exception_through_call},
    Scenario{"exception_then_postgres_error", exception_then_postgres_error},
    Scenario{"nested_calls", nested_calls},
    Scenario{"nested_entries", nested_entries},
    Scenario{"starved_postgres_error", starved_postgres_error},
    Scenario{"starved_failure", starved_failure},
};

/** The frames that have to be unwound. */
void descend(int depth, const Scenario& scenario) {
    const Witness witness;
    if (depth > 0) {
        descend(depth - 1, scenario);
    } else {
        scenario.run();
    }
}

const Scenario& find_scenario(std::string_view name) {
    const auto* found = std::find_if(scenarios.begin(), scenarios.end(),
                                     [name](const Scenario& scenario) { return scenario.name == name; });
    if (found == scenarios.end()) {
        throw core::InvalidArgument("there is no such scenario");
    }
    return *found;
}

}  // namespace

/** wall_nested(depth integer): at depth 0 a C++ exception, else itself by way of PostgreSQL's function call.
 */
PG_ENTRY(wall_nested) {
    const Witness witness;
    const std::int32_t depth = PG_GETARG_INT32(0);
    if (depth == 0) {
        failure();
    }
    return pg::call([depth] { return DirectFunctionCall1(wall_nested, Int32GetDatum(depth - 1)); });
}

namespace {

void nested_entries() {
    pg::call([] { DirectFunctionCall1(wall_nested, Int32GetDatum(20)); });
}

}  // namespace

/** wall_run(scenario text, depth integer): the scenario, below so many C++ frames. */
PG_ENTRY(wall_run) {
    const Scenario& scenario = find_scenario(pg::text_view(PG_GETARG_DATUM(0)));
    const std::int32_t depth = PG_GETARG_INT32(1);
    observed = {};
    const PostgresState before;
    try {
        descend(depth, scenario);
    } catch (...) {
        before.compare();
        throw;
    }
    before.compare();
    PG_RETURN_VOID();
}

/** wall_observed(OUT constructed bigint, OUT destroyed bigint, OUT stacks_restored boolean, OUT
 * memory_restored boolean): what happened to C++ objects and to PostgreSQL's stacks in the last wall_run(),
 * by now. */
PG_ENTRY(wall_observed) {
    std::array<Datum, 4> values = {Int64GetDatum(observed.constructed), Int64GetDatum(observed.destroyed),
                                   BoolGetDatum(observed.stacks_restored),
                                   BoolGetDatum(observed.memory_restored)};
    std::array<bool, 4> nulls{};
    return pg::make_composite(fcinfo, values, nulls, std::array<Oid, 4>{INT8OID, INT8OID, BOOLOID, BOOLOID});
}
