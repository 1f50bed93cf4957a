#include "flow/denial.h"

namespace apikey::flow {
namespace {

int sqlstate_of_http(int status) {
    return MAKE_SQLSTATE('P', 'T', '0' + status / 100, '0' + status / 10 % 10, '0' + status % 10);
}

}  // namespace

pg::Failure denial(core::Code code, const std::optional<core::Uuid>& key_id, const core::JsonWriter& detail,
                   std::string hint) {
    const auto& code_info = core::info(code);
    core::JsonWriter json;
    json.add("code", code_info.name).add("message", code_info.message);
    if (key_id) {
        json.add("key_id", core::to_string(*key_id));
    }
    json.add_members(detail);
    return {sqlstate_of_http(code_info.http_status), std::string(code_info.name), json.text(),
            std::move(hint)};
}

pg::Failure unknown_key(std::string_view id) {
    core::JsonWriter json;
    json.add("code", "NOT_FOUND").add("message", "There is no key with this id.").add("key_id", id);
    return {sqlstate_of_http(404), "NOT_FOUND", json.text(), "Key ids are those that issue() returned."};
}

}  // namespace apikey::flow
