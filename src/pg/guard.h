#pragma once

#include "pg/prelude.h"

/**
 * The wall from PostgreSQL into C++: a PostgreSQL error (siglongjmp) must not jump over C++ frames whose
 * destructors would then never run.
 *
 * Every backend function that can ereport is called inside pg::call(). The error comes out as the exception
 * pg::Error, which carries the whole ErrorData (SQLSTATE, message, detail, hint, context ...), unwinds the
 * C++ frames, and is raised again at the boundary (boundary.h).
 *
 *     right:  Relation rel = pg::call([&] { return table_open(oid, AccessShareLock); });
 *     wrong:  pg::call([&] { std::string name = ...; return lookup(name.c_str()); });   // the longjmp skips
 * ~string
 *
 * The hole that cannot be closed by the compiler: the callable itself is a frame that the longjmp crosses, so
 * it may hold trivial locals only. Captures by reference are fine.
 *
 * A pg::Error, or another exception in its place, must reach the boundary: PostgreSQL's state (locks,
 * buffers, a half-done command) is only right again after the transaction aborts. Nobody catches it to go on.
 */
namespace apikey::pg {

class Error final : public std::exception {
  public:
    explicit Error(ErrorData* data) noexcept : data_(data) {}
    const char* what() const noexcept override { return data_->message == nullptr ? "" : data_->message; }
    int sqlstate() const noexcept { return data_->sqlerrcode; }
    ErrorData* data() const noexcept { return data_; }

  private:
    ErrorData* data_;  // in the memory context that was current at pg::call(); it goes with that context
};

/** Takes the error that was just raised out of PostgreSQL's error stack. Throws Error, or std::bad_alloc when
 * there is no memory to copy it. */
[[noreturn]] void throw_current_error(MemoryContext context);

/** What sigsetjmp needs to be put back, also when a C++ exception passes. Trivial to destroy twice over: it
 * only assigns. */
class ErrorStackScope {
  public:
    ErrorStackScope() noexcept
        : exception_stack_(PG_exception_stack),
          context_stack_(error_context_stack),
          memory_(CurrentMemoryContext) {}
    ErrorStackScope(const ErrorStackScope&) = delete;
    ErrorStackScope& operator=(const ErrorStackScope&) = delete;
    ~ErrorStackScope() { restore(); }

    void restore() const noexcept {
        PG_exception_stack = exception_stack_;
        error_context_stack = context_stack_;
    }
    MemoryContext memory() const noexcept { return memory_; }

  private:
    sigjmp_buf* exception_stack_;
    ErrorContextCallback* context_stack_;
    MemoryContext memory_;
};

/** Runs `body`, which calls into PostgreSQL; turns an ERROR into pg::Error. The result must be trivial, as it
 * crosses a setjmp. */
template <typename Body>
auto call(Body&& body) -> decltype(body()) {
    using Result = decltype(body());
    static_assert(std::is_void_v<Result> || std::is_trivially_copyable_v<Result>);
    const ErrorStackScope scope;
    sigjmp_buf buffer;
    if (sigsetjmp(buffer, 0) == 0) {
        PG_exception_stack = &buffer;
        return body();
    }
    scope.restore();
    throw_current_error(scope.memory());
}

}  // namespace apikey::pg
