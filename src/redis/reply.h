#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apikey::redis {

/** What Redis answers to one command. */
struct Reply {
    enum class Type : std::uint8_t { nil, text, integer, array, error };

    Type type = Type::nil;
    std::int64_t integer = 0;
    std::string text;  ///< of a text, which a status is too, or an error
    std::vector<Reply> elements;

    bool is_nil() const noexcept { return type == Type::nil; }
    bool is_text() const noexcept { return type == Type::text; }
    bool is_text(std::string_view expected) const noexcept { return is_text() && text == expected; }
    bool is_integer() const noexcept { return type == Type::integer; }
    bool is_array() const noexcept { return type == Type::array; }
    bool is_array(std::size_t at_least) const noexcept { return is_array() && elements.size() >= at_least; }
    bool is_error() const noexcept { return type == Type::error; }
};

}  // namespace apikey::redis
