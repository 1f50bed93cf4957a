#pragma once

#include <string>
#include <string_view>

namespace apikey::core {

/**
 * The one normal form of a role's name: outer blanks dropped, ASCII lower case, each run of '-', '_' and
 * white space one '_'. 'Node-Operator' becomes 'node_operator'. The result may still be no valid name.
 */
std::string normalize_role_name(std::string_view name);

/** [a-z][a-z0-9_]{0,62}, and its own normal form. */
bool is_valid_role_name(std::string_view name);

}  // namespace apikey::core
