#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/instant.h"

namespace apikey::core {

/** RFC 9562. Trivially copyable: it may lie in shared memory. */
struct Uuid {
    std::array<std::uint8_t, 16> bytes{};
    auto operator<=>(const Uuid&) const = default;
};

/** Lower case with hyphens, 36 characters. */
std::string to_string(const Uuid& id);

/** Exactly the form that to_string writes (lower case, hyphens), nothing else; nullopt otherwise. */
std::optional<Uuid> uuid_from_string(std::string_view text);

/**
 * Version 7: 48 bits of Unix time in milliseconds, 12 bits of its fraction (RFC 9562 section 6.2, method 3)
 * so that ids made in one millisecond still sort, 62 bits from `random`, which must be strong.
 */
Uuid uuid_v7(Instant now, const std::array<std::uint8_t, 8>& random);

}  // namespace apikey::core
