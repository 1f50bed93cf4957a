#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace apikey::core {

/** What a denial tells the caller. */
struct Requirement {
    bool satisfied = false;
    std::vector<std::string> missing;    ///< not granted, and would have helped; sorted, unique
    std::vector<std::string> forbidden;  ///< granted, and excluded by the expression; sorted, unique
};

/**
 * A required permission in tsquery's notation: chat:read & (dataset:write | admin:all) & !x:y. ! binds
 * tighter than &, & tighter than |. A single permission is the simplest expression. At most 4096 characters,
 * 100 terms, 32 levels (a ! and a parenthesis are one each). Blanks may stand between tokens.
 */
class PermissionExpression {
  public:
    /** Throws InvalidArgument: where the text goes wrong (counted from 1) and what would be right. */
    static PermissionExpression parse(std::string_view text);

    PermissionExpression(PermissionExpression&&) noexcept;
    PermissionExpression& operator=(PermissionExpression&&) noexcept;
    ~PermissionExpression();

    /** `granted(permission)` answers for one permission. No allocation when satisfied. */
    template <typename Granted>
    Requirement evaluate(const Granted& granted) const {
        return evaluate_with(&call<Granted>, &granted);
    }

  private:
    using Callback = bool (*)(const void* context, std::string_view permission);
    template <typename Granted>
    static bool call(const void* context, std::string_view permission) {
        return (*static_cast<const Granted*>(context))(permission);
    }
    Requirement evaluate_with(Callback granted, const void* context) const;

    struct Node;
    class Parser;
    explicit PermissionExpression(std::unique_ptr<Node> root);
    std::unique_ptr<Node> root_;
};

}  // namespace apikey::core
