#pragma once

#include <string_view>

namespace apikey::core {

/** C0, DEL and, in UTF-8, C1: they have no place in a name, and would go on into logs and terminals. */
inline bool has_control_character(std::string_view text) {
    unsigned char before = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte >= 0x80 && byte < 0xa0)) {
            return true;
        }
        before = byte;
    }
    return false;
}

/** Text that people gave something as a name: 1 to 255 bytes, no control characters. Any encoding that leaves
 * ASCII alone. */
inline bool is_valid_label(std::string_view text) {
    return !text.empty() && text.size() <= 255 && !has_control_character(text);
}

}  // namespace apikey::core
