#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace apikey::core {

/** Writes a JSON object member by member, in the order given. Text that is not UTF-8 is written with U+FFFD
 * in place of the bad bytes. */
class JsonWriter {
  public:
    JsonWriter& add(std::string_view name, std::string_view value);
    JsonWriter& add(std::string_view name, const char* value) { return add(name, std::string_view(value)); }
    JsonWriter& add(std::string_view name, std::int64_t value);
    JsonWriter& add(std::string_view name, std::span<const std::string> values);
    /** All members of another object. */
    JsonWriter& add_members(const JsonWriter& other);

    bool empty() const noexcept { return members_.empty(); }
    std::string text() const { return "{" + members_ + "}"; }

  private:
    void begin(std::string_view name);
    std::string members_;
};

}  // namespace apikey::core
