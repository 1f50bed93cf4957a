#include "core/redis_slot.h"

#include <array>

namespace apikey::core {
namespace {

/** CRC-16/XMODEM: polynomial 0x1021, from 0, not reflected. */
constexpr std::array<std::uint16_t, 256> crc_table = [] {
    std::array<std::uint16_t, 256> table{};
    for (unsigned value = 0; value < table.size(); value++) {
        unsigned crc = value << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000U) != 0 ? (crc << 1) ^ 0x1021U : crc << 1;
        }
        table[value] = static_cast<std::uint16_t>(crc);
    }
    return table;
}();

std::string_view hash_tag(std::string_view key) {
    const auto open = key.find('{');
    if (open == std::string_view::npos) {
        return key;
    }
    const auto close = key.find('}', open + 1);
    if (close == std::string_view::npos || close == open + 1) {
        return key;
    }
    return key.substr(open + 1, close - open - 1);
}

}  // namespace

std::uint16_t redis_slot(std::string_view key) {
    unsigned crc = 0;
    for (const char c : hash_tag(key)) {
        crc = ((crc << 8) & 0xffffU) ^ crc_table[(crc >> 8) ^ static_cast<unsigned char>(c)];
    }
    return static_cast<std::uint16_t>(crc % redis_slots);
}

}  // namespace apikey::core
