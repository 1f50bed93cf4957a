# Shared memory can be lost at any time: with a crash of any backend, a restart, a fail-over. What it held is then gone, proofs and counts
# alike; what is in the tables is not. A hot standby has a shared memory of its own.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('primary', streaming => 1, conf => "restart_after_crash = on\napikey.free_tier = on\n");
value($node, <<SQL);
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES ('limited', '7 days', '{chat:*}', 10, '31 days', '24 hours');
UPDATE apikey.role SET rate_limit = 5, rate_window = '31 days' WHERE name = 'free';
SQL
sub new_key { return issue($node, role => 'limited', @_); }
sub left_of { my ($where, $token, $client) = @_; return value($where, 'SELECT rate_remaining FROM apikey.validate(' . literal($token) . ', NULL, ' . literal($client) . ', 0)'); }
sub spend { my ($where, $token, $cost, $client) = @_; return code($where, $token, cost => $cost, defined $client ? (client => $client) : ()); }
my %key = new_key();
my %exhausted = new_key(format => 'opaque');
my %revoked = new_key();
my %deleted = new_key();
my %disabled = new_key();
my %superseded = new_key(ttl => '1 hour');
sub fill
{
	my ($where) = @_;
	is(join(' ', map { spend($where, @$_) } [ $key{token}, 4 ], [ $exhausted{token}, 10 ], [ undef, 5, '10.0.0.1' ]), 'VALID VALID VALID', 'requests');
	is(join(' ', left_of($where, $key{token}), left_of($where, $exhausted{token}), left_of($where, undef, '10.0.0.1')), '6 0 0', 'are counted');
	is(spend($where, $exhausted{token}, 1), 'RATE_LIMITED', 'and limited');
	return;
}
# What the next loss of memory makes undone.
sub spend_some { spend($node, $key{token}, 3); spend($node, $exhausted{token}, 10); spend($node, undef, 5, '10.0.0.1'); return; }
sub check_all
{
	my ($where, $what) = @_;
	my %expected = (key => 'VALID', exhausted => 'VALID', revoked => 'REVOKED', deleted => 'NOT_FOUND', disabled => 'DISABLED', superseded => 'SUPERSEDED');
	my %keys = (key => \%key, exhausted => \%exhausted, revoked => \%revoked, deleted => \%deleted, disabled => \%disabled, superseded => \%superseded);
	for my $round (1 .. 2)
	{
		is_deeply({ map { ($_ => spend($where, $keys{$_}{token}, 0)) } keys %keys }, \%expected, "$what: every key is what it was, round $round");
	}
	is(join(' ', left_of($where, $key{token}), left_of($where, $exhausted{token}), left_of($where, undef, '10.0.0.1')), '10 10 5', "$what: counts begin anew");
	is(code_and_source($where, $key{token}), 'VALID remembered', "$what: proofs are remembered again");
	return;
}
code($node, $_->{token}) for \%revoked, \%deleted, \%disabled, \%superseded;
fill($node);
value($node, "SELECT apikey.revoke('$revoked{key_id}'); DELETE FROM apikey.key WHERE key_id = '$deleted{key_id}'; SELECT apikey.disable('$disabled{key_id}')");
value($node, 'SET apikey.refresh_grace = 0; SELECT generation FROM apikey.refresh(' . literal($superseded{token}) . ')');

#
# A crash of a backend: one that is idle; and one in the middle of validations.
#
for my $what ('an idle backend', 'a backend that validates')
{
	my $survivor = session($node);
	code($survivor, $key{token});
	my $victim = session($node);
	my $pid = value($victim, 'SELECT pg_backend_pid()');
	my $started = value($node, 'SELECT pg_postmaster_start_time()');
	my $offset = -s $node->logfile;
	my ($output, $errors) = ('', '');
	my $busy;
	if ($what ne 'an idle backend')
	{
		my $sql = 'SELECT count(*) FROM generate_series(1, 1000000000) i, LATERAL apikey.validate(' . literal($key{token}) . ', cost => 0 * i::integer) v';
		$busy = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'busy'", '-c', $sql ],
			'<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(60));
		my $query = "FROM pg_stat_activity WHERE application_name = 'busy' AND query LIKE '%generate_series%' AND state = 'active'";
		ok($node->poll_query_until('postgres', "SELECT count(*) = 1 $query"), "$what is at work");
		$pid = value($node, "SELECT pid $query");
	}
	kill('KILL', $pid) or die "could not kill $pid: $!";
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT 1', '1') or die 'the server did not come back';
	$busy->finish if $busy;
	is(value($node, 'SELECT pg_postmaster_start_time()'), $started, "kill -9 of $what: the server has restarted by itself");
	is(code_and_source($node, $key{token}, cost => 0), 'VALID proven', "kill -9 of $what: proofs are forgotten");
	check_all($node, "kill -9 of $what");
	spend_some();
	my %new = new_key();
	is(join(' ', map { spend($node, $new{token}, 1) } 1 .. 11), join(' ', ('VALID') x 10, 'RATE_LIMITED'), "kill -9 of $what: a new key and its limit");
	value($node, "SELECT apikey.revoke('$new{key_id}')");
	is(code($node, $new{token}), 'REVOKED', "kill -9 of $what: and its revocation");
	$_->quit for $survivor, $victim;
}

