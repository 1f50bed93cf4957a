# A validation that waits for a table to get another file answers from what is committed when the wait ends. pg_repack makes a copy of
# the table, applies to it what happened meanwhile, and puts it in the place of the table: to a snapshot from before that, the copy shows
# the rows as they were when it was made. Here each swap is stretched: it holds the table's lock, and waits for a lock on pg_class.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('primary', streaming => 1, conf => "max_connections = 60\nmax_prepared_transactions = 2\n");
my $has_repack = $node->psql('postgres', 'CREATE EXTENSION pg_repack') == 0;
value($node, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('tested', '7 days', '{chat:*}', '8 days')");
# The standby gets the master key, which the first issue makes.
my $other = { issue($node, owner => 'owner', role => 'tested') };
my $standby = new_standby('standby', $node, conf => "max_standby_streaming_delay = -1\n");
my ($blocker, $reader_lock, $catalog_lock) = map { session($node) } 1 .. 3;
mkdir("$PostgreSQL::Test::Utils::tmp_check/space") or die "could not make a directory: $!";
value($node, "CREATE TABLESPACE space LOCATION '$PostgreSQL::Test::Utils::tmp_check/space'");

# A statement in a session of its own, which may have to wait.
#   level => '...'   of isolation, in a transaction that has a snapshot before
my $sessions = 0;
sub start
{
	my ($where, $sql, %options) = @_;
	my $name = 'waiter ' . $sessions++;
	my @sql = ("SET application_name = '$name'");
	push @sql, "BEGIN ISOLATION LEVEL $options{level}; SELECT 1" if $options{level};
	push @sql, "\\echo answer:", "\\set VERBOSITY verbose", $sql;
	my %waiter = (name => $name, where => $where, output => '', errors => '');
	$waiter{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $where->connstr('postgres'), map { ('-c', $_) } @sql ],
		'<', \undef, '>', \$waiter{output}, '2>', \$waiter{errors}, IPC::Run::timeout(300));
	return \%waiter;
}
# How many of them wait for a lock.
sub await_waiting
{
	my ($where, @waiters) = @_;
	my $names = join(', ', map { "'$_->{name}'" } @waiters);
	return $where->poll_query_until('postgres',
		"SELECT count(*) = " . @waiters . " FROM pg_stat_activity WHERE application_name IN ($names) AND wait_event_type = 'Lock' AND wait_event <> 'advisory'");
}
sub await_replay
{
	my $lsn = value($node, 'SELECT pg_current_wal_flush_lsn()');
	$standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") or die 'the standby does not follow';
	return;
}
sub answer
{
	my ($waiter) = @_;
	$waiter->{run}->finish;
	my ($answer) = $waiter->{output} =~ /^answer:\n(.*)/ms;
	$answer //= '';
	chomp $answer;
	return $1 if $waiter->{errors} =~ /ERROR:  \w{5}: (\w+)/;
	return $answer;
}

