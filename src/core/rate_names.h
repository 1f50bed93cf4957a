#pragma once

#include <cstdint>
#include <string>

/** Who counts, and what is counted, in the hashes of rates: docs/redis-contract.md. */
namespace apikey::core {

/** What an anonymous client counts under: ip- and the hash of its address. */
std::string rate_address_subject(std::uint64_t first, std::uint64_t second);

/** What one start of one server counts under, for one of its databases. */
std::string rate_field(std::uint64_t system, std::uint32_t database, std::uint64_t boot);

}  // namespace apikey::core
