#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "core/bytes.h"

/** Test vectors are written in hex. White space is skipped, anything else that is no digit is an error in the
 * test. */
namespace apikey::core {

inline Bytes from_hex(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    Bytes bytes;
    bool half = false;
    for (const char c : text) {
        if (c == ' ' || c == '\n') {
            continue;
        }
        const std::size_t digit = digits.find(c);
        if (digit == std::string_view::npos) {
            throw std::invalid_argument("not hex");
        }
        if (half) {
            bytes.back() = static_cast<std::uint8_t>(bytes.back() << 4 | digit);
        } else {
            bytes.push_back(static_cast<std::uint8_t>(digit));
        }
        half = !half;
    }
    if (half) {
        throw std::invalid_argument("half a byte of hex");
    }
    return bytes;
}

inline std::string to_hex(ByteView bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

}  // namespace apikey::core