#
# Restarts.
#
for my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	check_all($node, "stop $mode, and start");
	spend_some();
}

#
# A hot standby keeps its own counts, and proofs, and revocations as it replays them.
#
# Rows that an old snapshot on the standby still needs must not hold up replay.
my $standby = new_standby('standby', $node, conf => "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n");
is(code_and_source($standby, $key{token}, cost => 0), 'VALID proven', "the standby does not know the primary's proofs");
check_all($standby, 'the standby');
spend($standby, $key{token}, 8);
is(spend($standby, $key{token}, 2), 'RATE_LIMITED', 'the standby: a limit');
is(spend($standby, undef, 6, '10.0.0.9'), 'RATE_LIMITED', 'the standby: a cost above the limit');
is(join(' ', map { spend($standby, undef, 1, '10.0.0.9') } 1 .. 6), 'VALID VALID VALID VALID VALID RATE_LIMITED', 'the standby: the free tier');
is(left_of($node, $key{token}) . ' ' . left_of($node, undef, '10.0.0.9'), '6 5', 'the primary does not count what the standby does');

my $reader = session($standby);
my $old = session($standby);
value($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
ok($node->poll_query_until('postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication'), 'the primary knows of the older transaction');
my @places = ([ 'a session', $reader ], [ 'an older transaction', $old ], [ 'a new session', $standby ]);
my @changes = (
	[ "the role's limit", "UPDATE apikey.role SET rate_limit = 20 WHERE name = 'limited'", 'VALID' ],
	[ "the role's permissions", "UPDATE apikey.role SET permissions = '{dataset:read}' WHERE name = 'limited'", 'INSUFFICIENT_PERMISSIONS' ],
	[ "the role's permissions again", "UPDATE apikey.role SET permissions = '{chat:*}' WHERE name = 'limited'", 'VALID' ],
	[ 'rows that move', "UPDATE apikey.key SET metadata = jsonb_build_object('filler', repeat(md5(key_id::text), 40))", 'VALID' ],
	[ 'VACUUM FULL', 'VACUUM FULL apikey.key', 'VALID' ],
	[ 'a rewrite', 'ALTER TABLE apikey.key ADD COLUMN dice float8 DEFAULT random()', 'VALID' ],
	[ 'a prepared revocation, taken back', "BEGIN; UPDATE apikey.key SET state = 'revoked'; ROLLBACK", 'VALID' ],
	[ 'a revocation', "SELECT apikey.revoke('$key{key_id}')", 'REVOKED' ],
	[ 'a deletion', "DELETE FROM apikey.key WHERE key_id = '$key{key_id}'", 'NOT_FOUND' ]);
for my $place (@places)
{
	code($place->[1], $key{token}, permission => 'chat:read', cost => 0) for 1 .. 3;
}
for (@changes)
{
	my ($what, $statement, $expected) = @$_;
	value($node, $statement);
	$node->wait_for_catchup($standby);
	for my $place (@places)
	{
		is(code($place->[1], $key{token}, permission => 'chat:read', cost => 0), $expected, "after replay: $what: to $place->[0] of the standby");
	}
}
is(value($reader, 'SELECT rate_limit FROM apikey.validate(' . literal($exhausted{token}) . ', cost => 0)'), 20, 'the standby knows the limit of the role');
# Promotion keeps what the standby has in memory.
spend($standby, $exhausted{token}, 20);
$old->quit;
$node->stop;
$standby->promote;
is(spend($reader, $exhausted{token}, 1), 'RATE_LIMITED', 'promoted: counts go on');
is(spend($standby, $revoked{token}, 1), 'REVOKED', 'promoted: revoked stays revoked');
value($standby, "SELECT apikey.revoke('$exhausted{key_id}')");
is(spend($_, $exhausted{token}, 0), 'REVOKED', 'promoted: a revocation there') for $reader, $standby;
$reader->quit;

done_testing();
