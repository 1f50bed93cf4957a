#pragma once

#include <string_view>

#include "core/token.h"

namespace apikey::core {

/** For a text that begins with opaque_prefix. Internal to parse_token. */
ParsedToken parse_opaque_token(std::string_view text);

}  // namespace apikey::core
