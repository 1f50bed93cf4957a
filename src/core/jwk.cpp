#include "core/jwk.h"

#include "core/base64url.h"
#include "core/error.h"
#include "core/p256.h"

namespace apikey::core {

std::string public_jwk(const SigningKey& key, std::string_view kid) {
    if (key.algorithm() == Algorithm::HS256) {
        throw InvalidArgument("an HS256 key has no public half");
    }
    if (!is_valid_kid(kid)) {
        throw InvalidArgument("a kid is 1 to 64 characters of [A-Za-z0-9_-]");
    }
    const Bytes bytes = key.public_bytes();
    std::string json;
    if (key.algorithm() == Algorithm::EdDSA) {
        json = R"({"kty":"OKP","crv":"Ed25519","x":")" + base64url_encode(bytes);
    } else {
        json = R"({"kty":"EC","crv":"P-256","x":")" +
               base64url_encode(ByteView(bytes).subspan(1, p256_size)) + R"(","y":")" +
               base64url_encode(ByteView(bytes).subspan(1 + p256_size));
    }
    json.append(R"(","kid":")").append(kid).append(R"(","alg":")").append(algorithm_name(key.algorithm()));
    return json + R"(","use":"sig"})";
}

}  // namespace apikey::core
