#include "core/jws.h"

#include <openssl/crypto.h>

#include <utility>

#include "core/base64url.h"
#include "core/strict_json.h"

namespace apikey::core {
namespace {

std::optional<JoseHeader> parse_header(std::string_view json, std::string& why) {
    const std::optional<JsonObject> object = parse_json_object(json, max_jws_size, why);
    if (!object) {
        return std::nullopt;
    }
    JoseHeader header{};
    bool has_algorithm = false;
    for (const JsonMember& member : *object) {
        const std::string* text = member.value.string();
        if (member.name == "alg") {
            const auto algorithm = text == nullptr ? std::nullopt : algorithm_from_name(*text);
            if (!algorithm) {
                why = "unknown algorithm";
                return std::nullopt;
            }
            header.algorithm = *algorithm;
            has_algorithm = true;
        } else if (member.name == "kid" || member.name == "typ") {
            if (text == nullptr || text->empty()) {
                why = "a header member has the wrong type or is empty";
                return std::nullopt;
            }
            (member.name == "kid" ? header.kid : header.typ) = *text;
        } else {
            // An unknown member may say that the token means something else (RFC 7515 section 4.1.11), or
            // bring a key along.
            why = "a header member is not allowed";
            return std::nullopt;
        }
    }
    if (!has_algorithm) {
        why = "no algorithm";
        return std::nullopt;
    }
    return header;
}

}  // namespace

std::optional<CompactJws> parse_compact_jws(std::string_view text, std::string* why) {
    std::string unasked;
    std::string& reason = why == nullptr ? unasked : *why;
    if (text.size() > max_jws_size) {
        reason = "too long";
        return std::nullopt;
    }
    const std::size_t first = text.find('.');
    const std::size_t second = first == std::string_view::npos ? first : text.find('.', first + 1);
    if (second == std::string_view::npos || text.find('.', second + 1) != std::string_view::npos) {
        reason = "not three parts";
        return std::nullopt;
    }
    const std::optional<Bytes> header_json = base64url_decode(text.substr(0, first));
    std::optional<Bytes> payload = base64url_decode(text.substr(first + 1, second - first - 1));
    std::optional<Bytes> signature = base64url_decode(text.substr(second + 1));
    if (!header_json || !payload || !signature) {
        reason = "not base64url";
        return std::nullopt;
    }
    std::optional<JoseHeader> header = parse_header(text_of(*header_json), reason);
    if (!header) {
        return std::nullopt;
    }
    return CompactJws{std::move(*header), text.substr(0, second), std::move(*payload), std::move(*signature)};
}

SecretBytes sign_compact_jws(std::string_view header_json, std::string_view payload_json,
                             const SigningKey& key) {
    // Every algorithm's signature fits; one allocation, so that nothing of the token is left in a smaller
    // one.
    constexpr std::size_t max_signature_size = 64;
    SecretBytes token;
    token.reserve(base64url_length(header_json.size()) + base64url_length(payload_json.size()) +
                  base64url_length(max_signature_size) + 2);
    const auto append = [&token](ByteView bytes) {
        const std::size_t start = token.size();
        token.resize(start + base64url_length(bytes.size()));
        base64url_encode_to(bytes, {reinterpret_cast<char*>(token.data() + start), token.size() - start});
    };
    append(bytes_of(header_json));
    token.push_back('.');
    append(bytes_of(payload_json));
    Bytes signature = key.sign(view(token));
    token.push_back('.');
    append(signature);
    OPENSSL_cleanse(signature.data(), signature.size());
    return token;
}

}  // namespace apikey::core
