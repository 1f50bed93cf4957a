#pragma once

#include <vector>

#include "core/uuid.h"
#include "pg/guard.h"

/**
 * The tables as the mirror worker reads and writes them. In a transaction, as a superuser, with a snapshot.
 * What is not due at `now`, or has expired a minute before it, is no withdrawal.
 */
namespace apikey::store {

/** A row of revocation. */
struct Withdrawal {
    core::Uuid key_id;
    std::optional<std::int32_t> generation;  ///< none: all generations
    bool changed;  ///< not withdrawn: a claim of the token is untrue, so that a node must ask
    TimestampTz effective_at;
    TimestampTz until;
};

/** A key whose state Redis must be told, and all withdrawals that there are of it. */
struct ChangedKey {
    core::Uuid key_id;
    bool restored = false;  ///< a withdrawal was taken back
    std::string xid;        ///< of the last of its rows in the outbox; empty when it has none
    std::string reason;     ///< of the revocation; may be empty
    std::vector<Withdrawal> withdrawals;
};

struct OutboxBatch {
    std::vector<std::int64_t> ids;  ///< all rows that were read
    std::vector<ChangedKey> keys;
    bool roles = false;
    bool jwks = false;
};

/** The first rows of the outbox, at most `limit`. Fewer than that are all that the snapshot shows. */
OutboxBatch read_outbox(int limit);
/** Of all rows that the snapshot shows; 0 when there is none. */
std::int64_t highest_in_outbox();
void delete_from_outbox(std::span<const std::int64_t> ids);

/** Withdrawals of generations that become effective after `from`, up to `to`; at most `limit`, the earliest
 * first, but all of the last one's instant. */
std::vector<Withdrawal> read_due(TimestampTz from, TimestampTz to, int limit);

/** All withdrawals of the keys after `after` (nullptr: from the first on), about `limit`, by key. */
std::vector<Withdrawal> read_withdrawals(const core::Uuid* after, int limit);

/** A part of them, counted by bucket. */
struct CountedWithdrawals {
    std::array<std::int64_t, 16> by_bucket{};
    std::optional<core::Uuid> last;  ///< the last key that was looked at; nullopt when there was none
};
/** Of the withdrawals of the keys after `after`, about `limit` of them, by key: those that were in force by
 * `effective` and are so until after `until`, but for keys that are in the outbox. */
CountedWithdrawals count_withdrawals(const core::Uuid* after, int limit, TimestampTz effective,
                                     TimestampTz until);

/** What this database thinks of members that it did not send: 'unknown' when it has no such key, 'withdrawn'
 * when there is a row after all, else 'live'. */
enum class Standing : std::uint8_t { unknown, withdrawn, live };
std::vector<Standing> standing_of(std::span<const std::string> members);

struct UnknownMember {
    std::string member;
    TimestampTz until;
};
void forget_unknown_members();
void note_unknown_members(std::span<const UnknownMember> members);

struct Epoch {
    std::string epoch;
    std::uint64_t counter;
};
/** A new one, greater than all of ours and than `above`. Must be committed before Redis sees it: the commit
 * waits for its WAL. */
Epoch make_epoch(std::uint32_t timeline, std::uint64_t above, std::string_view cause);
/** The latest timeline that an epoch of ours was begun under; 0 when there is none. */
std::uint32_t latest_epoch_timeline();
bool is_own_epoch(std::string_view epoch);

std::string jwks_text();
/** Name and JSON of each role. */
std::vector<std::pair<std::string, std::string>> role_texts();

std::int64_t prune_outbox(int batch);

}  // namespace apikey::store
