#pragma once

#include <string_view>

namespace apikey::core {

/**
 * What people get wrong when they copy a token or put it into a header, from the text alone: white space or
 * quotation marks around it, "Bearer" in front, an invisible character. English, and never a part of the
 * text; empty when nothing of the kind is to be seen. For texts that are no token as they are; of a text that
 * is too long to be one only the ends are looked at.
 */
std::string_view likely_mistake(std::string_view text);

}  // namespace apikey::core
