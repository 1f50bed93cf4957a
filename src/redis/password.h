#pragma once

#include <string>

#include "core/secret.h"

namespace apikey::redis {

/** The password in that file, without the line's end; empty for no path. Relative paths are relative to the
 * data directory. Throws LinkError when it cannot be read, or when others can read it: it must be a regular
 * file of the server's user or root, with no access for group and others. */
core::SecretBytes read_password(const std::string& path);

}  // namespace apikey::redis
