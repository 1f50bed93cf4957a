#include "core/strict_json.h"

#include <nlohmann/json.hpp>

namespace apikey::core {
namespace {

/** Builds the tree without recursion; refusing is returning false, which ends the parse at once. */
class TreeBuilder {
  public:
    explicit TreeBuilder(std::string& why) : why_(why) {}

    JsonValue& root() { return root_; }

    bool null() { return add(nullptr); }
    bool boolean(bool value) { return add(value); }
    bool number_unsigned(std::uint64_t value) { return add(value); }
    // Called for what begins with a minus sign only.
    bool number_integer(std::int64_t) { return add(OtherNumber{}); }
    bool number_float(double, const std::string&) { return add(OtherNumber{}); }
    bool string(std::string& value) { return is_clean(value) && add(std::move(value)); }
    // Exists for the binary formats that this interface also serves.
    bool binary(std::vector<std::uint8_t>&) { return refuse("binary value"); }

    bool start_object(std::size_t) { return open(JsonObject{}); }
    bool start_array(std::size_t) { return open(JsonArray{}); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }

    bool key(std::string& name) {
        auto& members = std::get<JsonObject>(open_.back()->value);
        if (find_member(members, name) != nullptr) {
            return refuse("a JSON member appears twice");
        }
        if (members.size() == max_json_members) {
            return refuse("a JSON object has too many members");
        }
        if (!is_clean(name)) {
            return false;
        }
        members.push_back({std::move(name), {}});
        return true;
    }

    bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) {
        // The library's own message quotes the text, which may be a token.
        return refuse("not valid JSON");
    }

  private:
    bool refuse(const char* reason) {
        why_ = reason;
        return false;
    }

    bool is_clean(const std::string& text) {
        return text.find('\0') == std::string::npos || refuse("NUL character in a JSON string");
    }

    /** Where the value that comes now belongs. Pointers in open_ stay valid: only the innermost container
     * grows. */
    JsonValue& place() {
        if (open_.empty()) {
            return root_;
        }
        JsonValue& container = *open_.back();
        if (auto* items = std::get_if<JsonArray>(&container.value)) {
            return items->emplace_back();
        }
        return std::get<JsonObject>(container.value).back().value;
    }

    template <typename T>
    bool add(T&& value) {
        place().value = std::forward<T>(value);
        return true;
    }

    template <typename T>
    bool open(T container) {
        if (open_.size() == static_cast<std::size_t>(max_json_depth)) {
            return refuse("JSON is nested too deeply");
        }
        JsonValue& value = place();
        value.value = std::move(container);
        open_.push_back(&value);
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    std::string& why_;
    JsonValue root_;
    std::vector<JsonValue*> open_;
};

}  // namespace

std::optional<JsonObject> parse_json_object(std::string_view text, std::size_t max_size, std::string& why) {
    if (text.size() > max_size) {
        why = "JSON is too long";
        return std::nullopt;
    }
    // Two things that the library lets pass: it skips a byte order mark, and takes a NUL byte for the end of
    // the text.
    if (text.starts_with("\xEF\xBB\xBF") || text.find('\0') != std::string_view::npos) {
        why = "not valid JSON";
        return std::nullopt;
    }
    TreeBuilder builder(why);
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder, nlohmann::json::input_format_t::json,
                                   /* strict */ true, /* ignore_comments */ false)) {
        return std::nullopt;
    }
    auto* object = std::get_if<JsonObject>(&builder.root().value);
    if (object == nullptr) {
        why = "not a JSON object";
        return std::nullopt;
    }
    return std::move(*object);
}

const JsonValue* find_member(const JsonObject& object, std::string_view name) {
    for (const JsonMember& member : object) {
        if (member.name == name) {
            return &member.value;
        }
    }
    return nullptr;
}

void append_json_string(std::string& json, std::string_view text) {
    constexpr std::string_view hex_digits = "0123456789abcdef";
    json += '"';
    for (const char c : text) {
        const auto byte = static_cast<std::uint8_t>(c);
        if (c == '"' || c == '\\') {
            json += '\\';
            json += c;
        } else if (byte < 0x20) {
            json += "\\u00";
            json += hex_digits[byte >> 4];
            json += hex_digits[byte & 15];
        } else {
            json += c;
        }
    }
    json += '"';
}

}  // namespace apikey::core
