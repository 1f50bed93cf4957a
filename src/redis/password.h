#pragma once

#include <string>

#include "core/secret.h"

namespace apikey::redis {

/** The password in that file, without the line's end; empty for no path. Relative paths are relative to the
 * data directory. Throws LinkError when it cannot be read, or the rule of core/secret_file.h refuses it. */
core::SecretBytes read_password(const std::string& path);

}  // namespace apikey::redis
