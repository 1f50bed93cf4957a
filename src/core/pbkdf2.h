#pragma once

#include <cstdint>
#include <span>

#include "core/bytes.h"

namespace apikey::core {

/** Called between slices of a long derivation (about every 4096 iterations). May throw to give up: nothing is
 * left half done. */
using InterruptCheck = void (*)();

/** RFC 8018 section 5.2 with HMAC-SHA-256. `iterations` >= 1, `out` of any size >= 1 (InvalidArgument
 * otherwise). */
void pbkdf2_hmac_sha256(ByteView password, ByteView salt, std::uint32_t iterations,
                        std::span<std::uint8_t> out, InterruptCheck interrupt_check = nullptr);

}  // namespace apikey::core
