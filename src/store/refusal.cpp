#include "store/refusal.h"

#include "pg/prelude.h"

namespace apikey::store {

int sqlstate_of_http(int status) {
    return MAKE_SQLSTATE('P', 'T', '0' + status / 100, '0' + status / 10 % 10, '0' + status % 10);
}

Refusal::Refusal(core::Code code, std::string json, std::string hint)
    : pg::Failure(sqlstate_of_http(core::info(code).http_status), std::string(core::info(code).name),
                  std::move(json), std::move(hint)),
      code_(code) {}

}  // namespace apikey::store
