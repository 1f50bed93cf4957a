#include "core/signing_key.h"

#include <openssl/obj_mac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/base64url.h"
#include "core/crypto.h"
#include "core/openssl_handles.h"
#include "core/p256.h"

namespace apikey::core {
namespace {

constexpr std::array<std::pair<Algorithm, std::string_view>, 3> algorithm_names{{
    {Algorithm::EdDSA, "EdDSA"},  // RFC 8037 section 3.1
    {Algorithm::ES256, "ES256"},  // RFC 7518 section 3.4
    {Algorithm::HS256, "HS256"},  // RFC 7518 section 3.2
}};

constexpr std::size_t ed25519_size = 32;
constexpr std::size_t ed25519_signature_size = 64;
/** RFC 7518 section 3.2: a key at least as long as the hash. */
constexpr std::size_t hs256_min_size = 32;

/** Ed25519 hashes by itself, so it has no digest to name. */
const char* digest_name(Algorithm algorithm) {
    return algorithm == Algorithm::ES256 ? "SHA256" : nullptr;
}

std::string random_name() {
    std::array<std::uint8_t, 32> random;
    require(RAND_bytes(random.data(), random.size()) == 1, "cannot draw random bytes");
    return base64url_encode(random);
}

}  // namespace

std::string_view algorithm_name(Algorithm algorithm) {
    for (const auto& [known, name] : algorithm_names) {
        if (known == algorithm) {
            return name;
        }
    }
    return {};
}

std::optional<Algorithm> algorithm_from_name(std::string_view name) {
    for (const auto& [algorithm, known] : algorithm_names) {
        if (known == name) {
            return algorithm;
        }
    }
    return std::nullopt;
}

bool is_valid_kid(std::string_view kid) {
    return !kid.empty() && kid.size() <= 64 && std::all_of(kid.begin(), kid.end(), [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '-';
    });
}

struct SigningKey::State {
    Algorithm algorithm;
    bool can_sign;
    PkeyPtr pkey;        ///< EdDSA, ES256
    SecretBytes secret;  ///< HS256
};

SigningKey::SigningKey(std::unique_ptr<State> state) : state_(std::move(state)) {}
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;
SigningKey::~SigningKey() = default;

SigningKey SigningKey::generate(Algorithm algorithm) {
    const ErrorQueueGuard guard;
    auto state = std::make_unique<State>(State{algorithm, true, nullptr, {}});
    switch (algorithm) {
        case Algorithm::EdDSA:
            state->pkey.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
            require(state->pkey != nullptr, "cannot generate an Ed25519 key");
            break;
        case Algorithm::ES256:
            state->pkey.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", SN_X9_62_prime256v1));
            require(state->pkey != nullptr, "cannot generate a P-256 key");
            break;
        case Algorithm::HS256:
            state->secret.resize(hs256_min_size);
            require(RAND_priv_bytes(state->secret.data(), hs256_min_size) == 1, "cannot draw random bytes");
            break;
    }
    return SigningKey(std::move(state));
}

SigningKey SigningKey::from_private_bytes(Algorithm algorithm, ByteView bytes) {
    const ErrorQueueGuard guard;
    auto state = std::make_unique<State>(State{algorithm, true, nullptr, {}});
    switch (algorithm) {
        case Algorithm::EdDSA:
            if (bytes.size() != ed25519_size) {
                throw InvalidArgument("an Ed25519 private key has 32 bytes");
            }
            state->pkey.reset(
                EVP_PKEY_new_raw_private_key_ex(nullptr, "ED25519", nullptr, bytes.data(), bytes.size()));
            require(state->pkey != nullptr, "cannot use an Ed25519 key");
            break;
        case Algorithm::ES256:
            state->pkey = p256_private(bytes);
            if (state->pkey == nullptr) {
                throw InvalidArgument(
                    "a P-256 private key is a number of 32 bytes from 1 to the order of the curve");
            }
            break;
        case Algorithm::HS256:
            if (bytes.size() < hs256_min_size) {
                throw InvalidArgument("an HS256 secret has at least 32 bytes");
            }
            state->secret.assign(bytes.begin(), bytes.end());
            break;
    }
    return SigningKey(std::move(state));
}

SigningKey SigningKey::from_public_bytes(Algorithm algorithm, ByteView bytes) {
    const ErrorQueueGuard guard;
    auto state = std::make_unique<State>(State{algorithm, false, nullptr, {}});
    switch (algorithm) {
        case Algorithm::EdDSA:
            if (bytes.size() != ed25519_size) {
                throw InvalidArgument("an Ed25519 public key has 32 bytes");
            }
            state->pkey.reset(
                EVP_PKEY_new_raw_public_key_ex(nullptr, "ED25519", nullptr, bytes.data(), bytes.size()));
            require(state->pkey != nullptr, "cannot use an Ed25519 key");
            break;
        case Algorithm::ES256:
            state->pkey = p256_public(bytes);
            if (state->pkey == nullptr) {
                throw InvalidArgument("not an uncompressed point of P-256");
            }
            break;
        case Algorithm::HS256:
            throw InvalidArgument("an HS256 key has no public half");
    }
    return SigningKey(std::move(state));
}

Algorithm SigningKey::algorithm() const noexcept {
    return state_->algorithm;
}

bool SigningKey::can_sign() const noexcept {
    return state_->can_sign;
}

SecretBytes SigningKey::private_bytes() const {
    if (!can_sign()) {
        throw InvalidArgument("this key has no private half");
    }
    const ErrorQueueGuard guard;
    SecretBytes bytes;
    switch (algorithm()) {
        case Algorithm::EdDSA: {
            bytes.resize(ed25519_size);
            std::size_t size = bytes.size();
            require(EVP_PKEY_get_raw_private_key(state_->pkey.get(), bytes.data(), &size) == 1 &&
                        size == bytes.size(),
                    "cannot read an Ed25519 key");
            break;
        }
        case Algorithm::ES256:
            bytes.resize(p256_size);
            p256_read_scalar(state_->pkey.get(), bytes);
            break;
        case Algorithm::HS256:
            bytes = state_->secret;
            break;
    }
    return bytes;
}

Bytes SigningKey::public_bytes() const {
    const ErrorQueueGuard guard;
    Bytes bytes;
    switch (algorithm()) {
        case Algorithm::EdDSA: {
            bytes.resize(ed25519_size);
            std::size_t size = bytes.size();
            require(EVP_PKEY_get_raw_public_key(state_->pkey.get(), bytes.data(), &size) == 1 &&
                        size == bytes.size(),
                    "cannot read an Ed25519 key");
            break;
        }
        case Algorithm::ES256:
            bytes = p256_read_point(state_->pkey.get());
            break;
        case Algorithm::HS256:
            break;
    }
    return bytes;
}

std::string SigningKey::make_kid() const {
    // RFC 7638 section 3: the required members in the order of their names, without white space (RFC 8037
    // section 2 for OKP).
    const Bytes bytes = public_bytes();
    std::string required_members;
    switch (algorithm()) {
        case Algorithm::EdDSA:
            required_members = R"({"crv":"Ed25519","kty":"OKP","x":")" + base64url_encode(bytes) + R"("})";
            break;
        case Algorithm::ES256:
            required_members = R"({"crv":"P-256","kty":"EC","x":")" +
                               base64url_encode(ByteView(bytes).subspan(1, p256_size)) + R"(","y":")" +
                               base64url_encode(ByteView(bytes).subspan(1 + p256_size)) + R"("})";
            break;
        case Algorithm::HS256:
            // A thumbprint of the secret would let anyone who sees a token test guesses of it offline (RFC
            // 7638 section 7).
            return random_name();
    }
    return base64url_encode(sha256(bytes_of(required_members)));
}

