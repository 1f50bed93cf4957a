# The mirror worker's life: settings, databases, dumps, standbys, extensions that come and go.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $redis = RedisServer->start(name => 'first', port => 1);
my $url = 'redis://127.0.0.1:' . $redis->port;
my $node = new_cluster('life', streaming => 1, conf => <<CONF);
fsync = off
max_worker_processes = 16
apikey.redis_url = '$url'
apikey.usage_interval = '1s'
CONF
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;
my $sql = $mirror->sql;

sub figure { my ($name, $value) = @_; note("$name: $value"); return; }
sub log_size { return -s $node->logfile; }
sub log_since { return substr(slurp_file($node->logfile), $_[0]); }
sub eventually { my ($sub, $what) = @_; return ok(eval { wait_until($sub, $what) }, $what); }

sub set
{
	my (%settings) = @_;
	value($sql, 'ALTER SYSTEM SET ' . $_ . ' = ' . literal($settings{$_})) for sort keys %settings;
	value($sql, 'SELECT pg_reload_conf()');
	return;
}

# A key that can be refreshed at any time, unless it is asked for otherwise.
sub new_key { return issue($sql, ttl => '1 hour', @_); }
sub receipt_of { my ($statement) = @_; return value($sql, "SELECT receipt FROM $statement"); }