# Runs a command that gives a table another file, until it holds the table's lock and waits for pg_class. Meanwhile `$change` is committed
# before the lock is taken; then `$during` starts the sessions that wait, and is given back what they are.
sub stretched
{
	my ($how, $table, $change, $during) = @_;
	my ($output, $errors) = ('', '');
	my $run;
	my $ends = sub { };
	if ($how eq 'pg_repack')
	{
		# The copy is made while an old transaction keeps the swap waiting, so that it shows the rows as they are now.
		value($blocker, 'BEGIN; SELECT pg_current_xact_id()');
		$run = IPC::Run::start(
			[ 'pg_repack', '--no-order', '--wait-timeout=600', '--no-kill-backend', '-t', "apikey.$table", '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
			'<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(300));
		$run->pump until $errors =~ /Waiting for 1 transactions to finish/ || !$run->pumpable;
		value($reader_lock, "BEGIN; LOCK TABLE apikey.$table IN ACCESS SHARE MODE");
		value($blocker, 'COMMIT');
		# From here on changes are applied to the copy by the transaction that swaps the files, not before.
		$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'apikey.$table'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted")
		  or die 'pg_repack does not swap';
		$change->();
		value($catalog_lock, 'BEGIN; LOCK TABLE pg_class IN SHARE MODE');
		value($reader_lock, 'COMMIT');
	}
	else
	{
		my %commands = (
			'VACUUM FULL' => "VACUUM FULL apikey.$table",
			CLUSTER => "CLUSTER apikey.$table USING ${table}_pkey",
			'ALTER TABLE' => "ALTER TABLE apikey.$table ADD COLUMN dice float8 DEFAULT random()",
			'SET TABLESPACE' => "ALTER TABLE apikey.$table SET TABLESPACE space");
		$change->();
		value($catalog_lock, 'BEGIN; LOCK TABLE pg_class IN SHARE MODE');
		$run = IPC::Run::start([ 'psql', '-Xqd', $node->connstr('postgres'), '-c', $commands{$how} ],
			'<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(300));
	}
	my $holds = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_locks w USING (pid) WHERE l.relation = 'apikey.$table'::regclass AND l.mode = 'AccessExclusiveLock'"
	  . " AND l.granted AND w.relation = 'pg_class'::regclass AND NOT w.granted";
	my $stretched = $node->poll_query_until('postgres', $holds);
	# The standby hears of the lock when the primary writes its WAL.
	value($node, "SELECT pg_logical_emit_message(true, 'test', 'flush')");
	await_replay();
	my @started = $during->();
	value($catalog_lock, 'COMMIT');
	$run->finish;
	ok($stretched && $run->result(0) == 0, "$how of $table held the lock for a while") or diag($output . $errors);
	value($node, "ALTER TABLE apikey.$table DROP COLUMN dice") if $how eq 'ALTER TABLE';
	value($node, "ALTER TABLE apikey.$table SET TABLESPACE pg_default") if $how eq 'SET TABLESPACE';
	return @started;
}
sub new_key { return { issue($node, owner => 'owner', role => 'tested', @_) }; }
sub validate_sql { return 'SELECT code FROM apikey.validate(' . literal($_[0]{token}) . ')'; }

my @ways = (($has_repack ? 'pg_repack' : ()), 'VACUUM FULL', 'CLUSTER', 'ALTER TABLE', 'SET TABLESPACE');
for my $how (@ways)
{
	my %key = map { $_ => new_key(format => $_) } 'jwt', 'opaque';
	my ($deleted, $disabled, $superseded, $narrowed, $kept) = map { new_key() } 1 .. 5;
	my $next = refresh($node, $superseded->{token});
	my $change = sub {
		value($node, "SELECT apikey.revoke('$key{$_}{key_id}')") for sort keys %key;
		value($node, "DELETE FROM apikey.key WHERE key_id = '$deleted->{key_id}'; SELECT apikey.disable('$disabled->{key_id}')");
		value($node, "UPDATE apikey.key SET previous_valid_until = clock_timestamp() WHERE key_id = '$superseded->{key_id}'");
		value($node, "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$narrowed->{key_id}'");
		await_replay();
	};
	my @expected;
	my @started = stretched($how, 'key', $change, sub {
		my @waiting;
		my $add = sub {
			my ($what, $expected, $where, $sql, %options) = @_;
			push @waiting, start($where, $sql, %options);
			push @expected, [ $what, $expected ];
		};
		for my $format (sort keys %key)
		{
			$add->("$format, a new session", 'REVOKED', $node, validate_sql($key{$format}));
			$add->("$format, REPEATABLE READ", 'REVOKED', $node, validate_sql($key{$format}), level => 'REPEATABLE READ');
			$add->("$format, on the standby", 'REVOKED', $standby, validate_sql($key{$format}));
		}
		$add->('SERIALIZABLE', 'REVOKED', $node, validate_sql($key{jwt}), level => 'SERIALIZABLE');
		$add->('a deleted key', 'NOT_FOUND', $node, validate_sql($deleted));
		$add->('a disabled key', 'DISABLED', $node, validate_sql($disabled));
		$add->('a token whose grace is over', 'SUPERSEDED', $node, validate_sql($superseded));
		$add->('a permission that is gone', 'INSUFFICIENT_PERMISSIONS', $node, 'SELECT code FROM apikey.validate(' . literal($narrowed->{token}) . ", 'chat:write')");
		$add->('a key that nothing has happened to', 'VALID', $node, validate_sql($kept));
		$add->('refresh()', 'REVOKED', $node, 'SELECT generation FROM apikey.refresh(' . literal($key{jwt}{token}) . ')');
		$add->('revoke()', 't', $node, "SELECT already FROM apikey.revoke('$key{jwt}{key_id}')");
		$add->('revoke_token()', 't', $node, 'SELECT already FROM apikey.revoke_token(' . literal($key{opaque}{token}) . ')');
		ok(await_waiting($node, grep { $_->{where} == $node } @waiting), "$how: the sessions wait");
		ok(await_waiting($standby, grep { $_->{where} == $standby } @waiting), "$how: and those on the standby");
		return @waiting;
	});
	is(answer($started[$_]), $expected[$_][1], "$how: $expected[$_][0]") for 0 .. $#started;
}

# A session that knows the table, and has validated another token.
for my $how (grep { $_ eq 'pg_repack' || $_ eq 'ALTER TABLE' } @ways)
{
	my $key = new_key();
	my $knows = session($node);
	my $standby_knows = session($standby);
	code($_, $other->{token}) for ($knows, $standby_knows) x 3;
	my ($answer, $standby_answer);
	stretched($how, 'key', sub {
		value($node, "SELECT apikey.revoke('$key->{key_id}')");
		await_replay();
	}, sub {
		for ($knows, $standby_knows)
		{
			my $where = $_ == $knows ? $node : $standby;
			$_->query_until(qr/started/, "\\echo started\n" . validate_sql($key) . ";\n");
			ok($where->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT code FROM apikey.validate%' AND wait_event_type = 'Lock'}),
				"$how: a session that has validated another token waits" . ($_ == $knows ? '' : ' on the standby'));
		}
		return ();
	});
	is($knows->query('SELECT 1'), "REVOKED\n1", "$how: its answer");
	is($standby_knows->query('SELECT 1'), "REVOKED\n1", "$how: its answer on the standby");
	$_->quit for $knows, $standby_knows;
}

# Roles and signing keys. A validation that waits for them has read the key before, which is revoked while it waits.
for my $how (grep { $_ ne 'SET TABLESPACE' } @ways)
{
	my ($writes, $reads) = (new_key(), new_key());
	my @waiting = stretched($how, 'role', sub { value($node, "UPDATE apikey.role SET permissions = '{chat:read}' WHERE name = 'tested'") }, sub {
		my @waiting = (
			start($node, 'SELECT code FROM apikey.validate(' . literal($writes->{token}) . ", 'chat:write')"),
			start($standby, 'SELECT code FROM apikey.validate(' . literal($writes->{token}) . ", 'chat:write')"),
			start($node, validate_sql($reads)), start($standby, validate_sql($reads)));
		ok(await_waiting($node, @waiting[ 0, 2 ]) && await_waiting($standby, @waiting[ 1, 3 ]), "$how of role: the sessions wait");
		value($node, "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$reads->{key_id}'");
		await_replay();
		return @waiting;
	});
	is(answer($waiting[$_]), 'INSUFFICIENT_PERMISSIONS', "$how of role: the role as it is" . ($_ ? ', on the standby' : '')) for 0, 1;
	is(answer($waiting[$_]), 'REVOKED', "$how of role: a key that is revoked meanwhile" . ($_ == 3 ? ', on the standby' : '')) for 2, 3;
	value($node, "UPDATE apikey.role SET permissions = '{chat:*}' WHERE name = 'tested'");

	my $signed = new_key();
	my $revoked = new_key();
	my $kid = value($node, "SELECT kid FROM apikey.key WHERE key_id = '$signed->{key_id}'");
	# A JWT of two generations back is proven by its signature alone: the answer depends on the state of the signing key.
	my $current = { refresh($node, { refresh($node, $signed->{token}) }->{token}) };
	value($node, 'SELECT apikey.rotate_signing_key()');
	@waiting = stretched($how, 'signing_key', sub { value($node, "SELECT count(*) FROM apikey.retire_signing_key('$kid', true)") }, sub {
		my @waiting = (start($node, validate_sql($signed)), start($standby, validate_sql($signed)), start($node, validate_sql($revoked)));
		# Nothing is looked up for a key that is revoked, unless its token has yet to prove itself, as in these.
		ok(await_waiting($node, @waiting[ 0, 2 ]) && await_waiting($standby, $waiting[1]), "$how of signing_key: the sessions wait");
		return @waiting;
	});
	is(answer($waiting[$_]), 'SIGNATURE_INVALID', "$how of signing_key: a retired key verifies nothing" . ($_ ? ', on the standby' : '')) for 0, 1;
	is(answer($waiting[2]), 'REVOKED', "$how of signing_key: what it had signed is revoked");
}

SKIP:
{
	skip 'pg_repack is not installed', 1 unless $has_repack;
	is(value($node, "SELECT count(*) FROM pg_tables WHERE schemaname = 'repack'"), 0, 'pg_repack has left nothing behind');
}
$_->quit for $blocker, $reader_lock, $catalog_lock;
$standby->stop;
$node->stop;
done_testing();
