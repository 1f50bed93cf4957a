#pragma once

#include <string_view>

namespace apikey::core {

/** Text that people gave something as a name: 1 to 255 bytes, no control characters. Any encoding that leaves
 * ASCII alone. */
inline bool is_valid_label(std::string_view text) {
    if (text.empty() || text.size() > 255) {
        return false;
    }
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return true;
}

}  // namespace apikey::core
