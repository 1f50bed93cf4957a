#pragma once

#include <cstdint>

#include "core/bytes.h"

namespace apikey::core {

/** CRC-32/ISO-HDLC: the one of zlib, Ethernet and PNG. Finds typing errors in a token; it protects against
 * nobody. */
std::uint32_t crc32(ByteView bytes);

}  // namespace apikey::core