#
# apikey.redis_url decides whether there is a worker, and where it writes.
#
sub worker_pid { my ($database) = @_; return value($sql, "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'apikey mirror' AND datname = '" . ($database // 'postgres') . "'"); }

# Sockets of the server's processes that lead to Redis, or to any other address: lines of /proc/net.
sub sockets_of_server
{
	my $postmaster = (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
	my %inode;
	for my $pid ($postmaster, split(/\n/, value($node, 'SELECT pid FROM pg_stat_activity')))
	{
		for my $fd (glob "/proc/$pid/fd/*")
		{
			my $target = readlink $fd // next;
			$inode{$1} = $pid if $target =~ /^socket:\[(\d+)\]$/;
		}
	}
	die 'could not look at the sockets' unless keys %inode;
	my @found;
	for my $table (grep { -r $_ } map { "/proc/net/$_" } qw(tcp tcp6 udp udp6))
	{
		push @found, grep { (split)[9] =~ /^\d+$/ && exists $inode{ (split)[9] } } split(/\n/, slurp_file($table));
	}
	return scalar @found;
}
sub clients_of { my ($server) = @_; return scalar(split(/\n/, $server->command('CLIENT', 'LIST'))) - 1; }
{
	my $first = worker_pid();
	cmp_ok($first, '>', 0, 'a mirror worker');
	cmp_ok(sockets_of_server(), '>=', 1, 'has a socket');
	is(clients_of($redis), 1, 'one client of Redis');

	set('apikey.redis_url' => '');
	eventually(sub { return worker_pid() == 0; }, 'unset by a reload: the worker ends');
	is(value($sql, "SELECT state, detail->>'reason' FROM apikey.status() WHERE component = 'mirror'"), 'off|apikey.redis_url is not set', 'status: off');
	is(sqlstate($sql, $_), '55000', "without a Redis: $_") for "SELECT apikey.wait_mirrored('100')", 'SELECT apikey.mirror_resync()', 'SELECT apikey.mirror_takeover()';
	is(value($sql, 'SELECT apikey.wait_mirrored(NULL) IS NULL'), 't', 'without a Redis: NULL all the same');
	my $connections = $redis->info('stats')->{total_connections_received};
	my %key = new_key();
	my %role = row($sql, "SELECT receipt FROM apikey.revoke('$key{key_id}')");
	value($sql, "UPDATE apikey.role SET permissions = permissions WHERE name = 'basic'; SELECT apikey.rotate_signing_key('EdDSA')");
	cmp_ok(value($sql, 'SELECT count(*) FROM apikey.outbox'), '>', 0, 'rows are written to the outbox all the same');
	eventually(sub { return value($sql, 'SELECT count(*) FROM apikey.outbox') == 0; }, 'and the maintenance worker deletes them');
	code($sql, $key{token});
	is(sockets_of_server(), 0, 'no process of the server has a socket but its own clients');
	is(clients_of($redis), 0, 'and Redis has no client');
	is($redis->info('stats')->{total_connections_received}, $connections, 'nor had one meanwhile');
	is($mirror->check($key{key_id}, 1, 60_000), 'ok', 'Redis has not heard of it');
	eventually(sub { return $mirror->check($key{key_id}, 1, 1000) eq 'unknown stale'; }, 'and is stale');

	set('apikey.redis_url' => $url);
	$mirror->await_ready;
	is($mirror->check($key{key_id}, 1), 'revoked key', 'set again: everything is told');
	$mirror->is_exact('after a time without Redis');
	isnt(worker_pid(), $first, 'by another worker');

	# To another server, through its unix socket.
	my $second = RedisServer->start(name => 'second');
	my $there = MirrorTest->new($node, $second);
	my $pid = worker_pid();
	set('apikey.redis_url' => 'unix://' . $second->socket_path);
	wait_until(sub { return $there->is_ready; }, 'the other server is filled');
	$there->await_ready;
	is(worker_pid(), $pid, 'changed by a reload: the worker goes on');
	is(clients_of($redis), 0, 'and leaves the first server');
	$there->is_exact('in the other server');
	my %other = new_key();
	value($sql, "SELECT apikey.revoke('$other{key_id}')");
	$there->settle;
	is($there->check($other{key_id}, 1), 'revoked key', 'what comes next goes there');
	is(sqlstate($sql, "ALTER SYSTEM SET apikey.redis_url = $_"), '22023', "no URL: $_") for "'redis//x'", "'redis://u:secret\@h/'";
	$there->leave;

	# Nobody there.
	my $offset = log_size();
	my $port = RedisServer::free_port();
	set('apikey.redis_url' => "redis://127.0.0.1:$port");
	is($mirror->await_state('connecting'), 'connecting', 'a server that is not there: connecting');
	eventually(sub { return ($mirror->detail->{problem} // '') =~ /refused/i; }, 'and why');
	value($sql, "SELECT apikey.disable('$other{key_id}') WHERE false; UPDATE apikey.role SET permissions = permissions WHERE name = 'basic'");
	is(code($sql, $other{token}), 'REVOKED', 'validation does not care');
	set('apikey.redis_url' => $url);
	$mirror->await_ready;
	my @said = log_since($offset) =~ /mirror is not in order: .*/g;
	cmp_ok(scalar(@said), '>=', 1, 'the log has it');
	is($mirror->check($other{key_id}, 1), 'revoked key', 'back at the first server: what went elsewhere is told');
	$mirror->is_exact('back at the first server');
	$second->stop;
}

#
# Namespaces, and two databases
#
value($sql, 'CREATE DATABASE other');
value($node, 'CREATE EXTENSION apikey', database => 'other');
my $other = MirrorTest->new($node, $redis, database => 'other');
isnt($other->{namespace}, $mirror->{namespace}, 'each database has its namespace');
{
	set('apikey.databases' => 'postgres, other');
	$other->await_ready;
	my %here = new_key();
	my %there = issue($other->sql);
	value($sql, "SELECT apikey.revoke('$here{key_id}')");
	value($other->sql, "SELECT apikey.revoke('$there{key_id}')");
	$_->settle for $mirror, $other;
	is($mirror->check($here{key_id}, 1) . ', ' . $other->check($there{key_id}, 1), 'revoked key, revoked key', 'each database tells its own');
	is($mirror->check($there{key_id}, 1) . ', ' . $other->check($here{key_id}, 1), 'ok, ok', "and nothing of the other's");
	$_->is_exact('two databases') for $mirror, $other;
	is(clients_of($redis), 2, 'two clients of Redis');

	# Everything again under a name that was given. Only one database can have it.
	set('apikey.databases' => 'postgres');
	eventually(sub { return worker_pid('other') == 0; }, 'the worker of the other database ends');
	set('apikey.redis_namespace' => 'shop.1_a-b');
	my $shop = MirrorTest->new($node, $redis, namespace => 'shop.1_a-b');
	$shop->await_ready;
	$shop->is_exact('a namespace that was set');
	is_deeply($redis->command('GET', '{ak:shop.1_a-b:jwks}'), $redis->command('GET', $mirror->name_in('jwks')), 'the key set, too');
	my $before = $shop->members;
	set('apikey.databases' => 'postgres, other');
	is($other->await_state('foreign'), 'foreign', 'a second database with the same namespace: foreign');
	like($other->detail->{problem}, qr/mirror_takeover/, 'and it says what can be done');
	$shop->settle;
	is($shop->state, 'ready', 'the first one is not disturbed');
	is_deeply($shop->members, $before, 'and nothing has been written');
	is(sqlstate($sql, q{ALTER SYSTEM SET apikey.redis_namespace = 'a b'}), '22023', 'what is no namespace is refused');
	$shop->leave;
	set('apikey.redis_namespace' => '');
	$_->await_ready for $mirror, $other;
	$_->is_exact('back to the default') for $mirror, $other;
}

#
# DROP DATABASE, also while Redis does not answer
#
{
	value($sql, 'CREATE DATABASE third');
	value($node, 'CREATE EXTENSION apikey', database => 'third');
	set('apikey.databases' => 'postgres, other, third');
	my $third = MirrorTest->new($node, $redis, database => 'third');
	$third->await_ready;
	$_->leave for $third, $other;
	my $began = time;
	is(sqlstate($sql, 'DROP DATABASE third'), '00000', 'DROP DATABASE with the mirror at work');
	figure('DROP DATABASE with the mirror at work, ms', int(1000 * (time - $began)));
	eventually(sub { return clients_of($redis) == 2; }, 'its worker has left Redis');
	$redis->pause;
	$began = time;
	my $other_pid = worker_pid('other');
	is(sqlstate($sql, 'DROP DATABASE other'), '00000', 'DROP DATABASE while Redis does not answer');
	my $took = time - $began;
	$redis->resume;
	cmp_ok($took, '<', 20, 'does not wait for it');
	figure('DROP DATABASE while Redis does not answer, ms', int(1000 * $took));
	set('apikey.databases' => 'postgres');
	$mirror->await_ready;
	is($mirror->state, 'ready', 'the other mirror is not concerned');
}

#
# A dump of a database with changes that wait
#
{
	my %key = new_key();
	my %disabled = new_key();
	value($sql, "SELECT apikey.disable('$disabled{key_id}')");
	$mirror->settle;
	$redis->stop;
	is($mirror->await_state('connecting'), 'connecting', 'without Redis: connecting');
	value($sql, "SELECT apikey.revoke('$key{key_id}'); SELECT apikey.enable('$disabled{key_id}')");
	cmp_ok(value($sql, 'SELECT count(*) FROM apikey.outbox'), '>=', 2, 'changes wait in the outbox');
	is(value($sql, q{SELECT count(*) FROM apikey.metrics WHERE name = 'apikey_mirror_ready' AND value = 0}), 1, 'metrics: not ready');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
	value($sql, 'CREATE DATABASE restored');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
	is(value($node, 'SELECT count(*) FROM apikey.mirror_epoch', database => 'restored'), 0, 'what the first database did in Redis is not copied');
	$redis->restart;
	set('apikey.databases' => 'postgres, restored');
	my $restored = MirrorTest->new($node, $redis, database => 'restored');
	$_->await_ready for $mirror, $restored;
	$_->is_exact('after a restore') for $mirror, $restored;
	is($_->check($key{key_id}, 1) . ', ' . $_->check($disabled{key_id}, 1), 'revoked key, ok', 'what waited is told') for $mirror, $restored;
	is(value($restored->sql, 'SELECT count(*) FROM apikey.outbox'), 0, 'nothing waits any more');
	$restored->leave;
	set('apikey.databases' => 'postgres');
	is(sqlstate($sql, 'DROP DATABASE restored'), '00000', 'DROP DATABASE');
}

#
# Settings of the database, as applications of another time need them, are not for the worker.
#
{
	# The trailing digits of its id look like those of a generation. About one in forty keys is such a key.
	my ($tricky) = grep { /[a-f]0*1$/ } $mirror->make_keys('tricky', 1000);
	value($sql, "ALTER DATABASE postgres SET $_") for 'session_replication_role = replica', 'standard_conforming_strings = off', 'default_transaction_read_only = on';
	my $first = worker_pid();
	value($sql, "SELECT apikey.revoke('$tricky')");
	$mirror->settle;
	# Something that is not known here: all members of that bucket are compared with the tables.
	my $bucket = MirrorTest::bucket($tricky);
	my ($unknown) = grep { MirrorTest::bucket($_) eq $bucket } map { sprintf('01890000-0000-7000-8000-%012x', $_) } 1 .. 1000;
	$redis->command('ZADD', $mirror->name($tricky, 'rev'), 9_999_999_999, $unknown);
	value($sql, "SELECT pg_terminate_backend($first, 10000)");
	eventually(sub { return worker_pid() != 0 && worker_pid() != $first; }, 'another worker, with settings of the database');
	$mirror->await_ready;
	is($mirror->check($tricky, 1), 'revoked key', 'with settings of the database: what is withdrawn stays');
	my %key = new_key();
	value($sql, "SELECT apikey.revoke('$key{key_id}')");
	$mirror->settle;
	is($mirror->check($key{key_id}, 1), 'revoked key', 'and comes');
	eventually(sub { return value($sql, 'SELECT count(*) FROM apikey.outbox') == 0; }, 'and the outbox is emptied');
	$redis->command('ZREM', $mirror->name($tricky, 'rev'), $unknown);
	value($sql, 'ALTER DATABASE postgres RESET ALL');
	wait_until(sub { return value($sql, 'SELECT count(*) FROM apikey.mirror_diff()') == 0 && $mirror->is_ready; }, 'what is not known is gone');
	$mirror->is_exact('with settings of the database');
}

#
# A standby has no mirror. When it is promoted, it has, and the old primary is fenced.
#
{
	my $standby = new_standby('mirror_standby', $node);
	my $connections = $redis->info('stats')->{total_connections_received};
	is(sqlstate($standby, $_), '55000', "on a standby: $_") for "SELECT apikey.wait_mirrored('100')", 'SELECT apikey.mirror_resync()', 'SELECT apikey.mirror_takeover()';
	is(value($standby, "SELECT state FROM apikey.status() WHERE component = 'mirror'"), 'standby', 'on a standby: status');
	my %key = new_key();
	value($sql, "SELECT apikey.revoke('$key{key_id}')");
	$node->wait_for_catchup($standby);
	is(value($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey mirror'"), 0, 'on a standby: no worker');
	is($redis->info('stats')->{total_connections_received}, $connections, 'and no connection');
	$standby->promote;
	my $promoted = MirrorTest->new($standby, $redis);
	$promoted->await_ready;
	is($mirror->await_state('fenced'), 'fenced', 'promoted: the old primary is fenced');
	my %new = issue($promoted->sql);
	value($promoted->sql, "SELECT apikey.revoke('$new{key_id}')");
	$promoted->settle;
	is($promoted->check($new{key_id}, 1), 'revoked key', 'promoted: it tells Redis');
	$promoted->is_exact('promoted');
	# The old primary takes it back, as an admin says.
	$promoted->leave;
	$standby->stop;
	value($sql, 'SELECT apikey.mirror_takeover()');
	$mirror->await_ready;
	$mirror->settle;
	is($mirror->check($new{key_id}, 1), 'revoked key', "taken back: what the other one withdrew stays");
	is_deeply([ map { $_->{member} } rows($sql, 'SELECT member FROM apikey.mirror_diff()') ], [ $new{key_id} ], 'and is listed');
	my %diff = row($sql, 'SELECT * FROM apikey.mirror_diff()');
	is($diff{key_id} . ' ' . ($diff{generation} // 'all') . ' ' . $diff{kind}, "$new{key_id} all withdrawn", 'in full');
	$redis->command('ZREM', $mirror->name($new{key_id}, 'rev'), $new{key_id});
	wait_until(sub { return value($sql, 'SELECT count(*) FROM apikey.mirror_diff()') == 0 && $mirror->is_ready; }, 'the list is made anew at the next resync');
	$mirror->is_exact('taken back');
}

#
# DROP EXTENSION and CREATE EXTENSION: what is in Redis was another's, also when the worker has not seen it go.
#
for my $commands ([ 'BEGIN; DROP EXTENSION apikey CASCADE; CREATE EXTENSION apikey; COMMIT' ], [ 'DROP EXTENSION apikey CASCADE', 'CREATE EXTENSION apikey' ])
{
	my $what = join(', then ', @$commands);
	my %old = new_key();
	value($sql, "SELECT apikey.revoke('$old{key_id}')");
	$mirror->settle;
	my @before = $mirror->metas;
	$mirror->leave;
	my $offset = log_size();
	is(sqlstate($node, $_), '00000', "$_, with the mirror at work") for @$commands;
	$sql = $mirror->sql;
	# Fenced after that standby: its timeline is later.
	eventually(sub { return $mirror->state =~ /^(?:foreign|fenced)$/; }, "$what: not ours");
	my $problem = $mirror->detail->{problem} // '';
	like($problem, qr/mirror_takeover\(\)/, "$what: status says what can be done");
	like(log_since($offset), qr/mirror is not in order: \Q$problem\E/, "$what: and the log");
	my %new = new_key();
	my $receipt = receipt_of("apikey.revoke('$new{key_id}')");
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '300 ms')"), 'f', "$what: nothing is mirrored");
	is_deeply([ map { $_->{epoch} } $mirror->metas ], [ map { $_->{epoch} } @before ], "$what: nothing is written");
	is($mirror->check($new{key_id}, 1, 100), 'unknown stale', "$what: and nodes are not told that all is well");
	# Nobody is there to hear it: the next worker does.
	my $launcher = value($sql, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey launcher'");
	kill('STOP', $launcher) or die "could not stop the launcher: $!";
	is(value($sql, 'SELECT pg_terminate_backend(' . worker_pid() . ', 10000)'), 't', "$what: there is no worker");
	value($sql, 'SELECT apikey.mirror_takeover()');
	kill('CONT', $launcher);
	$mirror->await_ready;
	$mirror->settle;
	is($mirror->check($new{key_id}, 1), 'revoked key', "$what: mirror_takeover(): it is this database's");
	is($mirror->check($old{key_id}, 1), 'revoked key', "$what: and what was withdrawn before stays");
	cmp_ok(scalar(rows($sql, "SELECT member FROM apikey.mirror_diff() WHERE key_id = '$old{key_id}'")), '==', 1, "$what: mirror_diff() lists it");
	is(($mirror->metas)[0]{gen} gt $before[0]{gen} ? 1 : 0, 1, "$what: as a newer writer");
}
$mirror->leave;
# Nothing of all that may have ended a worker.
unlike(slurp_file($node->logfile), qr/(?:background worker "apikey[^\n]*exited with exit code|terminated by signal|PANIC)/, 'no worker failed');
$node->stop;

done_testing();
