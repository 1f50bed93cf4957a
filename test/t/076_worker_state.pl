# A worker that runs and does nothing of use says so: its steps fail, or the extension is not of its library's version.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('worker_state', conf => "fsync = off\napikey.usage_interval = '1s'\n");
my $status = "SELECT %s FROM apikey.status() WHERE component = 'maintenance'";

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until('postgres', $query, $options{expected} // 't'), $what);
}

sub status { return value($node, sprintf($status, $_[0])); }

sub worker_metric
{
	my ($name) = @_;
	return value($node, "SELECT value FROM apikey.metrics WHERE name = '$name' AND labels->>'worker' = 'maintenance'");
}

sub another_worker
{
	my $pid = status("detail->>'pid'");
	value($node, "SELECT pg_terminate_backend($pid, 180000)");
	eventually(sprintf($status, "detail ? 'pid' AND detail->>'pid' <> '$pid'"), 'another worker runs');
	return;
}

# Settings of the database that would take the worker's rights away.
eventually(sprintf($status, "state = 'ok'"), 'the worker runs');
is(status("detail->>'failed_steps'"), '0', 'no step has failed');
is(worker_metric('apikey_worker_healthy'), '1', 'and it is healthy');
value($node, "CREATE ROLE nobody; CREATE ROLE tester LOGIN SUPERUSER; ALTER ROLE tester IN DATABASE postgres SET role = 'none'; ALTER DATABASE postgres SET role = nobody");
{
	# Whom the setting does not concern.
	local $ENV{PGUSER} = 'tester';
	another_worker();
	value($node, "SELECT apikey.check_token('junk')");
	eventually("SELECT count(*) = 1 FROM apikey.audit_event WHERE event = 'denied'", 'with ALTER DATABASE SET role the worker writes all the same');
	is(status("detail->>'failed_steps'"), '0', 'and no step fails');
	value($node, 'ALTER DATABASE postgres RESET role');
}
is(value($node, 'SELECT current_user = session_user'), 't', 'nobody else is concerned any more');
another_worker();

# A step that keeps failing.
my %key = issue($node);
my $locker = session($node);
value($locker, 'BEGIN; LOCK TABLE apikey.usage');
is(code($node, $key{token}), 'VALID', 'a use');
eventually(sprintf($status, "state = 'failing'"), 'a step that fails again and again makes the state "failing"');
like(status("detail->>'step_problem'"), qr/^could not write usage: canceling statement due to lock timeout$/, 'which says what is wrong');
cmp_ok(status("detail->>'failed_steps'"), '>=', 3, 'how often');
is(status("detail->>'step_failed_at' IS NOT NULL"), 't', 'and when it was wrong last');
is(worker_metric('apikey_worker_up'), '1', 'it is up');
is(worker_metric('apikey_worker_healthy'), '0', 'but not healthy');
cmp_ok(worker_metric('apikey_worker_failed_steps_total'), '>=', 3, 'and a metric counts the failures');
value($locker, 'COMMIT');
$locker->quit;
eventually(sprintf($status, "state = 'ok'"), 'it is in order again when the step has succeeded');
is(worker_metric('apikey_worker_healthy'), '1', 'and healthy');

# The extension of another version than the library.
my $version = value($node, "SELECT extversion FROM pg_extension WHERE extname = 'apikey'");
my $update = 'UPDATE pg_extension SET extversion = \'%s\' WHERE extname = \'apikey\'';
for (
	[ 'older', '0.0.9', qr/^Run ALTER EXTENSION apikey UPDATE in this database\.$/ ],
	[ 'newer', '99.0', qr/^Restart the server, so that it loads the library that belongs to the installed extension\.$/ ])
{
	my ($which, $other, $remedy) = @$_;
	my $offset = -s $node->logfile;
	value($node, sprintf($update, $other));
	eventually(sprintf($status, "state = 'mismatch'"), "$which: the worker says that it leaves the database alone");
	like(status("detail->>'reason'"), $remedy, "$which: and what to do");
	is(worker_metric('apikey_worker_healthy'), '0', "$which: it is not healthy");
	ok(eval { $node->wait_for_log(qr/WARNING:  apikey leaves this database alone/, $offset); 1 }, "$which: the log has it");
	value($node, sprintf($update, $version));
	eventually(sprintf($status, "state = 'ok'"), "$which: and works again when they agree");
}

done_testing();
