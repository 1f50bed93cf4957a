#pragma once

#include "pg/guard.h"

namespace apikey::store {

/** An event, as it is written to apikey.audit_event. Who, when and from where is added. */
struct KeyEvent {
    const char* event;
    std::optional<Datum> key_id;
    std::optional<std::int32_t> generation;
    std::optional<Datum> owner;  ///< text
    Datum detail;                ///< jsonb
};

/** Call as the owner of the tables. */
void write_audit_event(const KeyEvent& event);

}  // namespace apikey::store
