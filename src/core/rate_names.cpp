#include "core/rate_names.h"

#include <string_view>

namespace apikey::core {
namespace {

/** 16 digits. Not by the server's printf: what stands for a 64-bit number there differs between versions. */
void append_hex(std::string& text, std::uint64_t number) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (int shift = 60; shift >= 0; shift -= 4) {
        text += digits[(number >> shift) & 15];
    }
}

}  // namespace

std::string rate_address_subject(std::uint64_t first, std::uint64_t second) {
    std::string text = "ip-";
    append_hex(text, first);
    append_hex(text, second);
    return text;
}

std::string rate_field(std::uint64_t system, std::uint32_t database, std::uint64_t boot) {
    std::string text = std::to_string(system) + "-" + std::to_string(database) + ":";
    append_hex(text, boot);
    return text;
}

}  // namespace apikey::core
