#include <cstring>

#include "shm/workers.h"
#include "worker/transaction.h"

#include "pg/log.h"

namespace apikey::worker {
namespace {

Failed failed;

/** Cuts off what does not fit. Where that is in a character of several bytes, all bytes of which have the
 * highest bit set in any encoding of a server, goes back to the last one of a single byte. */
void note_message(std::string_view message) {
    std::size_t length = std::min(message.size(), failed.message.size() - 1);
    while (length < message.size() && length > 0 && (message[length - 1] & 0x80) != 0) {
        length--;
    }
    memcpy(failed.message.data(), message.data(), length);
    failed.message[length] = '\0';
}

}  // namespace

const Failed& last_failure() {
    return failed;
}

void begin_transaction(const char* purpose) {
    failed.sqlstate = 0;
    pg::call([&] {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        PushActiveSnapshot(GetTransactionSnapshot());
        pgstat_report_activity(STATE_RUNNING, purpose);
    });
}

void commit_transaction() {
    pg::call([] {
        PopActiveSnapshot();
        CommitTransactionCommand();
        pgstat_report_stat(false);
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
}

void abort_transaction(const char* purpose) {
    const pg::Report report = pg::describe_current_exception();
    const char* message = report.postgres != nullptr ? report.postgres->message : report.message;
    const char* detail = report.postgres != nullptr ? report.postgres->detail : report.detail;
    const int sqlstate = report.postgres != nullptr ? report.postgres->sqlerrcode : report.sqlstate;
    failed.sqlstate = sqlstate;
    note_message(message == nullptr ? "" : message);
    pg::log(LOG, std::string("apikey could not ") + purpose + ": " + (message == nullptr ? "" : message),
            {.detail = detail, .sqlstate = sqlstate});
    pg::call([&] {
        AbortCurrentTransaction();
        shm::note_failed_step(purpose, failed.message.data());
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
}

}  // namespace apikey::worker
