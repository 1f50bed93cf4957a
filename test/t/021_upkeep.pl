# What the maintenance worker does from time to time: each key that expires gets one event in the trail, and what nobody needs any more goes.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('upkeep', conf => "fsync = off\nmax_prepared_transactions = 2\napikey.usage_interval = '1s'\napikey.databases = 'postgres,restored'\n");

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until($options{database} // 'postgres', $query, $options{expected} // 't'), $what);
}

# The functions themselves, in a database where no worker meddles.
my @at = (database => 'direct');
value($node, 'CREATE DATABASE direct');
value($node, 'CREATE EXTENSION apikey', @at);
my $expired = "SELECT coalesce(string_agg(k.name, ' ' ORDER BY k.name), '') FROM apikey.audit_event e JOIN apikey.key k USING (key_id) WHERE e.event = 'expired'";
sub record { return value($node, 'SELECT apikey.record_expired(' . ($_[0] // 1000) . ')', @at); }

is(record(), '0', 'nothing has expired');
issue($node, name => 'long', @at);
my %short = issue($node, name => 'short', @at);
my %disabled = issue($node, name => 'disabled', @at);
my %revoked = issue($node, name => 'revoked', @at);
value($node, "SELECT apikey.disable('$disabled{key_id}'); SELECT * FROM apikey.revoke('$revoked{key_id}')", @at);
value($node, "UPDATE apikey.key SET expires_at = now() WHERE name <> 'long'", @at);
cmp_ok(record(), '>=', 2, 'some have');
is(value($node, $expired, @at), 'disabled short', 'each is in the trail, a disabled one too, but none that was revoked before');
record();
is(value($node, $expired, @at), 'disabled short', 'once');
is_deeply({ row($node, "SELECT event, generation, owner, code, detail->>'expired_at' = (SELECT to_jsonb(expires_at)#>>'{}' FROM apikey.key WHERE name = 'short') AS at_that_time FROM apikey.audit_event WHERE event = 'expired' AND key_id = '$short{key_id}'", @at) },
	{ event => 'expired', generation => 1, owner => 'acme', code => 'EXPIRED', at_that_time => JSON::PP::true }, 'with who, what and when');

# A key of a transaction that ends after the key has: it is not passed by.
my $session = session($node, @at);
value($session, 'BEGIN; SELECT pg_current_xact_id()');
my %slow = issue($session, name => 'slow', ttl => '1 second');
my %other = issue($node, name => 'other', ttl => '1 second', @at);
my $over = "SELECT clock_timestamp() > '$other{expires_at}' AND clock_timestamp() > '$slow{expires_at}'";
eventually($over, 'both have expired');
record();
value($session, 'COMMIT');
record();
is(value($node, $expired, @at), 'disabled other short slow', 'a key whose transaction ended after its expiry is recorded');
value($session, 'BEGIN; SELECT pg_current_xact_id()');
my %prepared = issue($session, name => 'prepared', ttl => '1 second');
value($session, "PREPARE TRANSACTION 'slow'");
$session->quit;
my %another = issue($node, name => 'another', ttl => '1 second', @at);
eventually("SELECT clock_timestamp() > '$another{expires_at}' AND clock_timestamp() > '$prepared{expires_at}'", 'both have expired');
record();
value($node, "COMMIT PREPARED 'slow'", @at);
record();
is(value($node, $expired, @at), 'another disabled other prepared short slow', 'and one that was prepared');

# In batches; those that expire at the same instant are not torn apart.
value($node, "SELECT count(apikey.issue('acme', name => 'batch ' || n, format => 'opaque')) FROM generate_series(1, 25) n", @at);
value($node, "UPDATE apikey.key SET expires_at = now() WHERE name LIKE 'batch %'", @at);
is(record(10), '25', 'a batch takes all keys of one instant');
value($node, "SELECT apikey.issue('acme', name => 'step ' || n, format => 'opaque', ttl => n * interval '1 ms' + interval '10 ms') FROM generate_series(1, 25) n", @at);
eventually('SELECT bool_and(expires_at < clock_timestamp()) FROM apikey.key WHERE name LIKE \'step %\'', 'more keys have expired', @at);
is(join(' ', map { record(10) } 1 .. 4), '10 10 5 0', 'others come in as many batches as it takes');
is(value($node, "SELECT count(*) || ' ' || count(DISTINCT key_id) FROM apikey.audit_event WHERE event = 'expired'", @at), '56 56', 'each key once');
is(value($node, 'SELECT count(*) FROM apikey.expiry_progress', @at), '1', 'and one row says how far');

# What has been recorded is not recorded again after a restore, and what has expired in between is. In a database with a worker, from
# several connections: the table that says how far may be the last to arrive.
%ENV = (%ENV, $node->_get_env());
my $directory = PostgreSQL::Test::Utils::tempdir();
issue($node, name => 'meanwhile', ttl => '2 seconds', @at);
for my $format ('plain', 'custom')
{
	my ($output, $errors) = ('', '');
	IPC::Run::run([ 'pg_dump', $format eq 'plain' ? '-Fp' : '-Fc', '-f', "$directory/$format", '-d', $node->connstr('direct') ], '2>', \$errors) or die $errors;
}
eventually("SELECT bool_and(expires_at < clock_timestamp()) FROM apikey.key WHERE name = 'meanwhile'", 'a key expires after the dump', @at);
my $events = "SELECT count(*) || ' ' || count(DISTINCT key_id) FROM apikey.audit_event WHERE event = 'expired'";
for my $format ('plain', 'custom')
{
	value($node, 'DROP DATABASE IF EXISTS restored');
	value($node, 'CREATE DATABASE restored TEMPLATE template0');
	my $errors = '';
	my @command = $format eq 'plain'
	  ? ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/plain", '-d', $node->connstr('restored'))
	  : ('pg_restore', '--exit-on-error', '-j2', '-d', $node->connstr('restored'), "$directory/custom");
	# Its own name, by which it is known, and not that of the test.
	local $ENV{PGAPPNAME} = 'pg_restore' if $format eq 'custom';
	ok(IPC::Run::run(\@command, '2>', \$errors), "$format: restored") or diag($errors);
	eventually($events, "$format: the worker records the one that expired meanwhile, and no other again", database => 'restored', expected => '57 57');
}
# The worst order: the keys are there, how far is not yet.
value($node, 'TRUNCATE apikey.expiry_progress', @at);
my $count = value($node, $events, @at);
{
	local $ENV{PGAPPNAME} = 'pg_restore';
	$session = session($node, @at);
	value($session, 'SELECT 1');
}
is(record(), '0', 'while pg_restore is connected and no row says how far, nothing is recorded');
is(value($node, $events, @at), $count, 'again');
$session->quit;
# And the worst moment: both arrive while the function runs.
my $locker = session($node, @at);
value($locker, 'BEGIN; LOCK TABLE apikey.key');
my ($output, $errors) = ('', '');
my $recording = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-d', $node->connstr('direct'), '-c', 'SELECT apikey.record_expired(1000)' ], '>', \$output, '2>', \$errors);
eventually("SELECT count(*) > 0 FROM pg_locks WHERE relation = 'apikey.key'::regclass AND NOT granted", 'the function has begun', @at);
value($locker, 'INSERT INTO apikey.expiry_progress VALUES (now()); COMMIT');
$locker->quit;
$recording->finish;
is("$output$errors", "0\n", 'how far, and which keys there are, are read at the same moment');
is(value($node, $events, @at), $count, 'so none is recorded again');

# Withdrawals go when no token that they concern can be shown any more.
value($node, "DELETE FROM apikey.revocation; INSERT INTO apikey.revocation (key_id, generation, kind, effective_at, until)"
	  . " SELECT gen_random_uuid(), NULL, 'withdrawn', now() - interval '1 day', now() - n * interval '1 s' FROM unnest('{-1,50,70,80,90}'::integer[]) n", @at);
is(value($node, 'SELECT apikey.prune_revocations(2)', @at), '2', 'withdrawals: as many as asked for');
is(value($node, "SELECT string_agg(round(extract(epoch FROM now() - until) / 10)::text, ' ' ORDER BY until DESC) FROM apikey.revocation", @at), '0 5 7', 'the oldest first');
is(value($node, 'SELECT apikey.prune_revocations(2)', @at), '1', 'the next');
is(value($node, 'SELECT apikey.prune_revocations(2)', @at), '0', 'none before a minute is over');
is(value($node, 'SELECT count(*) FROM apikey.revocation', @at), '2', 'which stay');

# Usage.
value($node, "INSERT INTO apikey.usage SELECT gen_random_uuid(), date_trunc('hour', now()) - n * interval '1 hour', 'VALID', 1 FROM generate_series(0, 9) n", @at);
is(value($node, "SELECT apikey.prune_usage(NULL, 100)", @at), '0', 'usage: kept for ever');
is(value($node, "SELECT apikey.prune_usage('5 hours', 2)", @at), '2', 'as many as asked for');
cmp_ok(value($node, "SELECT apikey.prune_usage('5 hours', 100)", @at), '>=', 2, 'all that are older');
is(value($node, "SELECT count(*) FROM apikey.usage WHERE hour < now() - interval '5 hours'", @at), '0', 'are gone');
cmp_ok(value($node, "SELECT count(*) FROM apikey.usage", @at), '>=', 5, 'the others are not');
value($node, 'TRUNCATE apikey.key_usage; INSERT INTO apikey.key_usage SELECT key_id, now() FROM apikey.key', @at);
value($node, 'INSERT INTO apikey.key_usage SELECT gen_random_uuid(), now() FROM generate_series(1, 20)', @at);
my ($removed, $last, $rounds) = (0, 'NULL', 0);
do
{
	my %round = row($node, "SELECT * FROM apikey.prune_key_usage($last, 7)", @at);
	$removed += $round{removed};
	$last = defined $round{last} ? literal($round{last}) : undef;
	$rounds++;
} while (defined $last);
is($removed, 20, 'key_usage: the rows of keys that are gone, and no others, are deleted');
is(value($node, 'SELECT count(*) = (SELECT count(*) FROM apikey.key) FROM apikey.key_usage', @at), 't', 'and those of keys are still there');
cmp_ok($rounds, '>', 5, 'a piece at a time');

# The worker does all of it by itself, also more than goes into one batch, and goes on after a restart without doing it twice.
value($node, "SELECT count(apikey.issue('acme', name => n::text, format => 'opaque')) FROM generate_series(1, 20) n");
value($node, <<~'SQL');
	INSERT INTO apikey.revocation (key_id, generation, kind, effective_at, until)
	    SELECT gen_random_uuid(), NULL, 'withdrawn', now() - interval '1 day', now() - interval '2 minutes' FROM generate_series(1, 2500);
	INSERT INTO apikey.usage SELECT gen_random_uuid(), now() - interval '100 days', 'VALID', 1 FROM generate_series(1, 2500);
	INSERT INTO apikey.key_usage SELECT gen_random_uuid(), now() FROM generate_series(1, 2500);
	SET session_replication_role = replica;
	ALTER TABLE apikey.key DISABLE TRIGGER USER;
	INSERT INTO apikey.key SELECT (jsonb_populate_record(k, jsonb_build_object('key_id', gen_random_uuid(), 'idempotency_key', NULL, 'name', 'many',
	    'expires_at', clock_timestamp() - n * interval '1 ms'))).* FROM apikey.key k, generate_series(1, 125) n;
	SQL
value($node, 'ALTER TABLE apikey.key ENABLE TRIGGER USER');
my $status = value($node, "SELECT pg_terminate_backend((detail->>'pid')::int, 5000) FROM apikey.status() WHERE component = 'maintenance'");
is($status, 't', 'another worker');
eventually("SELECT (SELECT count(*) FROM apikey.revocation) || ' ' || (SELECT count(*) FROM apikey.usage) || ' ' || (SELECT count(*) FROM apikey.key_usage)", 'the worker prunes 2500 rows of each', expected => '0 0 0');
eventually($events, 'and records 2500 keys that have expired', expected => '2500 2500');
$node->restart;
my %now = issue($node, name => 'one more', ttl => '1 second');
eventually($events, 'after a restart only what expired since', expected => '2501 2501');
is(value($node, "SELECT count(*) FROM apikey.expiry_progress"), '1', 'one row says how far');

done_testing();
