#include "core/base62.h"

#include <openssl/crypto.h>

#include <array>
#include <cassert>

namespace apikey::core {
namespace {

constexpr std::string_view alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static_assert(alphabet.size() == 62);
static_assert(base62_length(4) == 6 && base62_length(20) == 27 && base62_length(32) == 43);

int digit_of(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'Z') {
        return c - 'A' + 10;
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 36;
    }
    return -1;
}

/** The number in 32-bit limbs, most significant first. Wiped: it may be the secret of a token. */
struct Limbs {
    std::array<std::uint32_t, base62_max_size / 4> words{};
    ~Limbs() { OPENSSL_cleanse(words.data(), sizeof(words)); }
};

}  // namespace

void base62_encode_to(ByteView bytes, std::span<char> out) {
    assert(bytes.size() % 4 == 0 && bytes.size() <= base62_max_size &&
           out.size() == base62_length(bytes.size()));
    const std::size_t count = bytes.size() / 4;
    Limbs limbs;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        limbs.words[i / 4] = limbs.words[i / 4] << 8 | bytes[i];
    }
    for (std::size_t position = out.size(); position-- > 0;) {
        std::uint64_t remainder = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t dividend = remainder << 32 | limbs.words[i];
            limbs.words[i] = static_cast<std::uint32_t>(dividend / 62);
            remainder = dividend % 62;
        }
        out[position] = alphabet[remainder];
    }
}

bool base62_decode(std::string_view text, std::span<std::uint8_t> out) {
    assert(out.size() % 4 == 0 && out.size() <= base62_max_size);
    if (text.size() != base62_length(out.size())) {
        return false;
    }
    const std::size_t count = out.size() / 4;
    Limbs limbs;
    for (const char c : text) {
        const int digit = digit_of(c);
        if (digit < 0) {
            return false;
        }
        std::uint64_t carry = static_cast<std::uint64_t>(digit);
        for (std::size_t i = count; i-- > 0;) {
            const std::uint64_t product = std::uint64_t{limbs.words[i]} * 62 + carry;
            limbs.words[i] = static_cast<std::uint32_t>(product);
            carry = product >> 32;
        }
        if (carry != 0) {
            return false;
        }
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<std::uint8_t>(limbs.words[i / 4] >> (24 - 8 * (i % 4)));
    }
    return true;
}

}  // namespace apikey::core
