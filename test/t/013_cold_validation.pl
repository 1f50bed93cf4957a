# The slow hash can be interrupted: by statement_timeout, which leaves a session that works, and by pg_terminate_backend(). The stored
# number of iterations is raised until one hash takes minutes, so that only an interrupt can end it in time.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster('interrupts', conf => "fsync = off\n");
my $session = session($node);
my %good = issue($node, ttl => '1 hour');
my %slow = map { $_ => { issue($node, ttl => '1 hour', format => $_) } } qw(jwt opaque);
value($node, 'UPDATE apikey.key SET token_iterations = 2000000000 WHERE key_id <> ' . literal($good{key_id}));

# Far below what the hash would take, and far above what an interrupt does.
my $promptly = 30;

for my $format (sort keys %slow)
{
	my $token = literal($slow{$format}{token});
	for my $call ("apikey.validate($token)", "apikey.check_token($token)", "apikey.require($token)", "apikey.refresh($token)", "apikey.revoke_token($token)")
	{
		my ($name) = $call =~ /(\w+)\(/;
		value($session, "SET statement_timeout = '100ms'");
		my $begun = time;
		is(sqlstate($session, "SELECT $call"), '57014', "$format: statement_timeout cancels $name()");
		cmp_ok(time - $begun, '<', $promptly, "$format: promptly");
		value($session, 'RESET statement_timeout');
		is(code($session, $good{token}), 'VALID', "$format: the session works after that");
	}
}
is(value($node, "SELECT count(*) FROM apikey.key WHERE state <> 'active' OR generation <> 1"), 0, 'a cancelled call has changed nothing');

# Issuing hashes as well. The longest hash that a setting asks for may be done within one timeout, so the timeout is shorter still.
$node->safe_psql('postgres', 'ALTER SYSTEM SET apikey.pbkdf2_iterations = 10000000');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('apikey.pbkdf2_iterations') = '10000000'");
$session->quit;
$session = session($node);
value($session, "SET statement_timeout = '20ms'");
is(sqlstate($session, "SELECT apikey.issue('never')"), '57014', 'statement_timeout cancels issue()');
value($session, 'RESET statement_timeout');
is(value($node, "SELECT count(*) FROM apikey.key WHERE owner = 'never'"), 0, 'and no key is stored');
my %costly = issue($node, owner => 'costly');
is(value($node, "SELECT token_iterations FROM apikey.key WHERE owner = 'costly'"), 10000000, 'a key can cost ten million iterations');
value($session, "SET statement_timeout = '20ms'");
is(sqlstate($session, 'SELECT apikey.validate(' . literal($costly{token}) . ')'), '57014', 'its validation can be cancelled');
value($session, 'RESET statement_timeout');
is(code($session, $costly{token}), 'VALID', 'and then succeeds in the same session');

# In the middle of a refresh, after it has locked the key's row: the row is free again, and what the transaction did before stays.
my $lock = 'SELECT FROM apikey.key WHERE key_id = ' . literal($good{key_id}) . ' FOR UPDATE NOWAIT';
value($session, 'BEGIN');
value($session, "UPDATE apikey.key SET name = 'kept' WHERE owner = 'costly'");
value($session, 'SAVEPOINT before');
value($session, "SET LOCAL statement_timeout = '200ms'");
is(sqlstate($session, 'SELECT apikey.refresh(' . literal($good{token}) . ')'), '57014', 'refresh() is cancelled when it hashes the new token');
value($session, 'ROLLBACK TO SAVEPOINT before');
is(sqlstate($node, $lock), '00000', 'the key is not locked any more');
value($session, 'COMMIT');
is(value($node, "SELECT name FROM apikey.key WHERE owner = 'costly'"), 'kept', 'what the transaction did before stays');
is(value($node, 'SELECT generation FROM apikey.key WHERE key_id = ' . literal($good{key_id})), 1, 'and there is no new generation');

# pg_terminate_backend() ends a session in the middle of a hash.
for my $format (sort keys %slow)
{
	my ($output, $errors) = ('', '');
	my $victim = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . " application_name=victim_$format",
			'-c', 'SELECT apikey.validate(' . literal($slow{$format}{token}) . ')' ],
		'>', \$output, '2>', \$errors);
	my $here = "FROM pg_stat_activity WHERE application_name = 'victim_$format'";
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $here AND state = 'active' AND query LIKE '%validate%'"), "$format: a session hashes");
	is(value($node, "SELECT pg_terminate_backend(pid, 30000) $here"), 't', "$format: and ends when it is told to");
	$victim->finish;
	like($errors, qr/terminating connection due to administrator command/, "$format: as it should");
	is($output, '', "$format: without an answer");
}
is(code($node, $good{token}), 'VALID', 'the server goes on');

$session->quit;
$node->stop;
done_testing();