Bytes SigningKey::sign(ByteView input) const {
    if (!can_sign()) {
        throw InvalidArgument("this key has no private half");
    }
    if (algorithm() == Algorithm::HS256) {
        Digest256 code = hmac_sha256(view(state_->secret), input);
        Bytes signature(code.begin(), code.end());
        OPENSSL_cleanse(code.data(), code.size());
        return signature;
    }
    const ErrorQueueGuard guard;
    const MdCtxPtr context(EVP_MD_CTX_new());
    // An ECDSA signature in DER has at most 72 bytes; one of Ed25519 has 64.
    Bytes signature(80);
    std::size_t size = signature.size();
    require(
        context != nullptr &&
            EVP_DigestSignInit_ex(context.get(), nullptr, digest_name(algorithm()), nullptr, nullptr,
                                  state_->pkey.get(), nullptr) == 1 &&
            EVP_DigestSign(context.get(), signature.data(), &size, non_null_data(input), input.size()) == 1,
        "cannot sign");
    signature.resize(size);
    return algorithm() == Algorithm::ES256 ? p256_raw_from_der(signature) : signature;
}

bool SigningKey::verify(ByteView input, ByteView signature) const {
    if (algorithm() == Algorithm::HS256) {
        Digest256 code = hmac_sha256(view(state_->secret), input);
        const bool equal = equal_constant_time(code, signature);
        OPENSSL_cleanse(code.data(), code.size());
        return equal;
    }
    // Both have 64 bytes; r and s out of range are OpenSSL's to refuse (FIPS 186-5 section 6.4.2), as is a
    // non-canonical S of Ed25519 (RFC 8032 section 5.1.7).
    static_assert(2 * p256_size == ed25519_signature_size);
    if (signature.size() != ed25519_signature_size) {
        return false;
    }
    const ErrorQueueGuard guard;
    Bytes der;
    if (algorithm() == Algorithm::ES256) {
        der = p256_der_from_raw(signature);
        signature = der;
    }
    const MdCtxPtr context(EVP_MD_CTX_new());
    require(context != nullptr && EVP_DigestVerifyInit_ex(context.get(), nullptr, digest_name(algorithm()),
                                                          nullptr, nullptr, state_->pkey.get(), nullptr) == 1,
            "cannot verify");
    return EVP_DigestVerify(context.get(), signature.data(), signature.size(), non_null_data(input),
                            input.size()) == 1;
}

}  // namespace apikey::core
