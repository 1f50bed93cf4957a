# A month of the audit trail that cannot be made leaves nothing behind, its events are kept all the same, and status() says what is wrong.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($library) = `pg_config --pkglibdir` =~ /(.+)/;
my $pgaudit = -e "$library/pgaudit.so";
die 'pgaudit is needed in CI' if $ENV{CI} && !$pgaudit;
my $libraries = $pgaudit ? 'pgaudit, apikey' : 'apikey';
my $node = new_cluster('audit_month_failures', extension => 0, preload => 0, conf => <<~CONF);
	shared_preload_libraries = '$libraries'
	fsync = off
	max_worker_processes = 12
	apikey.databases = 'postgres,audited'
	CONF
avoid_month_end($node);

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until($options{database} // 'postgres', $query, $options{expected} // 't'), $what);
}

sub months { return (row($node, "SELECT state, detail FROM apikey.status() WHERE component = 'audit_months'")) }

my ($this, $next, $after) = split(/\n/, value($node, <<~'SQL'));
	SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY-MM') FROM generate_series(0, 2) n
	SQL
my $partitions = "SELECT coalesce(string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text), '') FROM pg_inherits WHERE inhparent = 'apikey.audit_event'::regclass";
my $with_months = join(' ', sort('apikey.audit_event_default', map { 'apikey.audit_event_' . s/-/_/r } $next, $after));
my $next_partition = 'apikey.audit_event_' . ($next =~ s/-/_/r);
my $into_next = "INSERT INTO apikey.audit_event (at, event) VALUES ('$next-03', 'test') RETURNING tableoid::regclass";
my $left = "SELECT (SELECT count(*) FROM pg_class WHERE relname ~ '^audit_event_[0-9]') + (SELECT count(*) FROM pg_constraint WHERE conrelid = 'apikey.audit_event_default'::regclass AND contype = 'c')";

# An event trigger, as anybody may have for their own reasons, refuses what makes a month.
value($node, 'CREATE EXTENSION apikey');
my %key = issue($node);
restart_maintenance($node, 'postgres');
eventually($partitions, 'the next two months', expected => $with_months);
eventually("SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'apikey' AND tablename = 'audit_event' AND inherited", 'the trail as a whole has statistics');
my %months = months();
is($months{state}, 'ok', 'status: in order');
is_deeply($months{detail}, { in_default => [$this] }, 'and where the events are');
value($node, 'DROP EXTENSION apikey; CREATE EXTENSION apikey');
value($node, <<~'SQL');
	CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no change of tables today'; END $$;
	CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.refuse()
	SQL
%key = issue($node);
my $failures = "SELECT value FROM apikey.metrics WHERE name = 'apikey_audit_month_failures_total' AND labels = '{\"step\": \"make\"}'";
restart_maintenance($node, 'postgres');
eventually("SELECT ($failures) >= 2", 'months cannot be made');
%months = months();
is($months{state}, 'failed', 'status says so');
is($months{detail}{make}{message}, 'no change of tables today', 'and why');
is($months{detail}{make}{sqlstate}, 'P0001', 'with the SQLSTATE');
like($months{detail}{make}{month}, qr/^(?:$next|$after)-01$/, 'which month');
is(value($node, "SELECT '$months{detail}{make}{since}'::timestamptz BETWEEN now() - interval '1 hour' AND now()"), 't', 'and since when');
is_deeply($months{detail}{missing}, [ $next, $after ], 'which months have no partition');
is(metric($node, 'apikey_audit_months_missing'), '2', 'a metric too');
is(value($node, $left), '0', 'nothing is left behind');
is(value($node, $into_next), 'apikey.audit_event_default', 'an event of that month is kept');
is(sqlstate($node, "SELECT apikey.issue('acme')"), '00000', 'issue works');
is(sqlstate($node, "SELECT * FROM apikey.revoke('$key{key_id}')"), '00000', 'revoke too');
value($node, 'DROP EVENT TRIGGER refuse');
eventually($partitions, 'the worker tries again', expected => $with_months);
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'audit_months'", 'and is well');
is(value($node, "SELECT string_agg(tableoid::regclass::text, ' ') FROM apikey.audit_event WHERE event = 'test'"), $next_partition, 'with the events of that month');
is(sqlstate($node, "DELETE FROM apikey.audit_event_default"), '55000', 'what stays in the default partition is as append-only as ever');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'triggers'"), 'ok', 'its trigger in its mode');
is(metric($node, 'apikey_audit_months_missing'), '0', 'no month is missing');

