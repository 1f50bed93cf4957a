#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/permission.h"
#include "core/permission_expression.h"

namespace {

using namespace apikey::core;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/** With an odd first byte the rest is taken as it is, else it chooses from an alphabet in which expressions
 * are frequent. */
std::string text_from(std::span<const std::uint8_t> input) {
    constexpr std::string_view alphabet = "aabbcd:&&||!()()  *";
    std::string text;
    for (const std::uint8_t byte : input.subspan(1)) {
        text += input[0] % 2 != 0 ? static_cast<char>(byte) : alphabet[byte % alphabet.size()];
    }
    return text;
}

void check_error(const InvalidArgument& error) {
    const std::string_view message = error.what();
    require(message.starts_with("permission expression: ") && message.size() < 120 && !error.hint().empty());
    require(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
}

std::optional<PermissionExpression> parse(const std::string& text) {
    try {
        return PermissionExpression::parse(text);
    } catch (const InvalidArgument& error) {
        check_error(error);
        return std::nullopt;
    }
}

bool same(const Requirement& a, const Requirement& b) {
    return a.satisfied == b.satisfied && a.missing == b.missing && a.forbidden == b.forbidden;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) {
        return 0;
    }
    const std::uint8_t seed = data[1];
    const auto granted = [seed](std::string_view permission) {
        return (std::hash<std::string_view>{}(permission) >> (seed % 61) & 1) != 0;
    };

    const std::string text = text_from({data, size});
    const std::optional<PermissionExpression> expression = parse(text);
    if (!expression) {
        return 0;
    }
    const Requirement result = expression->evaluate(granted);
    require(result.satisfied == (result.missing.empty() && result.forbidden.empty()));
    for (const auto* list : {&result.missing, &result.forbidden}) {
        require(std::is_sorted(list->begin(), list->end()));
        require(std::adjacent_find(list->begin(), list->end()) == list->end());
        for (const std::string& permission : *list) {
            require(is_valid_permission(permission) && text.find(permission) != std::string::npos);
            require(granted(permission) == (list == &result.forbidden));
        }
    }

    // What is wrapped may hit a limit that the text itself just keeps.
    const auto levels = std::count_if(text.begin(), text.end(), [](char c) { return c == '!' || c == '('; });
    if (levels <= 29 && text.size() <= 4000) {
        const auto wrapped = parse("(" + text + ")");
        const auto negated = parse("!(" + text + ")");
        const auto twice = parse("!!(" + text + ")");
        require(wrapped && negated && twice);
        require(same(wrapped->evaluate(granted), result));
        require(same(twice->evaluate(granted), result));
        require(negated->evaluate(granted).satisfied != result.satisfied);
    }
    return 0;
}
