#pragma once

#include <chrono>

namespace apikey::core {

/** A moment, to the microsecond that PostgreSQL counts by. */
using Instant = std::chrono::sys_time<std::chrono::microseconds>;

}  // namespace apikey::core
