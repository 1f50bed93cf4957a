#include "core/version.h"

#include <algorithm>
#include <cstddef>

namespace apikey::core {
namespace {

/** The text before the next dot, which is taken off with it. */
std::string_view take_part(std::string_view& rest) {
    const std::size_t end = std::min(rest.find('.'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return part.empty() ? "0" : part;
}

bool is_number(std::string_view part) {
    return std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::strong_ordering compare_parts(std::string_view a, std::string_view b) {
    if (is_number(a) && is_number(b)) {
        a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
        b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
        if (a.size() != b.size()) {
            return a.size() <=> b.size();
        }
    }
    return a.compare(b) <=> 0;
}

}  // namespace

std::strong_ordering compare_versions(std::string_view a, std::string_view b) {
    while (!a.empty() || !b.empty()) {
        const std::strong_ordering order = compare_parts(take_part(a), take_part(b));
        if (std::is_neq(order)) {
            return order;
        }
    }
    return std::strong_ordering::equal;
}

}  // namespace apikey::core
