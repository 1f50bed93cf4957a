#pragma once

#include <span>
#include <string_view>

#include "core/bytes.h"

/** Fixed-width base62: the bytes as one big-endian number, digits 0-9A-Za-z, most significant first, leading
 * zeros kept. */
namespace apikey::core {

inline constexpr std::size_t base62_max_size = 32;

/** Digits that any value of `size` bytes fits into. log2(62) = 5.9541963..., rounded down here, so the result
 * is never short. */
constexpr std::size_t base62_length(std::size_t size) {
    return (size * 8 * 10000 + 59540) / 59541;
}

/** `bytes`: a multiple of 4, at most base62_max_size. `out`: exactly base62_length(bytes.size()). */
void base62_encode_to(ByteView bytes, std::span<char> out);

/** False when a character is no digit, the width is wrong or the value needs more than out.size() bytes.
 * Sizes as above. */
bool base62_decode(std::string_view text, std::span<std::uint8_t> out);

}  // namespace apikey::core
