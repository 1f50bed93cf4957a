# A publication FOR ALL TABLES over a new month of the audit trail, which the subscriber has no partition for: revocations go on arriving.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = new_cluster('months_publisher', streaming => 'logical');
my $subscriber = new_cluster('months_subscriber', conf => "wal_retrieve_retry_interval = '100ms'\n");
avoid_month_end($publisher);
my $publications = "SELECT state FROM apikey.status() WHERE component = 'publications'";
my $next = value($publisher, "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY-MM')");
my $partition = 'apikey.audit_event_' . ($next =~ s/-/_/r);
my $event = 0;

sub code_there { my ($token, $code) = @_; return await_code($subscriber, $token, $code) }

# Of that month, and of one that neither side has a partition for.
sub events
{
	$event++;
	value($publisher, "INSERT INTO apikey.audit_event (at, event, detail) VALUES ('$next-03', 'test', '{\"n\": $event}'), ('2034-01-01', 'later', '{\"n\": $event}')");
	return $event;
}

my %first = issue($publisher);
write_file($subscriber->data_dir . '/apikey_master.key', slurp_file($publisher->data_dir . '/apikey_master.key'), 0600);
is(value($publisher, $publications), 'ok', 'no publication: in order');

# As documented.
value($publisher, 'CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)');
value($subscriber, 'CREATE SUBSCRIPTION everything CONNECTION ' . literal($publisher->connstr('postgres')) . ' PUBLICATION everything');
$publisher->wait_for_catchup('everything');
ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')"), 'the tables are copied');
is(value($subscriber, "SELECT count(*) FROM apikey.audit_event WHERE event = 'issued'"), '1', 'the audit trail too');
is(value($publisher, $publications), 'ok', 'status: in order');
value($publisher, "SELECT apikey.make_audit_month('$next-01')");
events();
my %second = issue($publisher);
is(code_there($second{token}, 'VALID'), 'VALID', 'over a new month: a new key arrives');
value($publisher, "SELECT * FROM apikey.revoke('$_->{key_id}')") for \%first, \%second;
is(code_there($_->{token}, 'REVOKED'), 'REVOKED', 'and a revocation') for \%first, \%second;
my $arrived = "SELECT string_agg(event || ' ' || tableoid::regclass, ', ' ORDER BY event, detail) FROM apikey.audit_event WHERE event IN ('test', 'later')";
is(value($subscriber, $arrived), 'later apikey.audit_event_default, test apikey.audit_event_default', 'events of both months are there');

# The subscriber has the month, and the publisher has not.
value($subscriber, "SELECT apikey.make_audit_month('2034-01-01')");
events();
$publisher->wait_for_catchup('everything');
is(value($subscriber, "$arrived AND detail->>'n' = '2'"), 'later apikey.audit_event_2034_01, test apikey.audit_event_default', 'months of the subscriber\'s own take theirs');

# Without the option: status() warns at once. A partition that the subscriber has not stops it, which the documentation says how to mend.
value($publisher, 'ALTER PUBLICATION everything SET (publish_via_partition_root = false)');
is(value($publisher, $publications), 'partitions', 'published by partition: status warns');
like(value($publisher, "SELECT detail->>'everything' FROM apikey.status() WHERE component = 'publications'"), qr/publish_via_partition_root = true/, 'and says what to do');
value($publisher, 'CREATE PUBLICATION one FOR TABLE apikey.key');
is(value($publisher, "SELECT detail ? 'one' FROM apikey.status() WHERE component = 'publications'"), 'f', 'not of one that leaves the audit trail out');
my $offset = -s $subscriber->logfile;
events();
my %third = issue($publisher);
ok(eval { $subscriber->wait_for_log(qr/logical replication target relation "\Q$partition\E" does not exist/, $offset) }, 'the subscriber stops');
value($publisher, 'ALTER PUBLICATION everything SET (publish_via_partition_root = true)');
value($subscriber, "CREATE TABLE $partition (LIKE apikey.audit_event)");
is(code_there($third{token}, 'VALID'), 'VALID', 'a table of that name, for now: it goes on');
value($subscriber, 'ALTER SUBSCRIPTION everything REFRESH PUBLICATION WITH (copy_data = false)');
value($subscriber, "DROP TABLE $partition");
events();
value($publisher, "SELECT * FROM apikey.revoke('$third{key_id}')");
is(code_there($third{token}, 'REVOKED'), 'REVOKED', 'revocations arrive again');
is(value($subscriber, "$arrived AND detail->>'n' = '4'"), 'later apikey.audit_event_2034_01, test apikey.audit_event_default', 'and events');
is(value($publisher, $publications), 'ok', 'status: in order');

$_->stop for $subscriber, $publisher;
done_testing();
