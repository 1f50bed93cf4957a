#include <nlohmann/json.hpp>

#include "core/json_writer.h"

namespace apikey::core {
namespace {

std::string quote(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void JsonWriter::begin(std::string_view name) {
    if (!members_.empty()) {
        members_ += ", ";
    }
    members_ += quote(name) + ": ";
}

JsonWriter& JsonWriter::add(std::string_view name, std::string_view value) {
    begin(name);
    members_ += quote(value);
    return *this;
}

JsonWriter& JsonWriter::add(std::string_view name, std::int64_t value) {
    begin(name);
    members_ += std::to_string(value);
    return *this;
}

JsonWriter& JsonWriter::add(std::string_view name, std::span<const std::string> values) {
    begin(name);
    members_ += '[';
    for (std::size_t i = 0; i < values.size(); i++) {
        members_ += (i == 0 ? "" : ", ") + quote(values[i]);
    }
    members_ += ']';
    return *this;
}

JsonWriter& JsonWriter::add_members(const JsonWriter& other) {
    if (!other.empty()) {
        members_ += (members_.empty() ? "" : ", ") + other.members_;
    }
    return *this;
}

}  // namespace apikey::core
