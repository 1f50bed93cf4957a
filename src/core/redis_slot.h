#pragma once

#include <cstdint>
#include <string_view>

namespace apikey::core {

inline constexpr int redis_slots = 16384;

/** In which of Redis Cluster's slots a key is: CRC-16 of its hash tag (what is between the first { and the
 * next }, if that is anything), else of all of it. */
std::uint16_t redis_slot(std::string_view key);

}  // namespace apikey::core
