#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/**
 * JSON read so that no two readers can disagree on what it says (RFC 8725 section 2.4 and RFC 7515 section 4
 * ask for the duplicates). Internal: the rest of core sees headers and claims.
 */
namespace apikey::core {

struct JsonMember;
struct JsonValue;

using JsonArray = std::vector<JsonValue>;
/** Members in the order of the text, names unique. */
using JsonObject = std::vector<JsonMember>;

/** A number that is not a non-negative integer of 64 bits, written as one: fractions, exponents, negatives
 * (also -0). */
struct OtherNumber {};

struct JsonValue {
    std::variant<std::nullptr_t, bool, std::uint64_t, OtherNumber, std::string, JsonArray, JsonObject> value;

    /** The value when it has that type, else nullptr. */
    const std::string* string() const { return std::get_if<std::string>(&value); }
    const std::uint64_t* unsigned_integer() const { return std::get_if<std::uint64_t>(&value); }
};

struct JsonMember {
    std::string name;
    JsonValue value;
};

inline constexpr int max_json_depth = 8;
/** Bounds what comparing each name with the ones before it can cost. */
inline constexpr std::size_t max_json_members = 64;

/**
 * One JSON object (RFC 8259) in UTF-8 and nothing after it. Refused: more than `max_size` bytes, more than
 * max_json_depth levels, more than max_json_members members in an object, a name twice (compared after
 * unescaping), NUL in a string, a byte order mark. On nullopt `why` says in English what is wrong, and never
 * quotes the text. Throws nothing but std::bad_alloc.
 */
std::optional<JsonObject> parse_json_object(std::string_view text, std::size_t max_size, std::string& why);

/** The member of that name, or nullptr. */
const JsonValue* find_member(const JsonObject& object, std::string_view name);

/** Appends the text in quotes and escaped. It has to be UTF-8 already. */
void append_json_string(std::string& json, std::string_view text);

}  // namespace apikey::core
