#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/secret.h"

/** What signs tokens, and by which algorithm (RFC 7518, RFC 8037). */
namespace apikey::core {

/** What can sign a token. `none` and everything not listed here does not exist. */
enum class Algorithm : std::uint8_t { EdDSA, ES256, HS256 };

std::string_view algorithm_name(Algorithm algorithm);
/** Case-sensitive (RFC 7515 section 4.1.1). */
std::optional<Algorithm> algorithm_from_name(std::string_view name);

/** The same signing input gives the same signature. (ES256 draws a random nonce.) */
constexpr bool is_deterministic(Algorithm algorithm) {
    return algorithm != Algorithm::ES256;
}

/** 1 to 64 characters of [A-Za-z0-9_-]: checked before a kid is looked up anywhere. */
bool is_valid_kid(std::string_view kid);

/**
 * One key for one algorithm: private, public or symmetric. The algorithm belongs to the key, a header only
 * has to agree (RFC 8725 section 3.1). Movable, not copyable; owns its OpenSSL objects and wipes key
 * material. Not thread-safe.
 */
class SigningKey {
  public:
    /** A fresh key from OpenSSL's generator (HS256: 32 bytes). */
    static SigningKey generate(Algorithm algorithm);

    /** From private_bytes() of a key: Ed25519 seed (32), P-256 scalar (32), HMAC secret (>= 32).
     * InvalidArgument when not one. */
    static SigningKey from_private_bytes(Algorithm algorithm, ByteView bytes);

    /** From public_bytes(): Ed25519 point (32), uncompressed P-256 point (65, checked to be on the curve).
     * Not for HS256. */
    static SigningKey from_public_bytes(Algorithm algorithm, ByteView bytes);

    SigningKey(SigningKey&&) noexcept;
    SigningKey& operator=(SigningKey&&) noexcept;
    ~SigningKey();

    Algorithm algorithm() const noexcept;
    /** Signs or verifies only. */
    bool can_sign() const noexcept;

    SecretBytes private_bytes() const;
    /** Empty for HS256, which has no public half. */
    Bytes public_bytes() const;

    /** RFC 7638 thumbprint of the public JWK, base64url (43 characters). For HS256 a random name of the same
     * shape. */
    std::string make_kid() const;

    /** The raw signature: Ed25519 64 bytes, ES256 r||s 64 bytes, HS256 32 bytes. */
    Bytes sign(ByteView input) const;

    /** False for whatever does not verify, including wrong sizes. */
    bool verify(ByteView input, ByteView signature) const;

  private:
    struct State;
    explicit SigningKey(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace apikey::core
