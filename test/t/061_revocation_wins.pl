# Whoever holds a stolen token cannot hold off its revocation: refresh() or revoke_token() in a transaction that is left open locks the
# key's row, and revocations end such sessions after apikey.revoke_wait. What has no session, a prepared transaction, is named.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

# Tests of who is ended wait a tenth of a second; those of a session that is in the way for a moment only, for as long as it takes.
my $node = new_cluster('wins', conf => "max_connections = 60\nmax_prepared_transactions = 5\napikey.revoke_wait = 100ms\nstatement_timeout = 120s\n");
value($node, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('due', '7 days', '{chat:*}', '8 days')");
value($node, 'CREATE ROLE app LOGIN; CREATE ROLE plain SUPERUSER LOGIN');
value($node, "SELECT apikey.grant_access('app', 'application')");
value($node, 'GRANT SELECT, UPDATE ON apikey.key, apikey.signing_key TO app');

my $owner = 0;
sub new_key { return { issue($node, owner => 'owner ' . ++$owner, role => 'due', @_) }; }
# A session of an application that leaves a transaction open.
sub holder
{
	my ($sql, %options) = @_;
	my $session = session($node, user => $options{user} // 'app');
	my $pid = value($session, 'SELECT pg_backend_pid()');
	value($session, "BEGIN; $sql");
	return { session => $session, pid => $pid };
}
sub is_alive { my ($holder) = @_; return value($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $holder->{pid}") == 1; }
sub close_holder { my ($holder) = @_; eval { $holder->{session}->quit; 1 } or 1; return; }
sub terminated
{
	my ($key) = @_;
	return join(' ', map { "$_->{pid}" } rows($node, "SELECT (detail ->> 'pid')::integer AS pid FROM apikey.audit_event WHERE event = 'session_terminated' AND key_id = '$key->{key_id}' ORDER BY 1"));
}
sub start
{
	my ($sql, %options) = @_;
	my ($output, $errors) = ('', '');
	my $name = $options{name} // 'waiting';
	my $run = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-U', $options{user} // 'app', '-c', "SET application_name = '$name'", map { ('-c', $_) } ref $sql ? @$sql : $sql ],
		'<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(180));
	return { run => $run, output => \$output, errors => \$errors };
}
# Starts a statement that has to wait for a lock.
sub waiting
{
	my ($sql, %options) = @_;
	my $started = start($sql, name => 'waiting', %options);
	my $name = $options{name} // 'waiting';
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = '$name' AND wait_event_type = 'Lock'") or die "$name does not wait";
	return $started;
}

sub set_revoke_wait
{
	my ($wait) = @_;
	value($node, "ALTER SYSTEM SET apikey.revoke_wait = '$wait'");
	value($node, 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', "SELECT current_setting('apikey.revoke_wait') = '$wait'") or die 'no reload';
	return;
}

my %holds = (
	'refresh()' => sub { 'SELECT generation FROM apikey.refresh(' . literal($_[0]{token}) . ')' },
	'revoke_token()' => sub { 'SELECT already FROM apikey.revoke_token(' . literal($_[0]{token}) . ')' },
	'a refresh() in a subtransaction' => sub { 'SAVEPOINT s; SELECT generation FROM apikey.refresh(' . literal($_[0]{token}) . '); RELEASE s' },
	'SELECT FOR UPDATE' => sub { "SELECT state FROM apikey.key WHERE key_id = '$_[0]{key_id}' FOR UPDATE" },
	'SELECT FOR NO KEY UPDATE' => sub { "SELECT state FROM apikey.key WHERE key_id = '$_[0]{key_id}' FOR NO KEY UPDATE" });
my %revocations = (
	'revoke(text)' => [ 'REVOKED', sub { "SELECT already FROM apikey.revoke('$_[0]{key_id}')" } ],
	'revoke(uuid)' => [ 'REVOKED', sub { "SELECT already FROM apikey.revoke('$_[0]{key_id}'::uuid)" } ],
	'revoke() by token' => [ 'REVOKED', sub { 'SELECT already FROM apikey.revoke(' . literal($_[0]{token}) . ')' } ],
	'revoke_owner()' => [ 'REVOKED', sub { "SELECT apikey.revoke_owner('$_[0]{owner}')" } ],
	'disable()' => [ 'DISABLED', sub { "SELECT apikey.disable('$_[0]{key_id}')" } ],
	'disable(uuid)' => [ 'DISABLED', sub { "SELECT apikey.disable('$_[0]{key_id}'::uuid)" } ]);

for my $hold (sort keys %holds)
{
	my @ways = $hold eq 'refresh()' ? sort keys %revocations : 'revoke(text)';
	for my $way (@ways)
	{
		my ($expected, $statement) = @{ $revocations{$way} };
		my $key = new_key();
		my $holder = holder($holds{$hold}->($key));
		my $offset = -s $node->logfile;
		value($node, $statement->($key));
		is(code($node, $key->{token}), $expected, "$way wins over $hold");
		ok(!is_alive($holder), "$way: the session that did $hold is ended");
		is(terminated($key), $holder->{pid}, "$way: which the audit trail has");
		like(slurp_file($node->logfile, $offset), qr/apikey terminates the session with PID $holder->{pid} of user "app"\n.*DETAIL:  It holds up the revocation of key $key->{key_id}\./, "$way: and the log")
		  if $way eq 'revoke(text)';
		close_holder($holder);
	}
}
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	my $key = new_key();
	my $holder = holder($holds{'refresh()'}->($key));
	value($node, "BEGIN ISOLATION LEVEL $level; SELECT apikey.revoke('$key->{key_id}'); COMMIT");
	is(code($node, $key->{token}), 'REVOKED', "revoke() in a $level transaction wins");
	close_holder($holder);
}

# What was ended for a revocation that is rolled back is ended all the same; the log tells it.
{
	my $key = new_key();
	my $holder = holder($holds{'refresh()'}->($key));
	value($node, "BEGIN; SELECT apikey.revoke('$key->{key_id}'); ROLLBACK");
	is(code($node, $key->{token}), 'VALID', 'a revocation that is rolled back');
	ok(!is_alive($holder), 'has ended the session');
	close_holder($holder);
}

# Many keys of an owner, each held by another session; and several sessions in line for one row.
{
	my @keys = map { new_key() } 1 .. 4;
	value($node, "UPDATE apikey.key SET owner = 'together' WHERE key_id = '$_->{key_id}'") for @keys;
	my @holders = map { holder($holds{'refresh()'}->($_)) } @keys[ 0, 2, 3 ];
	is(value($node, "SELECT apikey.revoke_owner('together')"), 4, 'revoke_owner() revokes all');
	is(join(' ', map { is_alive($_) ? 'alive' : 'ended' } @holders), 'ended ended ended', 'each session that held one is ended');
	close_holder($_) for @holders;

	my $key = new_key();
	my $keeper = session($node);
	value($keeper, 'SELECT pg_advisory_lock(61)');
	my $first = holder($holds{'refresh()'}->($key));
	my @line = map { waiting([ 'BEGIN', $holds{'refresh()'}->($key), 'SELECT pg_advisory_lock(61)' ], name => "in line $_") } 1 .. 3;
	value($node, "SELECT apikey.revoke('$key->{key_id}')");
	is(code($node, $key->{token}), 'REVOKED', 'sessions that stand in line for the row gain nothing');
	is(scalar(() = terminated($key) =~ /\d+/g), 4, 'all are ended');
	$_->{run}->finish for @line;
	$keeper->quit;
	close_holder($first);
}

# Who is not in the way is left alone: other keys' sessions, and another revocation that waits for the same.
{
	my ($key, $other) = (new_key(), new_key());
	my $bystander = holder($holds{'refresh()'}->($other));
	my $reader = holder('SELECT code FROM apikey.validate(' . literal($key->{token}) . ')');
	my $holder = holder($holds{'refresh()'}->($key));
	set_revoke_wait('3min');
	my @revokers = map { waiting("SELECT already FROM apikey.revoke('$key->{key_id}')", name => "revoker $_", user => 'postgres') } 1 .. 2;
	ok(is_alive($holder), 'within apikey.revoke_wait nobody is ended');
	value($holder->{session}, 'ROLLBACK');
	$_->{run}->finish for @revokers;
	is(join('', sort map { ${ $_->{output} } } @revokers), "f\nt\n", 'the key is revoked when the row is free');
	ok(is_alive($_), 'no other session is ended') for $bystander, $reader, $holder;
	is(terminated($key), '', 'and none is recorded');
	set_revoke_wait('3s');

	my $contested = new_key();
	my $held = holder($holds{'refresh()'}->($contested));
	# On a machine that is so slow that the second comes late there is nothing to see.
	my @both = map { start("SELECT already FROM apikey.revoke('$contested->{key_id}')", name => "both $_", user => 'postgres') } 1 .. 2;
	$_->{run}->finish for @both;
	is(join('', sort map { ${ $_->{output} } } @both), "f\nt\n", 'of two revocations that wait, neither ends the other');
	is(terminated($contested), $held->{pid}, 'only the session that was in their way') or diag(map { ${ $_->{errors} } } @both);
	close_holder($_) for $bystander, $reader, $holder, $held;
	set_revoke_wait('3min');
}

# Two revocations that wait for each other are a deadlock, which one of them survives.
{
	my ($one, $two) = (new_key(), new_key());
	my $first = session($node);
	value($first, "BEGIN; SELECT apikey.revoke('$one->{key_id}')");
	my $second = waiting([ 'BEGIN', "SELECT apikey.revoke('$two->{key_id}')", "SELECT apikey.revoke('$one->{key_id}')", 'COMMIT' ], user => 'postgres', name => 'second');
	my ($output, $errors) = run_sql($first, "SELECT apikey.revoke('$two->{key_id}'); COMMIT");
	$second->{run}->finish;
	my $failed = grep { /deadlock detected|terminating connection|server closed/ } $errors, ${ $second->{errors} };
	cmp_ok($failed, '<=', 1, 'of two revocations that wait for each other one goes on') or diag($errors . ${ $second->{errors} });
	is(join(' ', map { code($node, $_->{token}) } $one, $two), 'REVOKED REVOKED', 'and revokes both keys');
	eval { $first->quit };
	set_revoke_wait('100ms');
}

# Whoever has the token alone ends nobody: not the session that is about to revoke the key either.
{
	my $key = new_key();
	my $revoker = session($node);
	value($revoker, "BEGIN; SELECT apikey.revoke('$key->{key_id}')");
	my $thief = waiting($holds{'revoke_token()'}->($key), name => 'thief');
	is(sqlstate($node, "SET statement_timeout = '1s'; " . $holds{'revoke_token()'}->($key)), '57014', 'revoke_token() waits, for more than apikey.revoke_wait');
	value($revoker, 'COMMIT');
	$thief->{run}->finish;
	is(code($node, $key->{token}), 'REVOKED', 'and the session that held the row has revoked the key');
	is(terminated($key), '', 'nobody is ended');
	$revoker->quit;
}

# Prepared transactions.
{
	my $key = new_key();
	for my $call ('refresh', 'revoke_token')
	{
		my %failure = failure($node, "BEGIN; SELECT apikey.$call(" . literal($key->{token}) . "); PREPARE TRANSACTION 'stolen'");
		is($failure{sqlstate}, '0A000', "$call() cannot be prepared");
		is($failure{message}, "cannot PREPARE a transaction that has executed apikey.$call()", "$call(): the message");
	}
	is(value($node, 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is prepared');
	my $token = literal($key->{token});
	is(sqlstate($node, "BEGIN; SAVEPOINT s; SELECT apikey.refresh($token); ROLLBACK TO s; PREPARE TRANSACTION 'empty'"), '00000', 'rolled back to a savepoint, it can');
	value($node, "ROLLBACK PREPARED 'empty'");
	is(sqlstate($node, "BEGIN; SAVEPOINT s; SELECT apikey.refresh($token); RELEASE s; PREPARE TRANSACTION 'released'"), '0A000', 'released, it cannot');
	value($node, "BEGIN; UPDATE apikey.key SET name = 'held' WHERE key_id = '$key->{key_id}'; PREPARE TRANSACTION 'the gid'");
	for my $way (sort keys %revocations)
	{
		my %failure = failure($node, $revocations{$way}[1]->($key));
		is("$failure{sqlstate} $failure{message} $failure{detail}",
			"55006 key $key->{key_id} is locked by a prepared transaction The transaction \"the gid\" has changed or locked it.", "$way names the prepared transaction");
	}
	value($node, "ROLLBACK PREPARED 'the gid'");
	value($node, "SELECT apikey.revoke('$key->{key_id}')");
	is(code($node, $key->{token}), 'REVOKED', 'without it the key is revoked');
}

# A refresh that is too early locks nothing and takes no transaction id.
{
	my $early = { issue($node, owner => 'early', role => 'basic') };
	my $session = session($node);
	value($session, 'BEGIN; SAVEPOINT s');
	is(sqlstate($session, 'SELECT apikey.refresh(' . literal($early->{token}) . ')'), 'PT409', 'a refresh that is too early');
	value($session, 'ROLLBACK TO s');
	is(value($session, 'SELECT pg_current_xact_id_if_assigned() IS NULL'), 't', 'has taken no transaction id');
	is(value($session, "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'apikey.key'::regclass"), 0, 'and no lock on the table');
	value($session, 'ROLLBACK');
	$session->quit;
}

# Retiring a signing key, whose row whoever signs with it keeps locked.
{
	my $key = new_key();
	my $kid = value($node, "SELECT kid FROM apikey.key WHERE key_id = '$key->{key_id}'");
	my $issuing = holder($holds{'refresh()'}->(new_key()));
	my $holding = holder("SELECT state FROM apikey.key WHERE key_id = '$key->{key_id}' FOR UPDATE");
	value($node, 'SELECT apikey.rotate_signing_key()');
	cmp_ok(value($node, "SELECT count(*) FROM apikey.retire_signing_key('$kid', true)"), '>', 0, 'retire_signing_key() wins over both');
	is(code($node, $key->{token}), 'REVOKED', 'and revokes what the key had signed');
	ok(!is_alive($_), 'a session that was in the way is ended') for $issuing, $holding;
	close_holder($_) for $issuing, $holding;
}

# Locks on the table: of an ordinary user, and of one who waits behind an ordinary user; a superuser's is waited for.
{
	my $key = new_key();
	my $holder = holder('LOCK TABLE apikey.key IN EXCLUSIVE MODE');
	value($node, "SELECT apikey.revoke('$key->{key_id}')");
	is(code($node, $key->{token}), 'REVOKED', 'a lock on the table by an ordinary user does not hold');
	ok(!is_alive($holder), 'it is ended');
	close_holder($holder);

	$key = new_key();
	$holder = holder('SELECT count(*) FROM apikey.key');
	my $vacuum = waiting('VACUUM FULL apikey.key', user => 'postgres', name => 'vacuum');
	value($node, "SELECT apikey.revoke('$key->{key_id}')");
	is(code($node, $key->{token}), 'REVOKED', 'nor one that makes VACUUM FULL wait');
	ok(!is_alive($holder), 'it is ended');
	$vacuum->{run}->finish;
	is(${ $vacuum->{errors} }, '', 'VACUUM FULL is done');
	close_holder($holder);

	$key = new_key();
	$holder = holder('LOCK TABLE apikey.key IN EXCLUSIVE MODE', user => 'plain');
	my $revoker = waiting("SELECT already FROM apikey.revoke('$key->{key_id}')", user => 'postgres', name => 'patient');
	is(sqlstate($node, "SET statement_timeout = '1s'; SELECT apikey.revoke('$key->{key_id}')"), '57014', 'the lock of a superuser on the table is waited for, as long as statement_timeout lets it');
	ok(is_alive($holder), 'and not ended');
	value($holder->{session}, 'COMMIT');
	$revoker->{run}->finish;
	is(${ $revoker->{output} }, "f\n", 'then the key is revoked');
	close_holder($holder);
}

# Errors within the bounded wait leave nothing behind.
{
	my $key = new_key();
	my $holder = holder($holds{'refresh()'}->($key));
	my $session = session($node);
	set_revoke_wait('3min');
	value($session, 'BEGIN; SAVEPOINT s');
	is(sqlstate($session, "SET LOCAL statement_timeout = '200ms'; SELECT apikey.revoke('$key->{key_id}')"), '57014', 'a revocation is cancelled while it waits');
	value($session, 'ROLLBACK TO s');
	is(value($session, "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('object', 'tuple')"), 0, 'no lock is left');
	is(value($session, 'SHOW lock_timeout'), '0', 'and lock_timeout is as it was');
	value($holder->{session}, 'ROLLBACK');
	value($session, "SELECT apikey.revoke('$key->{key_id}'); COMMIT");
	is(code($node, $key->{token}), 'REVOKED', 'the transaction goes on');
	$session->quit;
	close_holder($holder);
}

$node->stop;
done_testing();
