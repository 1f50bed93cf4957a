#pragma once

#include "pg/guard.h"

/** Statements run through SPI, planned once per session and kept. */
namespace apikey::pg {

/** SPI_connect to SPI_finish. Results are only good inside; what shall live longer is copied to memory(). */
class SpiSession {
  public:
    SpiSession();
    SpiSession(const SpiSession&) = delete;
    SpiSession& operator=(const SpiSession&) = delete;
    ~SpiSession();

    /** The caller's memory context. */
    MemoryContext memory() const noexcept { return memory_; }

  private:
    MemoryContext memory_;
    int exceptions_;
};

/** A parameter of a statement; NULL when not set. */
struct Parameter {
    Datum value = 0;
    bool null = true;

    Parameter() = default;
    Parameter(Datum datum) : value(datum), null(false) {}
    static Parameter of(bool present, Datum datum) { return present ? Parameter(datum) : Parameter(); }
};

/** Which rows a statement sees. `latest` also sees what others have committed since a REPEATABLE READ
 * transaction took its snapshot. */
enum class Visibility { transaction, latest };

/**
 * One kept statement. Declare it static, next to the function that runs it; constructing it does nothing, the
 * first run prepares it. Every name in `sql` must be qualified.
 */
class Statement {
  public:
    template <typename... Types>
    constexpr explicit Statement(const char* sql, Types... types)
        : sql_(sql), types_{static_cast<Oid>(types)...}, count_(sizeof...(types)) {}

    /** Inside an SpiSession. Returns the number of rows processed; they are in SPI_tuptable. */
    std::uint64_t run(std::span<const Parameter> parameters, Visibility visibility = Visibility::transaction);

  private:
    const char* sql_;
    std::array<Oid, 24> types_{};
    int count_ = 0;
    SPIPlanPtr plan_ = nullptr;
};

/** Column `number` (from 1) of row `row` of the last result, not copied; nullopt for NULL. */
std::optional<Datum> result_value(std::uint64_t row, int number);

}  // namespace apikey::pg
