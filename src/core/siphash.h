#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/bytes.h"

/**
 * SipHash-2-4 with 128 bits of output (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012, and the
 * 128-bit variant of their reference code). A keyed pseudo-random function: who does not know the key can
 * neither predict a fingerprint nor find two inputs with the same one.
 */
namespace apikey::core {

/** 128 bits; equal inputs under one key give equal fingerprints. Trivially copyable. */
struct Fingerprint {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    bool operator==(const Fingerprint&) const = default;
};

using SipHashKey = std::array<std::uint64_t, 2>;

/** The two words of 16 key bytes, little-endian, as the paper reads them. */
SipHashKey siphash_key(const std::array<std::uint8_t, 16>& bytes);

Fingerprint siphash_128(const SipHashKey& key, ByteView data);

/** A key that is of use to one `domain` only (a database, say): a token has another fingerprint in each. */
SipHashKey derive_siphash_key(const SipHashKey& key, std::uint64_t domain);

}  // namespace apikey::core
