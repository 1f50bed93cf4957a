#include "core/opaque_token.h"

#include <algorithm>
#include <array>

#include "core/base62.h"
#include "core/crc32.h"
#include "core/error.h"

// ak_<environment>_<key id and generation>_<secret><CRC-32 of all before it>

namespace apikey::core {
namespace {

constexpr std::size_t id_size = 16 + 4;  ///< key id, generation big-endian
constexpr std::size_t secret_size = 32;
constexpr std::size_t checksum_size = 4;
constexpr std::size_t id_length = base62_length(id_size);
constexpr std::size_t secret_length = base62_length(secret_size);
constexpr std::size_t checksum_length = base62_length(checksum_size);
/** Everything behind the environment: its width is fixed, so that the parts are found by counting from the
 * end. */
constexpr std::size_t tail_length = 1 + id_length + 1 + secret_length + checksum_length;

std::array<std::uint8_t, 4> big_endian(std::uint32_t value) {
    return {static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
            static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}

std::uint32_t from_big_endian(ByteView bytes) {
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
           bytes[3];
}

TokenFailure malformed(const char* why) {
    return {TokenError::malformed, why};
}

}  // namespace

bool is_valid_environment(std::string_view environment) {
    return !environment.empty() && environment.size() <= 16 &&
           std::all_of(environment.begin(), environment.end(),
                       [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

namespace {

/** `environment`: what stands before the part of a fixed width. */
ParsedToken parse_parts(std::string_view text, std::string_view environment) {
    const std::string_view tail = text.substr(text.size() - tail_length);
    const std::string_view id_text = tail.substr(1, id_length);
    const std::string_view secret_text = tail.substr(1 + id_length + 1, secret_length);
    const std::string_view checksum_text = tail.substr(tail.size() - checksum_length);
    if (tail[0] != '_' || tail[1 + id_length] != '_') {
        return malformed("the parts do not have their lengths");
    }

    std::array<std::uint8_t, id_size> id;
    SecretArray<secret_size> secret;
    std::array<std::uint8_t, checksum_size> checksum;
    if (!base62_decode(id_text, id) || !base62_decode(secret_text, secret.span()) ||
        !base62_decode(checksum_text, checksum)) {
        return malformed("a part is not base62 of its size");
    }
    const std::uint32_t generation = from_big_endian(ByteView(id).last(4));
    if (generation < 1 || generation > INT32_MAX) {
        return malformed("generation out of range");
    }
    if (from_big_endian(checksum) != crc32(bytes_of(text.substr(0, text.size() - checksum_length)))) {
        return TokenFailure{TokenError::checksum, "the checksum does not match"};
    }
    OpaqueToken token{environment, {}, static_cast<std::int32_t>(generation)};
    std::copy_n(id.begin(), token.key_id.bytes.size(), token.key_id.bytes.begin());
    return token;
}

/** Counted from the beginning, the whole token is there, and more. */
bool has_token_in_front(std::string_view text) {
    const std::size_t end = text.find('_', opaque_prefix.size());
    if (end == std::string_view::npos || text.size() <= end + tail_length) {
        return false;
    }
    const std::string_view environment = text.substr(opaque_prefix.size(), end - opaque_prefix.size());
    return is_valid_environment(environment) &&
           std::holds_alternative<OpaqueToken>(parse_parts(text.substr(0, end + tail_length), environment));
}

}  // namespace

ParsedToken parse_opaque_token(std::string_view text) {
    if (text.size() < opaque_prefix.size() + 1 + tail_length) {
        return malformed("too short");
    }
    if (has_token_in_front(text)) {
        return malformed("something follows the token");
    }
    const std::string_view environment =
        text.substr(opaque_prefix.size(), text.size() - opaque_prefix.size() - tail_length);
    if (!is_valid_environment(environment)) {
        return malformed("environment is not 1 to 16 characters of [a-z0-9]");
    }
    return parse_parts(text, environment);
}

SecretBytes make_opaque(std::string_view environment, const Uuid& key_id, std::int32_t generation,
                        const SecretArray<32>& secret) {
    if (!is_valid_environment(environment)) {
        throw InvalidArgument("environment is not valid",
                              "An environment is 1 to 16 characters of [a-z0-9].");
    }
    if (generation < 1) {
        throw InvalidArgument("generation must be positive");
    }
    std::array<std::uint8_t, id_size> id;
    const std::array<std::uint8_t, 4> generation_bytes = big_endian(static_cast<std::uint32_t>(generation));
    std::copy(key_id.bytes.begin(), key_id.bytes.end(), id.begin());
    std::copy(generation_bytes.begin(), generation_bytes.end(), id.begin() + key_id.bytes.size());

    SecretBytes token;
    token.reserve(opaque_prefix.size() + environment.size() + tail_length);
    const auto append_text = [&token](std::string_view text) {
        token.insert(token.end(), text.begin(), text.end());
    };
    const auto append_base62 = [&token](ByteView bytes) {
        const std::size_t start = token.size();
        token.resize(start + base62_length(bytes.size()));
        base62_encode_to(bytes, {reinterpret_cast<char*>(token.data() + start), token.size() - start});
    };
    append_text(opaque_prefix);
    append_text(environment);
    append_text("_");
    append_base62(id);
    append_text("_");
    append_base62(secret.view());
    const std::uint32_t checksum = crc32(view(token));
    append_base62(big_endian(checksum));
    return token;
}

}  // namespace apikey::core
