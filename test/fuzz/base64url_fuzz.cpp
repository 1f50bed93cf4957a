// The text codings of tokens: whatever decodes is the one text of its bytes, and every byte string comes
// back.

#include "core/base64url.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/base62.h"
#include "core/uuid.h"

using namespace apikey::core;

namespace {

void check(bool holds) {
    if (!holds) {
        std::abort();
    }
}

void check_base62(std::string_view text, ByteView bytes, std::size_t size) {
    Bytes decoded(size);
    if (base62_decode(text, decoded)) {
        std::string again(base62_length(size), '\0');
        base62_encode_to(decoded, again);
        check(again == text);
    }
    if (bytes.size() >= size) {
        std::string encoded(base62_length(size), '\0');
        base62_encode_to(bytes.first(size), encoded);
        check(base62_decode(encoded, decoded) && decoded == Bytes(bytes.begin(), bytes.begin() + size));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView bytes(data, size);
    const std::string_view text = text_of(bytes);

    if (const auto decoded = base64url_decode(text)) {
        check(base64url_encode(*decoded) == text);
        check(base64url_length(decoded->size()) == text.size());
    }
    check(base64url_decode(base64url_encode(bytes)) == Bytes(bytes.begin(), bytes.end()));

    for (const std::size_t width : {4u, 20u, 32u}) {
        check_base62(text, bytes, width);
    }
    if (const auto id = uuid_from_string(text)) {
        check(to_string(*id) == text);
    }
    return 0;
}
