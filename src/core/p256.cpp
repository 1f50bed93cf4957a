#include "core/p256.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>

#include <array>

#include "core/secret.h"

namespace apikey::core {
namespace {

PkeyPtr p256_from_parts(ByteView point, const BIGNUM* scalar) {
    const PkeyCtxPtr context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    require(context != nullptr && EVP_PKEY_fromdata_init(context.get()) == 1, "cannot use P-256");
    char group[] = SN_X9_62_prime256v1;
    // OSSL_PARAM integers are in the byte order of the machine.
    SecretArray<p256_size> native_scalar;
    if (scalar != nullptr) {
        require(BN_bn2nativepad(scalar, native_scalar.data(), p256_size) == p256_size, "cannot use P-256");
    }
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, const_cast<std::uint8_t*>(point.data()),
                                          point.size()),
        scalar == nullptr
            ? OSSL_PARAM_construct_end()
            : OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native_scalar.data(), p256_size),
        OSSL_PARAM_construct_end()};
    EVP_PKEY* key = nullptr;
    const int parts = scalar == nullptr ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR;
    if (EVP_PKEY_fromdata(context.get(), &key, parts, params) != 1) {
        return nullptr;
    }
    return PkeyPtr(key);
}

void read_number(const EVP_PKEY* key, const char* name, std::span<std::uint8_t> out) {
    BIGNUM* number = nullptr;
    require(EVP_PKEY_get_bn_param(key, name, &number) == 1, "cannot read a P-256 key");
    const BignumPtr owner(number);
    require(BN_bn2binpad(number, out.data(), p256_size) == p256_size, "cannot read a P-256 key");
}

}  // namespace

PkeyPtr p256_public(ByteView point) {
    if (point.size() != p256_point_size || point[0] != POINT_CONVERSION_UNCOMPRESSED) {
        return nullptr;
    }
    PkeyPtr key = p256_from_parts(point, nullptr);
    if (key == nullptr) {
        return nullptr;
    }
    // fromdata refuses such points today, but does not promise to.
    const PkeyCtxPtr check(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr));
    require(check != nullptr, "cannot check a P-256 point");
    return EVP_PKEY_public_check(check.get()) == 1 ? std::move(key) : nullptr;
}

PkeyPtr p256_private(ByteView scalar_bytes) {
    if (scalar_bytes.size() != p256_size) {
        return nullptr;
    }
    const EcGroupPtr group(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
    const BignumPtr scalar(BN_bin2bn(scalar_bytes.data(), p256_size, nullptr));
    const BignumCtxPtr context(BN_CTX_secure_new());
    require(group != nullptr && scalar != nullptr && context != nullptr, "cannot use P-256");
    BN_set_flags(scalar.get(), BN_FLG_CONSTTIME);
    if (BN_is_zero(scalar.get()) || BN_cmp(scalar.get(), EC_GROUP_get0_order(group.get())) >= 0) {
        return nullptr;
    }
    // The point has to be computed: OpenSSL does not do it from the scalar.
    const EcPointPtr point(EC_POINT_new(group.get()));
    std::array<std::uint8_t, p256_point_size> encoded;
    require(point != nullptr &&
                EC_POINT_mul(group.get(), point.get(), scalar.get(), nullptr, nullptr, context.get()) == 1 &&
                EC_POINT_point2oct(group.get(), point.get(), POINT_CONVERSION_UNCOMPRESSED, encoded.data(),
                                   encoded.size(), context.get()) == encoded.size(),
            "cannot compute a P-256 point");
    PkeyPtr key = p256_from_parts(encoded, scalar.get());
    require(key != nullptr, "cannot use a P-256 key");
    return key;
}

void p256_read_scalar(const EVP_PKEY* key, std::span<std::uint8_t> out) {
    read_number(key, OSSL_PKEY_PARAM_PRIV_KEY, out);
}

Bytes p256_read_point(const EVP_PKEY* key) {
    Bytes point(p256_point_size);
    point[0] = POINT_CONVERSION_UNCOMPRESSED;
    read_number(key, OSSL_PKEY_PARAM_EC_PUB_X, std::span(point).subspan(1, p256_size));
    read_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, std::span(point).subspan(1 + p256_size));
    return point;
}

Bytes p256_raw_from_der(ByteView der) {
    const unsigned char* at = der.data();
    const EcdsaSigPtr parts(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
    require(parts != nullptr, "cannot read an ECDSA signature");
    Bytes raw(2 * p256_size);
    require(BN_bn2binpad(ECDSA_SIG_get0_r(parts.get()), raw.data(), p256_size) == p256_size &&
                BN_bn2binpad(ECDSA_SIG_get0_s(parts.get()), raw.data() + p256_size, p256_size) == p256_size,
            "cannot write an ECDSA signature");
    return raw;
}

Bytes p256_der_from_raw(ByteView raw) {
    BignumPtr r(BN_bin2bn(raw.data(), p256_size, nullptr));
    BignumPtr s(BN_bin2bn(raw.data() + p256_size, p256_size, nullptr));
    const EcdsaSigPtr parts(ECDSA_SIG_new());
    require(r != nullptr && s != nullptr && parts != nullptr &&
                ECDSA_SIG_set0(parts.get(), r.get(), s.get()) == 1,
            "cannot read an ECDSA signature");
    static_cast<void>(r.release());
    static_cast<void>(s.release());
    const int size = i2d_ECDSA_SIG(parts.get(), nullptr);
    require(size > 0, "cannot write an ECDSA signature");
    Bytes der(static_cast<std::size_t>(size));
    unsigned char* at = der.data();
    require(i2d_ECDSA_SIG(parts.get(), &at) == size, "cannot write an ECDSA signature");
    return der;
}

}  // namespace apikey::core
