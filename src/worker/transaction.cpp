#include "worker/transaction.h"

namespace apikey::worker {

void begin_transaction(const char* purpose) {
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
    pg::call([&] {
        ereport(LOG, (errcode(sqlstate),
                      errmsg("apikey could not %s: %s", purpose, message == nullptr ? "" : message),
                      detail == nullptr ? 0 : errdetail_internal("%s", detail)));
        AbortCurrentTransaction();
        pgstat_report_activity(STATE_IDLE, nullptr);
    });
}

}  // namespace apikey::worker
