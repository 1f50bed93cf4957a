#pragma once

#include "core/json_writer.h"
#include "flow/proof.h"
#include "pg/guard.h"
#include "shm/events.h"
#include "store/refusal.h"

namespace apikey::flow {

/** What require(), refresh() and revoke_token() raise. */
store::Refusal denial(core::Code code, const std::optional<core::Uuid>& key_id,
                      const core::JsonWriter& detail, std::string hint = {});

/** Of a token that proves nothing, with the reason where there is one to tell. */
store::Refusal denial(const Proof& proof);

/** NOT_FOUND as a management function raises it (PT404): here the id is the caller's own argument, not a
 * credential. */
pg::Failure unknown_key(std::string_view id);

/** Counts the denial and puts it into the event ring. Raises nothing. `client`: where the caller has said who
 * that is. */
void record_denial(shm::Operation operation, core::Code code, const Claim& claim,
                   const std::optional<core::Network>& client);

/** Before anything is refused: what record_denial() may have to wait or to warn for. */
void prepare_to_record();

/**
 * body(claim), where whatever it refuses, wherever in it, is counted and recorded before it goes on to the
 * caller. The body notes in the claim what the token names, as soon as it knows.
 */
template <typename Body>
auto recording_denials(shm::Operation operation, Body&& body) {
    prepare_to_record();
    Claim claim;
    try {
        return body(claim);
    } catch (const store::Refusal& refusal) {
        record_denial(operation, refusal.code(), claim, std::nullopt);
        throw;
    }
}

}  // namespace apikey::flow
