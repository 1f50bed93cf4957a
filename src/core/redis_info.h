#pragma once

#include <cstdint>
#include <string_view>

namespace apikey::core {

/** The value of a field in what INFO answers ("field:value" lines); empty when it is not there. */
std::string_view redis_info_field(std::string_view info, std::string_view field);

/** The same as a number; 0 when it is none. */
std::uint64_t redis_info_number(std::string_view info, std::string_view field);

}  // namespace apikey::core
