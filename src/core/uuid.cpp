#include "core/uuid.h"

#include <algorithm>

namespace apikey::core {
namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";

/** RFC 9562 section 4: 8-4-4-4-12. */
constexpr bool is_hyphen_position(std::size_t i) {
    return i == 8 || i == 13 || i == 18 || i == 23;
}

int nibble_of(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return -1;
}

}  // namespace

std::string to_string(const Uuid& id) {
    std::string text;
    text.reserve(36);
    for (const std::uint8_t byte : id.bytes) {
        if (is_hyphen_position(text.size())) {
            text += '-';
        }
        text += hex_digits[byte >> 4];
        text += hex_digits[byte & 15];
    }
    return text;
}

std::optional<Uuid> uuid_from_string(std::string_view text) {
    if (text.size() != 36) {
        return std::nullopt;
    }
    Uuid id;
    std::size_t nibbles = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (is_hyphen_position(i)) {
            if (text[i] != '-') {
                return std::nullopt;
            }
            continue;
        }
        const int nibble = nibble_of(text[i]);
        if (nibble < 0) {
            return std::nullopt;
        }
        std::uint8_t& byte = id.bytes[nibbles++ / 2];
        byte = static_cast<std::uint8_t>(byte << 4 | nibble);
    }
    return id;
}

Uuid uuid_v7(std::chrono::sys_time<std::chrono::microseconds> now,
             const std::array<std::uint8_t, 8>& random) {
    // floor, not a cast: a time before 1970 must not get a negative fraction.
    const auto milliseconds = std::chrono::floor<std::chrono::milliseconds>(now);
    const auto unix_ts_ms = static_cast<std::uint64_t>(milliseconds.time_since_epoch().count());
    const auto micros = static_cast<std::uint32_t>((now - milliseconds).count());
    const std::uint32_t rand_a = micros * 4096 / 1000;

    Uuid id;
    for (std::size_t i = 0; i < 6; ++i) {
        id.bytes[i] = static_cast<std::uint8_t>(unix_ts_ms >> (40 - 8 * i));
    }
    id.bytes[6] = static_cast<std::uint8_t>(0x70 | rand_a >> 8);
    id.bytes[7] = static_cast<std::uint8_t>(rand_a);
    std::copy(random.begin(), random.end(), id.bytes.begin() + 8);
    id.bytes[8] = static_cast<std::uint8_t>(0x80 | (id.bytes[8] & 0x3F));
    return id;
}

}  // namespace apikey::core
