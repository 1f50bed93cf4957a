#include "flow/key_triggers.h"
#include "pg/boundary.h"
#include "store/withheld.h"

namespace apikey::entry {
namespace {

const TriggerData& trigger_of(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        throw pg::Failure(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "this function is a trigger");
    }
    return *reinterpret_cast<const TriggerData*>(fcinfo->context);
}

}  // namespace
}  // namespace apikey::entry

using namespace apikey;

PG_ENTRY(apikey_key_check_references) {
    const TriggerData& trigger = entry::trigger_of(fcinfo);
    flow::check_references(trigger);
    return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger.tg_event) ? trigger.tg_newtuple
                                                                     : trigger.tg_trigtuple);
}

PG_ENTRY(apikey_fill_withheld) {
    return PointerGetDatum(store::Withheld::fill(entry::trigger_of(fcinfo)));
}

PG_ENTRY(apikey_key_after_insert) {
    flow::record_issue(entry::trigger_of(fcinfo));
    return PointerGetDatum(nullptr);
}
