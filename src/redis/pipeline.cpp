#include "redis/pipeline.h"

#include <array>
#include <charconv>

namespace apikey::redis {
namespace {

constexpr std::string_view line_end = "\r\n";

}  // namespace

void Pipeline::append_header(char type, std::size_t number) {
    std::array<char, 24> text;
    text[0] = type;
    char* end = std::to_chars(text.data() + 1, text.data() + text.size(), number).ptr;
    end += line_end.copy(end, line_end.size());
    encoded_.append(text.data(), end);
}

void Pipeline::append_argument(std::string_view argument) {
    append_header('$', argument.size());
    encoded_.append(argument);
    encoded_.append(line_end);
}

void Pipeline::finish(std::size_t begin, std::string_view routing_key, const Script* script) {
    const std::int32_t slot = routing_key.empty() ? any_slot : core::redis_slot(routing_key);
    commands_.push_back({begin, encoded_.size(), script, slot});
}

void Pipeline::command(std::string_view routing_key, Arguments arguments) {
    const std::size_t begin = encoded_.size();
    append_header('*', arguments.size());
    for (const std::string_view argument : arguments) {
        append_argument(argument);
    }
    finish(begin, routing_key, nullptr);
}

void Pipeline::eval(const Script& script, Arguments keys, Arguments arguments) {
    const std::size_t begin = encoded_.size();
    append_header('*', 3 + keys.size() + arguments.size());
    append_argument("EVALSHA");
    append_argument(script.sha1);
    append_argument(std::to_string(keys.size()));
    for (const std::string_view key : keys) {
        append_argument(key);
    }
    for (const std::string_view argument : arguments) {
        append_argument(argument);
    }
    finish(begin, keys.empty() ? std::string_view() : keys.front(), &script);
}

}  // namespace apikey::redis
