#include "core/mirror_layout.h"

#include <algorithm>
#include <charconv>

#include "core/crypto.h"

namespace apikey::core {
namespace {

constexpr std::string_view digits = "0123456789abcdef";

std::string tag(std::string_view name_space, std::string_view what) {
    return "{ak:" + std::string(name_space) + ":" + std::string(what) + "}";
}

void append_hex(std::string& text, std::uint64_t number, int width) {
    for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) {
        text += digits[(number >> shift) & 15];
    }
}

template <typename Number>
std::optional<Number> parse_hex(std::string_view text) {
    const bool plain = std::all_of(text.begin(), text.end(),
                                   [](char c) { return digits.find(c) != std::string_view::npos; });
    Number number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
    return plain && problem == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                               : std::nullopt;
}

}  // namespace

std::size_t mirror_bucket(std::string_view subject) {
    return sha256(bytes_of(subject))[0] >> 4;
}

MirrorNames mirror_names(std::string_view name_space) {
    MirrorNames names;
    for (std::size_t i = 0; i < mirror_buckets; i++) {
        const std::string prefix = tag(name_space, digits.substr(i, 1));
        names.buckets[i] = {prefix + ":rev", prefix + ":meta", prefix + ":ev"};
    }
    names.jwks = tag(name_space, "jwks");
    names.jwks_generation = names.jwks + ":gen";
    names.roles = tag(name_space, "roles");
    names.roles_generation = names.roles + ":gen";
    return names;
}

std::string mirror_member(const Uuid& key_id, std::optional<std::int32_t> generation, bool changed) {
    std::string member = changed ? "changed:" : "";
    member += to_string(key_id);
    if (generation) {
        member += '.';
        member += std::to_string(*generation);
    }
    return member;
}

bool is_mirror_member(std::string_view text) {
    constexpr std::string_view prefix = "changed:";
    constexpr std::size_t id_length = 36;
    const bool changed = text.starts_with(prefix);
    if (changed) {
        text.remove_prefix(prefix.size());
    }
    const auto key_id = uuid_from_string(text.substr(0, id_length));
    if (!key_id) {
        return false;
    }
    const std::string_view number = text.substr(id_length);
    if (number.empty()) {
        return !changed;
    }
    std::int32_t generation = 0;
    std::from_chars(number.data() + 1, number.data() + number.size(), generation);
    return generation > 0 && number == "." + std::to_string(generation);
}

std::string mirror_generation(std::uint32_t timeline, std::uint64_t counter) {
    std::string text;
    append_hex(text, timeline, 8);
    append_hex(text, counter, 16);
    return text;
}

std::optional<MirrorGeneration> parse_mirror_generation(std::string_view text) {
    if (text.size() != 24) {
        return std::nullopt;
    }
    const auto timeline = parse_hex<std::uint32_t>(text.substr(0, 8));
    const auto counter = parse_hex<std::uint64_t>(text.substr(8));
    return timeline && counter ? std::optional(MirrorGeneration{*timeline, *counter}) : std::nullopt;
}

std::string rate_key(std::string_view name_space, std::string_view subject, std::int64_t width_us,
                     std::int64_t sequence) {
    return tag(name_space, digits.substr(mirror_bucket(subject), 1)) + ":rate:" + std::string(subject) +
           ":default." + std::to_string(width_us / 1000) + ":" + std::to_string(sequence);
}

}  // namespace apikey::core
