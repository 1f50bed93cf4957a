#include "redis/script.h"

namespace apikey::redis {

// Made from src/lua/*.lua by the Makefile: a definition for each.
#include "../../build/lua/scripts.inc"

}  // namespace apikey::redis
