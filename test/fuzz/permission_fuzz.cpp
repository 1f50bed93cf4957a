#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/permission.h"

namespace {

using namespace apikey::core;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/** With an odd first byte the rest is taken as it is, else it chooses from an alphabet in which most texts
 * are grants. */
std::string text_from(std::span<const std::uint8_t> input) {
    std::string text;
    if (input.empty()) {
        return text;
    }
    constexpr std::string_view alphabet = "ab::**\n";
    for (const std::uint8_t byte : input.subspan(1)) {
        text += input[0] % 2 != 0 ? static_cast<char>(byte) : alphabet[byte % alphabet.size()];
    }
    return text;
}

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    while (lines.size() < 16) {
        const std::size_t end = text.find('\n');
        lines.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) {
            break;
        }
        text.remove_prefix(end + 1);
    }
    return lines;
}

/** Each wildcard of a grant replaced: a member of what it matches, unless that became too long. */
std::string member_of(std::string_view grant, std::string_view filling, std::string_view last) {
    std::string member;
    for (std::size_t i = 0; i < grant.size(); ++i) {
        if (grant[i] != '*') {
            member += grant[i];
        } else {
            member += i + 1 == grant.size() ? last : filling;
        }
    }
    return member;
}

void check_pair(const std::string& a, const std::string& b, const std::vector<std::string>& samples) {
    const std::optional<std::string> both = intersect(a, b);
    require(both == intersect(b, a));
    require(!both || (is_valid_grant(*both) && covers(a, *both) && covers(b, *both)));
    require(covers(a, b) == (both == b));
    require(covers(a, a) && intersect(a, a) == a && covers("*", a));
    for (const std::string& permission : samples) {
        require((both && grants(*both, permission)) == (grants(a, permission) && grants(b, permission)));
        require(!covers(a, b) || !grants(b, permission) || grants(a, permission));
    }
}

void check_effective(const std::vector<std::string_view>& role,
                     const std::vector<std::string_view>& narrowing,
                     const std::vector<std::string>& samples) {
    const auto any_grants = [](const auto& some, std::string_view permission) {
        for (const auto& grant : some) {
            if (grants(grant, permission)) {
                return true;
            }
        }
        return false;
    };
    const std::vector<std::string> effective = effective_permissions(role, narrowing);
    for (std::size_t i = 1; i < effective.size(); ++i) {
        require(effective[i - 1] < effective[i]);
    }
    for (const std::string& permission : samples) {
        require(any_grants(effective, permission) ==
                (any_grants(role, permission) && any_grants(narrowing, permission)));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<std::string> lines = lines_of(text_from({data, size}));
    std::vector<std::string_view> valid;
    std::vector<std::string> samples;
    const auto sample = [&samples](std::string permission) {
        if (is_valid_permission(permission)) {
            samples.push_back(std::move(permission));
        }
    };
    for (const std::string& line : lines) {
        require(!is_valid_permission(line) || (is_valid_grant(line) && line.find('*') == std::string::npos));
        if (is_valid_grant(line)) {
            valid.push_back(line);
            sample(member_of(line, "a", "b"));
            sample(member_of(line, "b", "a:b"));
            sample(member_of(line, "a:b", "a"));
            sample(line + ":a");
            sample(line.substr(0, line.rfind(':')));
        } else {
            // Outside the contract, but it must not read beyond the text.
            (void)intersect(line, lines.front());
            (void)covers(line, lines.front());
        }
    }
    for (const std::string_view a : valid) {
        for (const std::string_view b : valid) {
            check_pair(std::string(a), std::string(b), samples);
        }
    }
    const auto half = valid.begin() + static_cast<std::ptrdiff_t>(valid.size() / 2);
    check_effective({valid.begin(), half}, {half, valid.end()}, samples);
    return 0;
}
