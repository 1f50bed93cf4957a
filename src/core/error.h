#pragma once

#include <stdexcept>
#include <string>

namespace apikey::core {

/** The caller gave something that can never be right. Becomes SQLSTATE 22023. */
class InvalidArgument : public std::runtime_error {
  public:
    explicit InvalidArgument(const std::string& message, std::string hint = {})
        : std::runtime_error(message), hint_(std::move(hint)) {}

    /** What would be right; empty when the message says it all. */
    const std::string& hint() const noexcept { return hint_; }

  private:
    std::string hint_;
};

/** A cryptographic library call failed although its input was right (no memory, algorithm disabled by
 * policy). */
class CryptoError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace apikey::core
