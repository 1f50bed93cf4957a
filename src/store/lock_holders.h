#pragma once

#include "core/uuid.h"
#include "store/row_reader.h"

/** Sessions that hold up a revocation, and their end. */
namespace apikey::store {

/** What a revocation waits for, and in whose name sessions are ended. */
struct HeldUp {
    std::string what;                  ///< "key 0190…", for messages
    std::optional<core::Uuid> key_id;  ///< for the audit trail
};

/**
 * While one of these exists, this session is known as one that revokes: another revocation, which finds it in
 * line for the same row, leaves it alone. Not for what a token alone may do, since whoever stole one could
 * stand in line with many sessions.
 */
class RevokerMark {
  public:
    explicit RevokerMark(Oid table);
    RevokerMark(const RevokerMark&) = delete;
    RevokerMark& operator=(const RevokerMark&) = delete;
    ~RevokerMark();

  private:
    LOCKTAG tag_{};
};

/**
 * Terminates the sessions that hold the row, stand in line for it, or hold a lock on its table that keeps it
 * from being changed; of the last only those of users who are no superusers. Each is logged and written to
 * the audit trail (session_terminated). Error 55006 where a prepared transaction is in the way: it has no
 * session. As the owner of the tables.
 */
void end_lock_holders(const RowLockers& lockers, const HeldUp& held_up);

}  // namespace apikey::store
