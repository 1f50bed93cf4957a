#include "core/base64url.h"

#include <array>

namespace apikey::core {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::uint8_t no_digit = 0x80;

constexpr std::array<std::uint8_t, 256> make_digits() {
    std::array<std::uint8_t, 256> digits{};
    digits.fill(no_digit);
    for (std::size_t i = 0; i < alphabet.size(); ++i) {
        digits[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::uint8_t>(i);
    }
    return digits;
}

constexpr std::array<std::uint8_t, 256> digits = make_digits();

std::uint32_t digit_of(char c) {
    return digits[static_cast<std::uint8_t>(c)];
}

}  // namespace

void base64url_encode_to(ByteView bytes, std::span<char> out) {
    char* to = out.data();
    std::size_t i = 0;
    for (; i + 3 <= bytes.size(); i += 3) {
        const std::uint32_t group =
            std::uint32_t{bytes[i]} << 16 | std::uint32_t{bytes[i + 1]} << 8 | bytes[i + 2];
        *to++ = alphabet[group >> 18];
        *to++ = alphabet[group >> 12 & 63];
        *to++ = alphabet[group >> 6 & 63];
        *to++ = alphabet[group & 63];
    }
    if (bytes.size() - i == 1) {
        *to++ = alphabet[bytes[i] >> 2];
        *to++ = alphabet[(bytes[i] & 3) << 4];
    } else if (bytes.size() - i == 2) {
        const std::uint32_t group = std::uint32_t{bytes[i]} << 8 | bytes[i + 1];
        *to++ = alphabet[group >> 10];
        *to++ = alphabet[group >> 4 & 63];
        *to++ = alphabet[(group & 15) << 2];
    }
}

std::string base64url_encode(ByteView bytes) {
    std::string text(base64url_length(bytes.size()), '\0');
    base64url_encode_to(bytes, text);
    return text;
}

std::optional<Bytes> base64url_decode(std::string_view text) {
    const std::size_t tail = text.size() % 4;
    if (tail == 1) {
        return std::nullopt;
    }
    Bytes bytes(text.size() / 4 * 3 + (tail == 0 ? 0 : tail - 1));
    std::uint8_t* to = bytes.data();
    // Every digit is or-ed into `seen`, so that the loop needs no branch: a foreign character shows in its
    // top bit.
    std::uint32_t seen = 0;
    std::size_t i = 0;
    for (; i + 4 <= text.size(); i += 4) {
        const std::uint32_t a = digit_of(text[i]), b = digit_of(text[i + 1]), c = digit_of(text[i + 2]),
                            d = digit_of(text[i + 3]);
        seen |= a | b | c | d;
        const std::uint32_t group = a << 18 | b << 12 | c << 6 | d;
        *to++ = static_cast<std::uint8_t>(group >> 16);
        *to++ = static_cast<std::uint8_t>(group >> 8);
        *to++ = static_cast<std::uint8_t>(group);
    }
    std::uint32_t unused_bits = 0;
    if (tail == 2) {
        const std::uint32_t a = digit_of(text[i]), b = digit_of(text[i + 1]);
        seen |= a | b;
        unused_bits = b & 15;
        *to++ = static_cast<std::uint8_t>(a << 2 | b >> 4);
    } else if (tail == 3) {
        const std::uint32_t a = digit_of(text[i]), b = digit_of(text[i + 1]), c = digit_of(text[i + 2]);
        seen |= a | b | c;
        unused_bits = c & 3;
        const std::uint32_t group = a << 10 | b << 4 | c >> 2;
        *to++ = static_cast<std::uint8_t>(group >> 8);
        *to++ = static_cast<std::uint8_t>(group);
    }
    // RFC 4648 section 3.5: unused bits that are not zero would give one byte string several texts.
    if ((seen & no_digit) != 0 || unused_bits != 0) {
        return std::nullopt;
    }
    return bytes;
}

}  // namespace apikey::core
