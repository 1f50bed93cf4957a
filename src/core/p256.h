#pragma once

#include <span>

#include "core/bytes.h"
#include "core/openssl_handles.h"

/** P-256 keys and signatures between the fixed-size forms that JOSE uses and OpenSSL's objects. Internal to
 * signing_key.cpp. */
namespace apikey::core {

inline constexpr std::size_t p256_size = 32;
inline constexpr std::size_t p256_point_size = 1 + 2 * p256_size;

/** SEC 1 section 2.3.3, uncompressed only; nullptr when the point is not on the curve or is the one at
 * infinity. */
PkeyPtr p256_public(ByteView point);

/** nullptr when the bytes are not 32 or the scalar is not in [1, n - 1]. */
PkeyPtr p256_private(ByteView scalar_bytes);

/** `out`: 32 bytes. */
void p256_read_scalar(const EVP_PKEY* key, std::span<std::uint8_t> out);

/** Uncompressed. */
Bytes p256_read_point(const EVP_PKEY* key);

/** RFC 7518 section 3.4: r || s, each 32 bytes big-endian. OpenSSL speaks DER. */
Bytes p256_raw_from_der(ByteView der);
/** `raw`: 64 bytes, whatever numbers they are. */
Bytes p256_der_from_raw(ByteView raw);

}  // namespace apikey::core