# One that refuses drops does not hold up the making of months; retention says that it is overdue.
value($node, 'DROP EXTENSION apikey; CREATE EXTENSION apikey');
value($node, 'CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION public.refuse()');
%key = issue($node);
value($node, "SELECT apikey.make_audit_month('2020-01-01')");
value($node, "INSERT INTO apikey.audit_event (at, event) VALUES ('2020-01-05', 'old')");
value($node, "ALTER SYSTEM SET apikey.audit_retention = '365d'; SELECT pg_reload_conf()");
restart_maintenance($node, 'postgres');
eventually("SELECT state = 'failed' FROM apikey.status() WHERE component = 'audit_months'", 'a month cannot be dropped');
is(value($node, $partitions), "apikey.audit_event_2020_01 $with_months", 'months are made');
%months = months();
is($months{detail}{drop}{message}, 'no change of tables today', 'status says why');
is_deeply($months{detail}{overdue}, ['2020-01'], 'and which month is overdue');
is(metric($node, 'apikey_audit_months_overdue'), '1', 'a metric too');
is(value($node, $into_next), $next_partition, 'events go on');
is(sqlstate($node, "SELECT * FROM apikey.revoke('$key{key_id}')"), '00000', 'revocations too');
value($node, 'DROP EVENT TRIGGER refuse');
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'audit_months'", 'the worker tries again');
is(metric($node, 'apikey_audit_months_overdue'), '0', 'and nothing is overdue');
value($node, 'ALTER SYSTEM RESET apikey.audit_retention; SELECT pg_reload_conf()');

# Whoever reads the trail in an open transaction keeps months from being made, but no event from being written.
value($node, 'DROP EXTENSION apikey; CREATE EXTENSION apikey');
%key = issue($node);
my $auditor = session($node);
value($auditor, 'BEGIN; SELECT count(*) FROM apikey.audit_event');
restart_maintenance($node, 'postgres');
eventually("SELECT state = 'failed' AND detail->'make'->>'sqlstate' = '55P03' FROM apikey.status() WHERE component = 'audit_months'", 'an auditor reads');
is(value($node, $left), '0', 'nothing is left behind');
is(value($node, $into_next), 'apikey.audit_event_default', 'an event of the next month is kept');
is(sqlstate($node, "SELECT * FROM apikey.revoke('$key{key_id}')"), '00000', 'and a revocation works');
value($auditor, 'COMMIT');
eventually($partitions, 'afterwards the months are made', expected => $with_months);
is(value($auditor, "SELECT count(*) FROM apikey.audit_event WHERE event = 'test'"), '1', 'and the event is where it belongs, once');
$auditor->quit;

# A month that is not over stays in the default partition: an event on its way there would be refused when its month is attached.
my ($before) = value($node, "SELECT to_char('$this-01'::date - interval '1 month', 'YYYY-MM')");
value($node, 'DROP EXTENSION apikey; CREATE EXTENSION apikey');
value($node, "INSERT INTO apikey.audit_event (at, event) SELECT '$before-07', 'old' FROM generate_series(1, 100)");
issue($node);
restart_maintenance($node, 'postgres');
eventually("SELECT string_agg(kept_in, ' ' ORDER BY month) FROM apikey.audit_months", 'a month that is over gets its partition', expected => 'partition default partition partition');
is(value($node, "SELECT count(*) FROM apikey.audit_event_default WHERE event = 'old'"), '0', 'and its events are not in the default one any more');
is(value($node, "SELECT count(*) || ' ' || count(DISTINCT event_id) FROM apikey.audit_event WHERE event = 'old'"), '100 100', 'none is lost');

# Where a publication has the default partition nothing moves: subscribers refuse the deletion.
value($node, 'DROP EXTENSION apikey; CREATE EXTENSION apikey; CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)');
value($node, "INSERT INTO apikey.audit_event (at, event) VALUES ('$before-07', 'old')");
issue($node);
is(sqlstate($node, "SELECT apikey.make_audit_month('$before-01')"), '55000', 'published: refused');
restart_maintenance($node, 'postgres');
eventually("SELECT string_agg(kept_in, ' ' ORDER BY month) FROM apikey.audit_months", 'and left alone by the worker', expected => 'default default partition partition');
value($node, 'DROP PUBLICATION everything');
is(sqlstate($node, "SELECT apikey.make_audit_month('$this-01')"), '55000', 'a month that is not over: refused');
is(sqlstate($node, "SELECT apikey.make_audit_month('$this-02')"), '22023', 'a month begins with its first day');

# pgaudit looks at every command.
SKIP:
{
	skip 'no pgaudit', 5 if !$pgaudit;
	my @at = (database => 'audited');
	value($node, 'CREATE DATABASE audited');
	value($node, "CREATE EXTENSION pgaudit; CREATE EXTENSION apikey; ALTER DATABASE audited SET pgaudit.log = 'all'; ALTER DATABASE audited SET pgaudit.log_relation = on", @at);
	%key = issue($node, @at);
	value($node, 'SELECT pg_reload_conf()');
	restart_maintenance($node, 'audited');
	eventually("SELECT count(*) FROM apikey.audit_months WHERE kept_in = 'missing'", 'with pgaudit: months are made', @at, expected => '0');
	is(value($node, $into_next, @at), $next_partition, 'an event goes there');
	is(sqlstate($node, "SELECT * FROM apikey.revoke('$key{key_id}')", @at), '00000', 'and a revocation works');
	is(value($node, "SELECT state FROM apikey.status() WHERE component = 'audit_months'", @at), 'ok', 'status: in order');
}

done_testing();
