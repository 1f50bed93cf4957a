#pragma once

#include "core/verdict.h"
#include "pg/failure.h"

namespace apikey::store {

/** SQLSTATE PT and three digits, which PostgREST turns into the response's status. */
int sqlstate_of_http(int status);

/** A verdict on its way to the SQL caller as an error: SQLSTATE of its HTTP status, the code as message, JSON
 * as detail. */
class Refusal : public pg::Failure {
  public:
    Refusal(core::Code code, std::string json, std::string hint = {});

    core::Code code() const noexcept { return code_; }

  private:
    core::Code code_;
};

}  // namespace apikey::store
