#include "core/permission.h"

#include <algorithm>
#include <utility>

namespace apikey::core {
namespace {

constexpr std::string_view wildcard = "*";

/** Walks over the segments of a permission or grant without copying them. */
class Segments {
  public:
    explicit Segments(std::string_view text) : rest_(text) { advance(); }

    bool done() const { return done_; }
    std::string_view current() const { return current_; }

    /** The one-or-more wildcard, which only the last segment can be. */
    bool at_tail() const { return !done_ && is_last_ && current_ == wildcard; }

    /** The current segment and all that follow. */
    std::string_view remainder() const { return remainder_; }

    void advance() {
        if (is_last_) {
            done_ = true;
            return;
        }
        remainder_ = rest_;
        const std::size_t colon = rest_.find(':');
        current_ = rest_.substr(0, colon);
        is_last_ = colon == std::string_view::npos;
        rest_.remove_prefix(is_last_ ? rest_.size() : colon + 1);
    }

  private:
    std::string_view rest_;
    std::string_view remainder_;
    std::string_view current_;
    bool is_last_ = false;
    bool done_ = false;
};

bool is_literal_segment(std::string_view segment) {
    return !segment.empty() && std::all_of(segment.begin(), segment.end(), is_segment_character);
}

template <typename SegmentRule>
bool every_segment(std::string_view text, const SegmentRule& is_right) {
    if (text.size() > max_permission_length) {
        return false;
    }
    for (Segments segments(text); !segments.done(); segments.advance()) {
        if (!is_right(segments.current())) {
            return false;
        }
    }
    return true;
}

/** What both segments match when each stands for exactly one. */
std::optional<std::string_view> meet(std::string_view a, std::string_view b) {
    if (a == wildcard || a == b) {
        return b;
    }
    if (b == wildcard) {
        return a;
    }
    return std::nullopt;
}

/**
 * Sorts, and drops what another one covers. One pass is enough: '*' sorts before every character of a segment
 * and a prefix sorts before what it begins, so that a grant always sorts after those that cover it.
 */
std::vector<std::string> without_covered(std::vector<std::string> candidates) {
    std::sort(candidates.begin(), candidates.end());
    std::vector<std::string> kept;
    for (std::string& candidate : candidates) {
        const bool redundant = std::any_of(
            kept.begin(), kept.end(), [&](const std::string& wider) { return covers(wider, candidate); });
        if (!redundant) {
            kept.push_back(std::move(candidate));
        }
    }
    return kept;
}

}  // namespace

bool is_valid_permission(std::string_view permission) {
    return every_segment(permission, is_literal_segment);
}

bool is_valid_grant(std::string_view grant) {
    return every_segment(
        grant, [](std::string_view segment) { return segment == wildcard || is_literal_segment(segment); });
}

bool grants(std::string_view grant, std::string_view permission) {
    // A permission is the grant of itself alone.
    return covers(grant, permission);
}

bool covers(std::string_view wider, std::string_view narrower) {
    Segments outer(wider);
    Segments inner(narrower);
    for (; !outer.done() && !inner.done(); outer.advance(), inner.advance()) {
        if (outer.at_tail()) {
            return true;
        }
        // A `*` of the narrower one meets no literal: it stands for more than one segment text. Where it is
        // the narrower one's tail and the wider one's is not, the wider one still has a segment to come, and
        // the walk ends unequal.
        if (outer.current() != wildcard && outer.current() != inner.current()) {
            return false;
        }
    }
    return outer.done() && inner.done();
}

std::optional<std::string> intersect(std::string_view a, std::string_view b) {
    Segments left(a);
    Segments right(b);
    std::string result;
    const auto append = [&result](std::string_view text) {
        if (!result.empty()) {
            result += ':';
        }
        result += text;
    };
    for (; !left.done() && !right.done(); left.advance(), right.advance()) {
        // A tail asks for one segment or more, which whatever is left of the other one gives.
        if (left.at_tail() || right.at_tail()) {
            append(left.at_tail() ? right.remainder() : left.remainder());
            break;
        }
        const std::optional<std::string_view> both = meet(left.current(), right.current());
        if (!both) {
            return std::nullopt;
        }
        append(*both);
    }
    if (left.done() != right.done()) {
        return std::nullopt;
    }
    // A grant matches nothing shorter than itself, and no permission is longer than this.
    if (result.size() > max_permission_length) {
        return std::nullopt;
    }
    return result;
}

std::vector<std::string> effective_permissions(std::span<const std::string_view> role,
                                               std::optional<std::span<const std::string_view>> narrowing) {
    std::vector<std::string> candidates;
    if (!narrowing) {
        candidates.assign(role.begin(), role.end());
        return without_covered(std::move(candidates));
    }
    for (const std::string_view granted : role) {
        for (const std::string_view kept : *narrowing) {
            if (std::optional<std::string> both = intersect(granted, kept)) {
                candidates.push_back(*std::move(both));
            }
        }
    }
    return without_covered(std::move(candidates));
}

}  // namespace apikey::core
