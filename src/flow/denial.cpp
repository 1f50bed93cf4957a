#include "flow/denial.h"
#include "shm/counters.h"

namespace apikey::flow {

store::Refusal denial(core::Code code, const std::optional<core::Uuid>& key_id,
                      const core::JsonWriter& detail, std::string hint) {
    const auto& code_info = core::info(code);
    core::JsonWriter json;
    json.add("code", code_info.name).add("message", code_info.message);
    if (key_id) {
        json.add("key_id", core::to_string(*key_id));
    }
    json.add_members(detail);
    return {code, json.text(), std::move(hint)};
}

store::Refusal denial(const Proof& proof) {
    core::JsonWriter detail;
    if (!proof.why.empty()) {
        detail.add("reason", proof.why);
    }
    return denial(proof.code, std::nullopt, detail);
}

pg::Failure unknown_key(std::string_view id) {
    core::JsonWriter json;
    json.add("code", "NOT_FOUND").add("message", "There is no key with this id.").add("key_id", id);
    return {store::sqlstate_of_http(404), "NOT_FOUND", json.text(),
            "Key ids are those that issue() returned."};
}

void prepare_to_record() {
    shm::my_counters();
}

void record_denial(shm::Operation operation, core::Code code, const Claim& claim,
                   const std::optional<core::Network>& client) {
    if (operation == shm::Operation::refresh) {
        shm::count(shm::my_counters().refreshes_refused[static_cast<std::size_t>(code)]);
    }
    shm::record_denial(operation, code, claim.key_id, claim.generation, client);
}

}  // namespace apikey::flow
