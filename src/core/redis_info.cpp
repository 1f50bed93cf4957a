#include "core/redis_info.h"

#include <charconv>

namespace apikey::core {

std::string_view redis_info_field(std::string_view info, std::string_view field) {
    while (!info.empty()) {
        const auto end = info.find('\n');
        std::string_view line = info.substr(0, end);
        info = end == std::string_view::npos ? std::string_view() : info.substr(end + 1);
        if (!line.empty() && line.back() == '\r') {
            line.remove_suffix(1);
        }
        if (line.size() > field.size() && line.substr(0, field.size()) == field &&
            line[field.size()] == ':') {
            return line.substr(field.size() + 1);
        }
    }
    return {};
}

std::uint64_t redis_info_number(std::string_view info, std::string_view field) {
    const std::string_view text = redis_info_field(info, field);
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

}  // namespace apikey::core
