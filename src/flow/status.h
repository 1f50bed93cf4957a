#pragma once

#include "core/json_writer.h"
#include "pg/guard.h"

/** What apikey.status() says of the parts that are not in a table. */
namespace apikey::flow {

struct Status {
    std::string_view state;
    core::JsonWriter detail;
};

/** Of launcher, maintenance or mirror; 22023 for any other. */
Status worker_status(std::string_view worker);

/** Of the mirror as nodes see it, which says more than that its worker runs. */
Status mirror_status();

struct MasterKeyStatus {
    std::string_view state;
    std::string problem;  ///< with the path: for admins. Empty when there is none
};
MasterKeyStatus master_key_status();

/** Does apikey.databases name the session's database? */
bool is_listed();

}  // namespace apikey::flow
