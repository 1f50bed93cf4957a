#pragma once

#include <compare>
#include <string_view>

namespace apikey::core {

/** Orders version names such as "0.1.0" and "0.10": numbers between the dots by their value, other parts as
 * text. What is missing at the end of one counts as 0. */
std::strong_ordering compare_versions(std::string_view a, std::string_view b);

}  // namespace apikey::core
