#include "worker/member_count.h"

#include "core/mirror_layout.h"
#include "store/mirror.h"
#include "worker/transaction.h"

namespace apikey::worker {
namespace {

/** A revocation that is committed now waits for as long as this takes to read. */
constexpr int page_rows = 2048;
/** Differences of the clocks do not make a member missing. */
constexpr std::int64_t margin_us = 5 * USECS_PER_SEC;
/** Members leave Redis a minute after their tokens expired. What is counted stays for this long at least. */
constexpr std::int64_t most_us = 2 * 60 * USECS_PER_SEC;

}  // namespace

void MemberCount::begin(const BucketCounts& removed, TimestampTz now) {
    state_ = State::running;
    began_at_ = now;
    spent_us_ = 0;
    last_.reset();
    counts_ = {};
    removed_before_ = removed;
}

void MemberCount::advance() {
    const TimestampTz now = GetCurrentTimestamp();
    if (now - began_at_ > most_us || now < began_at_) {
        state_ = State::idle;
        return;
    }
    store::CountedWithdrawals page;
    const bool read = run_step("count withdrawals", [&] {
        page = store::count_withdrawals(last_ ? &*last_ : nullptr, page_rows, began_at_ - margin_us,
                                        began_at_ + most_us + margin_us - core::member_grace_us);
    });
    spent_us_ += GetCurrentTimestamp() - now;
    if (!read) {
        throw StepFailed();
    }
    for (std::size_t i = 0; i < counts_.size(); i++) {
        counts_[i] += page.by_bucket[i];
    }
    last_ = page.last;
    if (!last_) {
        state_ = State::finished;
    }
}

BucketCounts MemberCount::at_least(const BucketCounts& removed) {
    state_ = State::idle;
    BucketCounts result = counts_;
    for (std::size_t i = 0; i < result.size(); i++) {
        result[i] -= removed[i] - removed_before_[i];
    }
    return result;
}

}  // namespace apikey::worker
