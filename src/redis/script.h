#pragma once

#include <string_view>

/**
 * The Lua scripts of src/lua, which the build puts into the library. What each takes and answers is written
 * in its first lines.
 */
namespace apikey::redis {

struct Script {
    const char* name;
    std::string_view source;
    std::string_view sha1;  ///< of the source, in lower-case hex: what EVALSHA calls it by
};

extern const Script ak_check;
extern const Script ak_rate;
extern const Script ak_merge;
extern const Script ak_begin;
extern const Script ak_write;
extern const Script ak_mark;
extern const Script ak_publish;

}  // namespace apikey::redis
