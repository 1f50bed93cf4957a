// Keys from the bytes of a row: no bytes harm, and what is accepted is a whole key, which signs, verifies and
// is described by its public half.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/jwk.h"

using namespace apikey::core;

namespace {

constexpr Algorithm algorithms[] = {Algorithm::EdDSA, Algorithm::ES256, Algorithm::HS256};

void check(bool holds) {
    if (!holds) {
        std::abort();
    }
}

std::optional<SigningKey> key_from(bool is_private, Algorithm algorithm, ByteView bytes) {
    try {
        return is_private ? SigningKey::from_private_bytes(algorithm, bytes)
                          : SigningKey::from_public_bytes(algorithm, bytes);
    } catch (const InvalidArgument& error) {
        check(error.what()[0] != '\0');
        return std::nullopt;
    }
}

void check_public(const SigningKey& key, ByteView bytes) {
    check(!key.can_sign());
    const Bytes again = key.public_bytes();
    check(again == Bytes(bytes.begin(), bytes.end()));
    const std::string kid = key.make_kid();
    check(is_valid_kid(kid) && kid.size() == 43);
    check(public_jwk(key, kid) == public_jwk(SigningKey::from_public_bytes(key.algorithm(), again), kid));
    (void)key.verify({}, bytes);
}

void check_private(const SigningKey& key, ByteView bytes) {
    check(key.can_sign());
    const SecretBytes secret = key.private_bytes();
    check(Bytes(secret.begin(), secret.end()) == Bytes(bytes.begin(), bytes.end()));
    const Bytes signature = key.sign(bytes);
    check(key.verify(bytes, signature) && !key.verify({}, signature));
    if (key.algorithm() != Algorithm::HS256) {
        const Bytes point = key.public_bytes();
        const SigningKey public_half = SigningKey::from_public_bytes(key.algorithm(), point);
        check_public(public_half, point);
        check(public_half.verify(bytes, signature) && public_half.make_kid() == key.make_kid());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const ByteView bytes(data + 1, size - 1);
    const Algorithm algorithm = algorithms[data[0] % std::size(algorithms)];
    const bool is_private = data[0] / std::size(algorithms) % 2 != 0;
    if (const auto key = key_from(is_private, algorithm, bytes)) {
        is_private ? check_private(*key, bytes) : check_public(*key, bytes);
    }
    return 0;
}
