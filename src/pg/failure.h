#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace apikey::pg {

/** An error of ours on its way to the SQL caller, with all that ereport takes. Never holds a token or a part
 * of one. */
class Failure : public std::runtime_error {
  public:
    Failure(int sqlstate, const std::string& message, std::string detail = {}, std::string hint = {})
        : std::runtime_error(message),
          sqlstate_(sqlstate),
          detail_(std::move(detail)),
          hint_(std::move(hint)) {}

    int sqlstate() const noexcept { return sqlstate_; }
    const std::string& detail() const noexcept { return detail_; }
    const std::string& hint() const noexcept { return hint_; }

  private:
    int sqlstate_;
    std::string detail_;
    std::string hint_;
};

/** The session was cancelled or terminated while C++ frames were open; the boundary lets PostgreSQL report
 * it. */
struct Interrupted {};

}  // namespace apikey::pg
