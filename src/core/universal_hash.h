#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/bytes.h"

namespace apikey::core {

__extension__ using Wide = unsigned __int128;

/** Random: one word for each 8 bytes of what is hashed, and one more. */
using UniversalHashKey = std::array<Wide, 5>;

/**
 * 64 bits that depend on all of up to 32 bytes: the multilinear hash of Carter and Wegman, with arithmetic
 * modulo 2^128 (Lemire, Kaser: "Strongly universal string hashing is fast", 2014). Whatever two different
 * inputs of one length somebody chooses who does not know the key, they have the same hash with a probability
 * of 2^-64. Not for anything that is shown: hashes tell of the key.
 */
inline std::uint64_t universal_hash(const UniversalHashKey& key, ByteView data) {
    Wide sum = key.back();
    for (std::size_t i = 0; i + 1 < key.size() && i * sizeof(std::uint64_t) < data.size(); i++) {
        std::uint64_t word = 0;
        const ByteView rest = data.subspan(i * sizeof(word));
        std::memcpy(&word, rest.data(), rest.size() < sizeof(word) ? rest.size() : sizeof(word));
        sum += key[i] * word;
    }
    return static_cast<std::uint64_t>(sum >> 64);
}

}  // namespace apikey::core
