#pragma once

#include <string_view>

namespace apikey::pg {

/** Of this shared library; of apikey.control's default_version. */
std::string_view library_version();

}  // namespace apikey::pg
