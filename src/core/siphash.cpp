#include "core/siphash.h"

#include <bit>
#include <cstring>

namespace apikey::core {
namespace {

std::uint64_t little_endian(const std::uint8_t* bytes) {
    std::uint64_t word;
    std::memcpy(&word, bytes, sizeof(word));
    if constexpr (std::endian::native == std::endian::big) {
        word = __builtin_bswap64(word);
    }
    return word;
}

struct State {
    std::uint64_t v0, v1, v2, v3;

    void round() {
        v0 += v1;
        v1 = std::rotl(v1, 13) ^ v0;
        v0 = std::rotl(v0, 32);
        v2 += v3;
        v3 = std::rotl(v3, 16) ^ v2;
        v0 += v3;
        v3 = std::rotl(v3, 21) ^ v0;
        v2 += v1;
        v1 = std::rotl(v1, 17) ^ v2;
        v2 = std::rotl(v2, 32);
    }

    void absorb(std::uint64_t word) {
        v3 ^= word;
        round();
        round();
        v0 ^= word;
    }

    std::uint64_t squeeze() {
        round();
        round();
        round();
        round();
        return v0 ^ v1 ^ v2 ^ v3;
    }
};

}  // namespace

SipHashKey siphash_key(const std::array<std::uint8_t, 16>& bytes) {
    return {little_endian(bytes.data()), little_endian(bytes.data() + 8)};
}

Fingerprint siphash_128(const SipHashKey& key, ByteView data) {
    State state{key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU ^ 0xee,
                key[0] ^ 0x6c7967656e657261U, key[1] ^ 0x7465646279746573U};
    const std::size_t whole = data.size() / 8 * 8;
    for (std::size_t i = 0; i < whole; i += 8) {
        state.absorb(little_endian(data.data() + i));
    }
    std::uint64_t last = static_cast<std::uint64_t>(data.size()) << 56;
    for (std::size_t i = whole; i < data.size(); i++) {
        last |= static_cast<std::uint64_t>(data[i]) << (8 * (i - whole));
    }
    state.absorb(last);
    state.v2 ^= 0xee;
    Fingerprint result;
    result.low = state.squeeze();
    state.v1 ^= 0xdd;
    result.high = state.squeeze();
    return result;
}

SipHashKey derive_siphash_key(const SipHashKey& key, std::uint64_t domain) {
    std::array<std::uint8_t, 8> bytes;
    for (std::size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = static_cast<std::uint8_t>(domain >> (8 * i));
    }
    const Fingerprint derived = siphash_128(key, bytes);
    return {derived.low, derived.high};
}

}  // namespace apikey::core
