#include "core/role_name.h"

#include <algorithm>
#include <cstddef>

namespace apikey::core {
namespace {

constexpr std::string_view white_space = " \t\n\v\f\r";
constexpr std::size_t max_role_name_length = 63;

// Not <cctype>: its answers depend on the server's locale, and a name must be the same everywhere.
constexpr bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}
constexpr bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
constexpr bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

constexpr bool is_separator(char c) {
    return c == '-' || c == '_' || white_space.find(c) != std::string_view::npos;
}

}  // namespace

std::string normalize_role_name(std::string_view name) {
    const std::size_t first = name.find_first_not_of(white_space);
    if (first == std::string_view::npos) {
        return {};
    }
    name = name.substr(first, name.find_last_not_of(white_space) - first + 1);

    std::string normal;
    normal.reserve(name.size());
    bool in_separator = false;
    for (const char c : name) {
        const bool separates = is_separator(c);
        if (!separates) {
            normal += is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
        } else if (!in_separator) {
            normal += '_';
        }
        in_separator = separates;
    }
    return normal;
}

bool is_valid_role_name(std::string_view name) {
    // Of these characters only a run of underscores is not its own normal form.
    const auto is_allowed = [](char c) { return is_lower(c) || is_digit(c) || c == '_'; };
    return !name.empty() && name.size() <= max_role_name_length && is_lower(name.front()) &&
           std::all_of(name.begin(), name.end(), is_allowed) && name.find("__") == std::string_view::npos;
}

}  // namespace apikey::core
