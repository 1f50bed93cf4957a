#include "core/permission_expression.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/error.h"
#include "core/permission.h"

namespace apikey::core {
namespace {

constexpr std::size_t max_text_length = 4096;
constexpr int max_terms = 100;
constexpr int max_depth = 32;

constexpr const char* example_hint =
    "Permissions are lower case and combine with &, |, ! and parentheses, for example: "
    "chat:read & (dataset:write | admin:all) & !x:y";
constexpr const char* wildcard_hint =
    "Wildcards belong in grants (a role's or a key's permissions). Require one permission, for example: "
    "chat:read";

[[noreturn]] void fail(const std::string& problem, const char* hint = example_hint) {
    throw InvalidArgument("permission expression: " + problem, hint);
}

/** A caller may have passed a token by mistake: one character is all that an error repeats of the text. */
std::string quoted(char c) {
    if (c >= ' ' && c <= '~') {
        return std::string{'"', c, '"'};
    }
    constexpr char digits[] = "0123456789abcdef";
    const auto byte = static_cast<std::uint8_t>(c);
    return std::string{'"', '\\', 'x', digits[byte >> 4], digits[byte & 15], '"'};
}

constexpr bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n';
}

void sort_unique(std::vector<std::string>& texts) {
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
}

}  // namespace

struct PermissionExpression::Node {
    enum class Kind : std::uint8_t { permission, negation, all, any };

    Kind kind;
    std::string permission;      ///< of Kind::permission
    std::vector<Node> children;  ///< one for negation, two or more for all and any

    bool holds(Callback granted, const void* context) const {
        const auto child_holds = [&](const Node& child) { return child.holds(granted, context); };
        switch (kind) {
            case Kind::permission:
                return granted(context, permission);
            case Kind::negation:
                return !child_holds(children.front());
            case Kind::all:
                return std::all_of(children.begin(), children.end(), child_holds);
            case Kind::any:
                return std::any_of(children.begin(), children.end(), child_holds);
        }
        return false;
    }

    /**
     * Collects the permissions because of which this node is not `wanted`. Invariant: holds() != wanted. The
     * children that differ from `wanted` are the reason for every kind of node: the failing ones of a failed
     * `all`, each one of a failed `any`, and, below a negation, the other way round.
     */
    void explain(bool wanted, Callback granted, const void* context, Requirement& result) const {
        switch (kind) {
            case Kind::permission:
                (wanted ? result.missing : result.forbidden).push_back(permission);
                return;
            case Kind::negation:
                children.front().explain(!wanted, granted, context, result);
                return;
            case Kind::all:
            case Kind::any:
                for (const Node& child : children) {
                    if (child.holds(granted, context) != wanted) {
                        child.explain(wanted, granted, context, result);
                    }
                }
                return;
        }
    }
};

/**
 * Recursive descent, one function for each level of precedence:
 *
 *     any    = all ('|' all)*
 *     all    = factor ('&' factor)*
 *     factor = '!' factor | '(' any ')' | permission
 */
class PermissionExpression::Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    Node parse() {
        if (text_.size() > max_text_length) {
            fail("longer than " + std::to_string(max_text_length) + " characters");
        }
        if (std::all_of(text_.begin(), text_.end(), is_blank)) {
            fail("empty");
        }
        Node root = any(0);
        if (position_ < text_.size()) {
            fail_expecting("&, | or the end");
        }
        return root;
    }

  private:
    using Kind = Node::Kind;

    // `depth` counts the '!' and '(' around the operand that is being read.
    Node any(int depth) { return chain(Kind::any, '|', &Parser::all, depth); }
    Node all(int depth) { return chain(Kind::all, '&', &Parser::factor, depth); }

    Node chain(Kind kind, char separator, Node (Parser::*operand)(int), int depth) {
        Node first = (this->*operand)(depth);
        if (!accept(separator)) {
            return first;
        }
        Node node{kind, {}, {}};
        node.children.push_back(std::move(first));
        do {
            node.children.push_back((this->*operand)(depth));
        } while (accept(separator));
        return node;
    }

    Node factor(int depth) {
        skip_blanks();
        const std::size_t start = position_;
        if (accept('!')) {
            check_depth(depth, start);
            Node node{Kind::negation, {}, {}};
            node.children.push_back(factor(depth + 1));
            return node;
        }
        if (accept('(')) {
            check_depth(depth, start);
            Node inner = any(depth + 1);
            if (!accept(')')) {
                fail_expecting("&, | or )");
            }
            return inner;
        }
        return permission();
    }

    Node permission() {
        const std::size_t start = position_;
        read_segment("a permission");
        while (position_ < text_.size() && text_[position_] == ':') {
            ++position_;
            read_segment("a segment");
        }
        const std::string_view name = text_.substr(start, position_ - start);
        if (name.size() > max_permission_length) {
            fail("permission longer than " + std::to_string(max_permission_length) + " characters" +
                 place(start));
        }
        if (++terms_ > max_terms) {
            fail("more than " + std::to_string(max_terms) + " permissions" + place(start));
        }
        return Node{Kind::permission, std::string(name), {}};
    }

    void read_segment(const char* what) {
        const std::size_t start = position_;
        while (position_ < text_.size() && is_segment_character(text_[position_])) {
            ++position_;
        }
        if (position_ == start) {
            fail_expecting(what);
        }
    }

    void skip_blanks() {
        while (position_ < text_.size() && is_blank(text_[position_])) {
            ++position_;
        }
    }

    /** Steps over blanks in any case, so that an error afterwards points at what was found instead. */
    bool accept(char token) {
        skip_blanks();
        if (position_ == text_.size() || text_[position_] != token) {
            return false;
        }
        ++position_;
        return true;
    }

    static void check_depth(int depth, std::size_t at) {
        if (depth == max_depth) {
            fail("more than " + std::to_string(max_depth) + " levels" + place(at));
        }
    }

    // Bytes are characters here: nothing before the first error is outside ASCII.
    static std::string place(std::size_t at) { return " at position " + std::to_string(at + 1); }

    [[noreturn]] void fail_expecting(const char* what) const {
        const bool at_end = position_ == text_.size();
        const bool at_wildcard = !at_end && text_[position_] == '*';
        fail("expected " + std::string(what) + place(position_) + ", found " +
                 (at_end ? "the end" : quoted(text_[position_])),
             at_wildcard ? wildcard_hint : example_hint);
    }

    std::string_view text_;
    std::size_t position_ = 0;
    int terms_ = 0;
};

PermissionExpression::PermissionExpression(std::unique_ptr<Node> root) : root_(std::move(root)) {}
PermissionExpression::PermissionExpression(PermissionExpression&&) noexcept = default;
PermissionExpression& PermissionExpression::operator=(PermissionExpression&&) noexcept = default;
PermissionExpression::~PermissionExpression() = default;

PermissionExpression PermissionExpression::parse(std::string_view text) {
    return PermissionExpression(std::make_unique<Node>(Parser(text).parse()));
}

Requirement PermissionExpression::evaluate_with(Callback granted, const void* context) const {
    Requirement result;
    result.satisfied = root_->holds(granted, context);
    if (!result.satisfied) {
        root_->explain(true, granted, context, result);
        sort_unique(result.missing);
        sort_unique(result.forbidden);
    }
    return result;
}

}  // namespace apikey::core
