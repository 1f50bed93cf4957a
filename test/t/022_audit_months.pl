# The audit trail's monthly partitions: made ahead of time, without a lock that stops anybody for long, and dropped when they are old.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('audit_months', extension => 0, conf => "fsync = off\nmax_worker_processes = 12\napikey.databases = 'postgres,restored,parallel,taken,locked'\n");
avoid_month_end($node);
value($node, 'CREATE ROLE mallory LOGIN; CREATE ROLE auditor LOGIN');

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until($options{database} // 'postgres', $query, $options{expected} // 't'), $what);
}

# The first and the second of the months to come, as the names of partitions.
my @months = split(/\n/, value($node, <<~'SQL'));
	SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', '"audit_event_"YYYY"_"MM') FROM generate_series(1, 2) n
	SQL
my $partitions = "SELECT coalesce(string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text), '') FROM pg_inherits WHERE inhparent = 'apikey.audit_event'::regclass";
my $with_months = join(' ', map { "apikey.$_" } sort('audit_event_default', @months));

# Made when there is something to keep.
value($node, 'CREATE EXTENSION apikey');
value($node, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory, PUBLIC");
restart_maintenance($node, 'postgres');
is(value($node, $partitions), 'apikey.audit_event_default', 'no months while there is nothing to keep');
my %key = issue($node);
value($node, "SELECT apikey.grant_access('auditor', 'auditor')");
value($node, "SET timezone = 'Pacific/Kiritimati'; SET datestyle = 'SQL, DMY'; SELECT apikey.status()");
value($node, "ALTER DATABASE postgres SET timezone = 'Pacific/Kiritimati'; ALTER DATABASE postgres SET datestyle = 'German'; ALTER DATABASE postgres SET log_min_messages = debug1");
my $offset = -s $node->logfile;
restart_maintenance($node, 'postgres');
eventually($partitions, 'the next two months have partitions', expected => $with_months);
my $log = substr(slurp_file($node->logfile), $offset);
unlike($log, qr/apikey could not/, 'nothing went wrong');
value($node, 'ALTER DATABASE postgres RESET ALL');
is(value($node, <<~'SQL'), 't', 'they are months of UTC');
	SELECT every(pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES FROM (%L) TO (%L)',
	    (to_date(right(c.relname, 7), 'YYYY_MM')::text || ' 00:00:00+00')::timestamptz,
	    ((to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month')::date::text || ' 00:00:00+00')::timestamptz))
	  FROM pg_class c WHERE c.relname ~ '^audit_event_\d'  AND c.relkind = 'r'
	SQL

# As append-only as the rest, and not to be read by a way around the parent.
my ($next) = @months;
my $of_next = "(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month 3 days') AT TIME ZONE 'UTC'";
value($node, "INSERT INTO apikey.audit_event (at, event) VALUES ($of_next, 'test')");
is(value($node, "SELECT count(*) FROM apikey.$next"), '1', 'an event of that month goes there');
for my $table ('audit_event', $next)
{
	is(sqlstate($node, "$_"), '55000', "refused: $_") for "UPDATE apikey.$table SET event = 'x' WHERE event = 'test'", "DELETE FROM apikey.$table WHERE event = 'test'", "TRUNCATE apikey.$table";
	is(sqlstate($node, "SET session_replication_role = replica; $_"), '55000', "refused to a replica: $_") for "DELETE FROM apikey.$table WHERE event = 'test'", "TRUNCATE apikey.$table";
}
is(sqlstate($node, 'SELECT * FROM apikey.audit_event', user => 'auditor'), '00000', 'an auditor reads the trail');
for my $user (qw(auditor mallory))
{
	is(value($node, "SELECT count(*) FROM pg_class c WHERE c.relname LIKE 'audit_event_%' AND has_table_privilege('$user', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AND relkind = 'r'"),
		'0', "$user has no privilege on a partition");
}
is(value($node, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'apikey' AND tablename = '$next'"), '3', 'a partition has its indexes');

# Retention.
value($node, <<~'SQL');
	SELECT apikey.make_audit_month(m) FROM unnest('{2019-11-01,2019-12-01,2020-01-01}'::date[]) m
	SQL
value($node, "INSERT INTO apikey.audit_event (at, event) VALUES ('2019-12-05', 'old')");
is(value($node, "SELECT apikey.drop_audit_month(NULL)"), '0', 'kept for ever: nothing is dropped');
is(value($node, "SELECT apikey.drop_audit_month(now() - '2019-11-30 23:59:00+00')"), '0', 'nothing while a part of the month is young enough');
is(value($node, "SELECT apikey.drop_audit_month(now() - '2019-12-01 00:01:00+00')"), '1', 'the month that is older as a whole');
is(value($node, $partitions), "apikey.audit_event_2019_12 apikey.audit_event_2020_01 $with_months", 'is dropped, and no other');
value($node, "ALTER SYSTEM SET apikey.audit_retention = '10d'; SELECT pg_reload_conf()");
restart_maintenance($node, 'postgres');
eventually($partitions, 'the worker drops the oldest', expected => "apikey.audit_event_2020_01 $with_months");
restart_maintenance($node, 'postgres');
eventually($partitions, 'and at its next look the next', expected => $with_months);
is(value($node, "SELECT count(*) FROM apikey.audit_event WHERE event = 'old'"), '0', 'with its events');
is(value($node, "SELECT string_agg(detail->>'month', ' ' ORDER BY at) FROM apikey.audit_event WHERE event = 'audit_month_dropped'"), '2019-11 2019-12 2020-01', 'which the trail says');
value($node, 'ALTER SYSTEM RESET apikey.audit_retention; SELECT pg_reload_conf()');

# Dump and restore into a database whose worker is at work meanwhile: it makes no month before the dump's own is there.
local %ENV = $node->_get_env();
my $directory = PostgreSQL::Test::Utils::tempdir();
my $trail = 'SELECT to_jsonb(e) FROM apikey.audit_event e ORDER BY event_id';
my $before = value($node, $trail);
for my $way (
	[ 'restored', [ '-Fp' ], [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f' ] ],
	[ 'parallel', [ '-Fc' ], [ 'pg_restore', '--exit-on-error', '-j4' ] ])
{
	my ($database, $options, $restore) = @$way;
	my ($output, $errors) = ('', '');
	ok(IPC::Run::run([ 'pg_dump', @$options, '-f', "$directory/$database", '-d', $node->connstr('postgres') ], '>', \$output, '2>', \$errors), "$database: dumped");
	is($errors, '', "$database: in silence");
	value($node, "CREATE DATABASE $database TEMPLATE template0");
	value($node, 'SELECT pg_reload_conf()');
	eventually("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apikey maintenance' AND datname = '$database'", "$database: has a worker");
	ok(IPC::Run::run([ $restore->[0], '-d', $node->connstr($database), @$restore[1 .. $#$restore], "$directory/$database" ], '>', \$output, '2>', \$errors), "$database: restored");
	is($errors, '', "$database: in silence");
	is(value($node, "SELECT to_jsonb(e) FROM apikey.audit_event e WHERE event <> 'expired' ORDER BY event_id", database => $database), $before, "$database: the trail is the same");
	restart_maintenance($node, $database);
	is(value($node, $partitions, database => $database), $with_months, "$database: so are its months");
	is(sqlstate($node, "TRUNCATE apikey.$next", database => $database), '55000', "$database: and they are append-only");
	is(sqlstate($node, "SET session_replication_role = replica; DELETE FROM apikey.$next", database => $database), '55000', "$database: to everybody");
	is(value($node, "SELECT string_agg(state, ' ') FROM apikey.status() WHERE component = 'triggers'", database => $database), 'ok', "$database: status agrees");
}

# While the extension is there and empty, as after the first lines of a restore, the worker keeps its hands off.
value($node, 'DROP EXTENSION apikey');
is(value($node, "SELECT count(*) FROM pg_class WHERE relname LIKE 'audit_event%'"), '0', 'DROP EXTENSION drops the months');
value($node, 'CREATE EXTENSION apikey');
restart_maintenance($node, 'postgres');
is(value($node, $partitions), 'apikey.audit_event_default', 'created again: no months');
issue($node);
restart_maintenance($node, 'postgres');
eventually($partitions, 'until there is something to keep', expected => $with_months);

# A month that cannot be made, here because something else has the name of its index, is not left half-way, and keeps back no other.
my @at = (database => 'taken');
value($node, 'CREATE DATABASE taken');
value($node, 'CREATE EXTENSION apikey', @at);
value($node, "CREATE TABLE apikey.${next}_pkey (taken integer)", @at);
issue($node, @at);
value($node, 'SELECT pg_reload_conf()');
$offset = -s $node->logfile;
restart_maintenance($node, 'taken');
ok(eval { $node->wait_for_log(qr/apikey could not make a month: relation "${next}_pkey" already exists/, $offset) }, 'a name that is taken: the worker says so');
eventually($partitions, 'and makes the other', @at, expected => "apikey.$months[1] apikey.audit_event_default");
is(sqlstate($node, "INSERT INTO apikey.audit_event (at, event) VALUES ($of_next, 'test')", @at), '00000', 'which takes the events of that month');
value($node, "DROP TABLE apikey.${next}_pkey", @at);

eventually($partitions, 'free again: made', @at, expected => $with_months);
is(value($node, "SELECT count(*) FROM apikey.$next", @at), '1', 'with the event of that month');

# Somebody else's table of that name is left alone.
@at = (database => 'locked');
value($node, 'CREATE DATABASE locked');
value($node, 'CREATE EXTENSION apikey', @at);
value($node, "CREATE TABLE apikey.$next (mine integer)", @at);
issue($node, @at);
value($node, 'SELECT pg_reload_conf()');
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'maintenance'", 'the worker has come', @at);
restart_maintenance($node, 'locked');
eventually($partitions, "somebody else's table in the place of a month: the others are made", @at, expected => "apikey.$months[1] apikey.audit_event_default");
is(value($node, "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'apikey.$next'::regclass AND attnum > 0", @at), 'mine', 'and it stays what it was');

# A reader of the trail holds up the making of months, and the worker holds up nobody for longer than half a second.
value($node, "DROP TABLE apikey.$next", @at);
my $reader = session($node, @at);
value($reader, 'BEGIN; SELECT count(*) FROM apikey.audit_event');
$offset = -s $node->logfile;
restart_maintenance($node, 'locked');
ok(eval { $node->wait_for_log(qr/apikey could not make a month: canceling statement due to lock timeout/, $offset) }, 'somebody reads: the worker gives up for now');
is(sqlstate($node, "SET statement_timeout = '2s'; SELECT apikey.issue('acme')", @at), '00000', 'others write');
value($reader, 'COMMIT');
eventually($partitions, 'and tries again', @at, expected => $with_months);
$reader->quit;

done_testing();
