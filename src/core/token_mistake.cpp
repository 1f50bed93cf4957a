#include "core/token_mistake.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/jws.h"
#include "core/uuid.h"

namespace apikey::core {
namespace {

enum class Kind : std::uint8_t {
    ordinary,  ///< may be part of a token
    white_space,
    line_break,
    quotation_mark,
    ellipsis,
    invisible,
    foreign,  ///< anything else
};

struct Character {
    Kind kind = Kind::foreign;
    std::size_t size = 1;  ///< in bytes
};

Kind kind_of_ascii(unsigned char c) {
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-' ||
        c == '.') {
        return Kind::ordinary;
    }
    switch (c) {
        case ' ':
        case '\t':
            return Kind::white_space;
        case '\n':
        case '\v':
        case '\f':
        case '\r':
            return Kind::line_break;
        case '"':
        case '\'':
        case '`':
            return Kind::quotation_mark;
        default:
            return c < 0x20 || c == 0x7f ? Kind::invisible : Kind::foreign;
    }
}

Kind kind_of_code_point(std::uint32_t c) {
    const auto between = [c](std::uint32_t first, std::uint32_t last) { return c >= first && c <= last; };
    if (c == 0x85 || c == 0x2028 || c == 0x2029) {
        return Kind::line_break;
    }
    if (c == 0xa0 || c == 0x1680 || between(0x2000, 0x200a) || c == 0x202f || c == 0x205f || c == 0x3000) {
        return Kind::white_space;
    }
    // C1, soft hyphen, zero-width and bidirectional characters, byte order mark.
    if (between(0x80, 0x9f) || c == 0xad || c == 0x61c || c == 0x180e || between(0x200b, 0x200f) ||
        between(0x202a, 0x202e) || between(0x2060, 0x206f) || between(0xfe00, 0xfe0f) || c == 0xfeff) {
        return Kind::invisible;
    }
    if (c == 0xab || c == 0xbb || between(0x2018, 0x201f) || c == 0x2039 || c == 0x203a) {
        return Kind::quotation_mark;
    }
    return c == 0x2026 ? Kind::ellipsis : Kind::foreign;
}

constexpr bool is_continuation(unsigned char c) {
    return (c & 0xc0) == 0x80;
}

/** The character at `at`: of UTF-8, as far as the Basic Multilingual Plane goes; any other byte is one of its
 * own. */
Character character_at(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const std::size_t left = text.size() - at;
    if (byte(0) < 0x80) {
        return {kind_of_ascii(byte(0)), 1};
    }
    if ((byte(0) & 0xe0) == 0xc0 && left >= 2 && is_continuation(byte(1))) {
        return {kind_of_code_point((byte(0) & 0x1fU) << 6 | (byte(1) & 0x3fU)), 2};
    }
    if ((byte(0) & 0xf0) == 0xe0 && left >= 3 && is_continuation(byte(1)) && is_continuation(byte(2))) {
        return {kind_of_code_point((byte(0) & 0xfU) << 12 | (byte(1) & 0x3fU) << 6 | (byte(2) & 0x3fU)), 3};
    }
    return {};
}

Character last_character(std::string_view text) {
    for (std::size_t size = std::min<std::size_t>(3, text.size()); size > 1; size--) {
        const Character character = character_at(text, text.size() - size);
        if (character.size == size) {
            return character;
        }
    }
    return character_at(text, text.size() - 1);
}

bool is_blank(Kind kind) {
    return kind == Kind::white_space || kind == Kind::line_break;
}

bool starts_with_ignoring_case(std::string_view text, std::string_view lower) {
    return text.size() >= lower.size() &&
           std::equal(lower.begin(), lower.end(), text.begin(), [](char expected, char found) {
               return expected == (found >= 'A' && found <= 'Z' ? found + ('a' - 'A') : found);
           });
}

bool has_header_in_front(std::string_view text) {
    for (const std::string_view word : {"bearer", "basic", "token", "authorization", "apikey", "x-api-key"}) {
        if (starts_with_ignoring_case(text, word) && text.size() > word.size() &&
            (text[word.size()] == ' ' || text[word.size()] == ':' || text[word.size()] == '=')) {
            return true;
        }
    }
    return false;
}

std::string_view mistake_at_the_ends(std::string_view text) {
    const Kind first = character_at(text, 0).kind;
    const Kind last = last_character(text).kind;
    if (is_blank(first)) {
        return first == Kind::line_break ? "a line break at the beginning" : "white space at the beginning";
    }
    if (has_header_in_front(text)) {
        return "a word of the HTTP header, such as Bearer, in front";
    }
    if (is_blank(last)) {
        return last == Kind::line_break ? "a line break at the end" : "white space at the end";
    }
    if (first == Kind::quotation_mark) {
        return "a quotation mark at the beginning";
    }
    if (last == Kind::quotation_mark) {
        return "a quotation mark at the end";
    }
    const bool is_token_in_front =
        text.size() <= max_jws_size && (text.starts_with("ak_") || text.starts_with("eyJ"));
    if (is_token_in_front && (last == Kind::ellipsis || text.ends_with("..."))) {
        return "cut off, with an ellipsis at the end";
    }
    if (last == Kind::foreign) {
        return "a character that no token has at the end";
    }
    return {};
}

/** Of the first character that no token has. */
std::string_view mistake_within(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        switch (character.kind) {
            case Kind::ordinary:
                break;
            case Kind::white_space:
                return "white space within";
            case Kind::line_break:
                return "a line break within";
            case Kind::invisible:
                return "an invisible character, such as a zero-width space or a byte order mark";
            default:
                return "a character that no token has";
        }
        at += character.size;
    }
    return {};
}

bool is_blank(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        if (!is_blank(character.kind)) {
            return false;
        }
        at += character.size;
    }
    return true;
}

bool is_uuid(std::string_view text) {
    std::string lower(text.substr(0, 37));
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
    return uuid_from_string(lower).has_value();
}

}  // namespace

std::string_view likely_mistake(std::string_view text) {
    if (text.empty()) {
        return "empty";
    }
    const bool is_short = text.size() <= max_jws_size;
    if (is_short && is_blank(text)) {
        return "nothing but white space";
    }
    const std::string_view mistake = mistake_at_the_ends(text);
    if (!mistake.empty() || !is_short) {
        return mistake;
    }
    return is_uuid(text) ? "a UUID, such as the id of a key, and no token" : mistake_within(text);
}

}  // namespace apikey::core
