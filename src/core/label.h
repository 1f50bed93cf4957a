#pragma once

#include <cstddef>
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

/** In UTF-8, the characters that change the direction of what follows (Unicode Standard Annex 9): U+061C,
 * U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069. A name with one of them is shown as another one. */
inline bool has_bidirectional_control(std::string_view text) {
    const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    for (std::size_t i = 0; i + 1 < text.size(); i++) {
        if (byte(i) == 0xd8 && byte(i + 1) == 0x9c) {
            return true;
        }
        if (byte(i) != 0xe2 || i + 2 >= text.size()) {
            continue;
        }
        const unsigned char last = byte(i + 2);
        if ((byte(i + 1) == 0x80 && (last == 0x8e || last == 0x8f || (last >= 0xaa && last <= 0xae))) ||
            (byte(i + 1) == 0x81 && last >= 0xa6 && last <= 0xa9)) {
            return true;
        }
    }
    return false;
}

/** Text that people gave something as a name: 1 to 255 bytes, no control characters, those of the writing
 * direction included. Any encoding that leaves ASCII alone. */
inline bool is_valid_label(std::string_view text) {
    return !text.empty() && text.size() <= 255 && !has_control_character(text) &&
           !has_bidirectional_control(text);
}

/** For the hint of whoever refuses one. */
inline constexpr const char* label_rule =
    "It takes 1 to 255 bytes without control characters, bidirectional ones included.";

}  // namespace apikey::core
