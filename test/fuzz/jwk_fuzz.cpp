// JWKs and sets: no input harms, and what is accepted is a whole key that its own public JWK describes.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/jws.h"

using namespace apikey::core;

namespace {

void check(bool holds) {
    if (!holds) {
        std::abort();
    }
}

void check_key(const NamedKey& named) {
    check(named.kid.empty() || is_valid_kid(named.kid));
    const std::string kid = named.key.make_kid();
    check(is_valid_kid(kid) && kid.size() == 43);
    if (named.key.can_sign()) {
        check(named.key.verify({}, named.key.sign({})));
        const SecretBytes secret = named.key.private_bytes();
        const SigningKey again = SigningKey::from_private_bytes(named.key.algorithm(), view(secret));
        check(again.public_bytes() == named.key.public_bytes());
    }
    if (named.key.algorithm() == Algorithm::HS256) {
        return;
    }
    const std::string json = public_jwk(named.key, kid);
    const auto again = parse_jwk(json);
    check(again && again->kid == kid && !again->key.can_sign());
    check(again->key.public_bytes() == named.key.public_bytes());
    check(public_jwk(again->key, again->kid) == json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = text_of(ByteView(data, size));
    std::string why;
    const auto key = parse_jwk(text, &why);
    check(key.has_value() == why.empty());
    if (key) {
        check_key(*key);
        // A key that is good alone is good in a set, and not twice if it is named.
        const std::string json(text);
        const auto one = parse_jwk_set("{\"keys\":[" + json + "]}");
        // The set is a level deeper, and longer.
        check((one && one->size() == 1 && one->front().kid == key->kid) || text.size() > 65000 ||
              text.find_first_of("[{", text.find('{') + 1) != std::string_view::npos);
        check(!parse_jwk_set("{\"keys\":[" + json + "," + json + "]}") || key->kid.empty());
    }
    why.clear();
    const auto keys = parse_jwk_set(text, &why);
    check(keys.has_value() == why.empty());
    if (keys) {
        for (const NamedKey& named : *keys) {
            check_key(named);
        }
    }
    return 0;
}
