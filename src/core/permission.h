#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/**
 * Permissions. A permission is segment(:segment)*, a segment [a-z0-9_.-]+. In a grant, `*` as the last
 * segment matches one or more segments, elsewhere exactly one; alone it grants all.
 */
namespace apikey::core {

inline constexpr std::size_t max_permission_length = 256;
/** Of a role, and of a key's narrowing: the work of intersecting the two grows with the square of their
 * product. */
inline constexpr int max_grants = 64;

/** What a segment is made of. */
constexpr bool is_segment_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

bool is_valid_permission(std::string_view permission);
bool is_valid_grant(std::string_view grant);

/** Both must be valid. */
bool grants(std::string_view grant, std::string_view permission);

/** True when everything that `narrower` grants, `wider` grants as well. */
bool covers(std::string_view wider, std::string_view narrower);

/** The grant that matches exactly what both match, or nullopt when nothing is. */
std::optional<std::string> intersect(std::string_view a, std::string_view b);

/** role ∩ narrowing as grants: pairwise intersections, without those that another one covers, sorted. */
std::vector<std::string> effective_permissions(std::span<const std::string_view> role,
                                               std::optional<std::span<const std::string_view>> narrowing);

}  // namespace apikey::core
