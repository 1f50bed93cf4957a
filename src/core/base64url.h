#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/bytes.h"

namespace apikey::core {

/** Base64url without padding (RFC 4648 section 5, as RFC 7515 section 2 uses it). */
std::string base64url_encode(ByteView bytes);

/** Number of characters that base64url_encode makes of `size` bytes. */
constexpr std::size_t base64url_length(std::size_t size) {
    return (size * 4 + 2) / 3;
}

/** Into a buffer of exactly base64url_length(bytes.size()) characters: for secrets, whose buffer is wiped. */
void base64url_encode_to(ByteView bytes, std::span<char> out);

/**
 * The one strict reading: no padding, no white space, no other alphabet, and the unused bits of the last
 * character are zero, so that each byte string has exactly one text. Anything else gives nullopt.
 */
std::optional<Bytes> base64url_decode(std::string_view text);

}  // namespace apikey::core
