# Limits that several nodes share through Redis: two clusters, which count for themselves and exchange their counts, and a third node that
# asks Redis at each request: the service of docs/examples/node, or this test. Together they keep to a limit but for what is on its way; replies that are lost, crashes and an emptied Redis
# change no count; and what a limit is worth when Redis is away.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use Digest::SHA qw(sha256_hex);
use FaultProxy;
use IPC::Run ();
use List::Util qw(sum0);
use NodeService;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes ();

unless (NodeService::is_installed())
{
	die 'node and the packages of docs/examples/node are needed in CI' if $ENV{CI};
	plan skip_all => 'node or the packages of docs/examples/node are not installed';
}

my $rates = 'shared-rates';
my $month_ms = 31 * 24 * 3600 * 1000;
my $sync_ms = 100;

my $redis = RedisServer->start;
my $conf = <<CONF;
fsync = off
restart_after_crash = on
apikey.redis_url = 'unix://@{[ $redis->socket_path ]}'
apikey.rate_namespace = '$rates'
apikey.rate_sync_interval = $sync_ms
apikey.free_tier = on
CONF

# Two clusters with the same keys and the same master key.
my $one = new_cluster('one', conf => $conf);
value($one, <<'SQL');
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES
    ('limited', '7 days', '{chat:*}', 300, '31 days', '24 hours'), ('brief', '7 days', '{chat:*}', 600, '4 seconds', '24 hours'),
    ('lossy', '7 days', '{chat:*}', 100000, '31 days', '24 hours');
UPDATE apikey.role SET rate_limit = 300, rate_window = '31 days' WHERE name = 'free';
-- Asks so often a second, for so long, and returns how often the answer was yes.
CREATE FUNCTION ask_steadily(token text, per_second integer, seconds double precision, OUT asked bigint, OUT allowed bigint) LANGUAGE plpgsql AS $$
DECLARE
    began CONSTANT timestamptz := clock_timestamp();
    passed double precision := 0;
BEGIN
    asked := 0;
    allowed := 0;
    WHILE passed < seconds LOOP
        IF asked <= passed * per_second THEN
            asked := asked + 1;
            allowed := allowed + apikey.check_token(token)::integer;
        END IF;
        passed := EXTRACT(epoch FROM clock_timestamp() - began);
    END LOOP;
END
$$;
SQL
my %key = map { $_ => { issue($one, role => 'limited') } } qw(crash flush stale);
my %brief = issue($one, role => 'brief');
my %lossy = issue($one, role => 'lossy');
value($one, 'ALTER SYSTEM SET apikey.pbkdf2_iterations = 2000000; SELECT pg_reload_conf()');
wait_until(sub { value($one, 'SHOW apikey.pbkdf2_iterations') == 2_000_000 }, 'the setting is known');
my %slow = issue($one, role => 'limited', format => 'opaque');
my $two = new_cluster('two', extension => 0, conf => "${conf}apikey.master_key_file = '@{[ $one->data_dir ]}/apikey_master.key'\n");
{
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/one.sql';
	command_ok([ 'pg_dump', '-f', $dump, '-d', $one->connstr('postgres') ], 'dump of the one');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $dump, '-d', $two->connstr('postgres') ], 'restored into the other');
}
my @both = ($one, $two);
my $now_ms = sub { my $time = $redis->command('TIME'); return $time->[0] * 1000 + int($time->[1] / 1000) };

sub await_mirror
{
	my ($node, $state) = @_;
	wait_until(sub { value($node, "SELECT state FROM apikey.status() WHERE component = 'mirror'") eq ($state // 'ready') }, 'the mirror is ' . ($state // 'ready'));
	return;
}
await_mirror($_) for @both;

# The hash of a subject in a window of that width, and the one before.
sub hashes
{
	my ($subject, $width_ms, $sequence) = @_;
	my $bucket = substr(sha256_hex($subject), 0, 1);
	return map { "{ak:$rates:$bucket}:rate:$subject:default.$width_ms:$_" } $sequence, $sequence - 1;
}

# What every node has counted of a key in the window of 31 days: { field => count }.
sub counts
{
	my ($subject) = @_;
	my ($hash) = hashes($subject, $month_ms, int($now_ms->() / $month_ms));
	return { @{ $redis->command('HGETALL', $hash) } };
}
sub used { return sum0(values %{ counts($_[0]) }); }

sub left_of
{
	my ($node, $token, $client) = @_;
	return value($node, 'SELECT rate_remaining FROM apikey.validate(' . literal($token) . ', NULL, ' . literal($client) . ', 0)');
}

# Asks: how many of so many are allowed.
sub ask
{
	my ($node, $token, $times, $client) = @_;
	return value($node, 'SELECT count(*) FILTER (WHERE v.valid) FROM generate_series(1, ' . $times . ') i, LATERAL apikey.validate('
		  . literal($token) . ', NULL, ' . literal($client) . ', 1 + 0 * i) v');
}

sub is_left
{
	my ($node, $expected, $what, @of) = @_;
	my $left = '';
	eval { wait_until(sub { $left = left_of($node, @of); $left eq $expected }, 'counts were exchanged') };
	return is($left, $expected, $what);
}

# The third node, in Perl, with counts of its own.
my $ak_rate = $redis->command('SCRIPT', 'LOAD', slurp_file("$FindBin::RealBin/../../src/lua/ak_rate.lua"));
my $ak_merge = $redis->command('SCRIPT', 'LOAD', slurp_file("$FindBin::RealBin/../../src/lua/ak_merge.lua"));
my $field = 'gateway:00000000000000aa';
my (%own, $window);

# One request of it. Returns 1 or 0.
sub ask_third
{
	my ($key_id, $limit, $width_ms) = @_;
	$window //= int($now_ms->() / $width_ms);
	while (1)
	{
		my $own = \($own{"$key_id $window"} //= 0);
		my $reply = $redis->command('EVALSHA', $ak_rate, 2, hashes($key_id, $width_ms, $window), $field, $$own + 1, 1, $limit, $width_ms, $window);
		if ($reply->[0] >= 0)
		{
			$$own += $reply->[0];
			return $reply->[0];
		}
		$window = $reply->[4];
	}
	return;
}

# The service, which decides by the mirror of the first cluster. There is no PostgreSQL for it to ask.
sub start_service
{
	my ($redis_url) = @_;
	my $service = NodeService->start(
		AK_REDIS_URL => $redis_url, AK_REDIS_TIMEOUT_MS => 2000, AK_NODE => 'service', AK_RATE_NAMESPACE => $rates, PGHOST => '/nowhere',
		AK_NAMESPACE => value($one, "SELECT detail->>'namespace' FROM apikey.status() WHERE component = 'mirror'"));
	wait_until(sub { defined $service->ask($brief{token}) }, 'the service decides by itself');
	return $service;
}

#
# One limit, under a load that is bounded: 600 in 4 seconds, and more than twice as many requests.
#
{
	my ($limit, $width_ms, $per_second, $seconds) = (600, 4000, 120, 13);
	my $id = $brief{key_id};
	my $service = start_service('unix://' . $redis->socket_path);
	my @runs;
	for my $node (@both)
	{
		my $output = '';
		my $sql = 'SELECT * FROM ask_steadily(' . literal($brief{token}) . ", $per_second, $seconds)";
		push @runs, [ IPC::Run::start([ 'psql', '-X', '-A', '-t', '-F', ' ', '-d', $node->connstr('postgres'), '-c', $sql ], '>', \$output), \$output ];
	}
	my ($asked, $allowed, $polled) = (0, 0, 0);
	my %admitted;
	my $began = Time::HiRes::time();
	while ((my $passed = Time::HiRes::time() - $began) < $seconds)
	{
		if ($asked <= $passed * $per_second)
		{
			$asked++;
			$allowed += $service->ask($brief{token}) // 0;
		}
		# The window before is over, and what was counted in it has been exchanged by now. Its hash expires when the next one ends.
		my $sequence = int($now_ms->() / $width_ms);
		if ($now_ms->() % $width_ms > 1500 && $polled != $sequence)
		{
			my (undef, $hash) = hashes($id, $width_ms, $sequence);
			$admitted{ $sequence - 1 } = { @{ $redis->command('HGETALL', $hash) } };
			$polled = $sequence;
		}
	}
	my @rates = ($asked / $seconds);
	my @allowed = ($allowed);
	for my $run (@runs)
	{
		$run->[0]->finish;
		my ($asked_there, $allowed_there) = split(/ /, ${ $run->[1] });
		push @rates, $asked_there / $seconds;
		push @allowed, $allowed_there;
	}
	# A node that has not been asked for a while knows nothing of the others until its next exchange: the rates of all, then.
	my $bound = sum0(@rates) * 2 * $sync_ms / 1000;
	note(sprintf('%.0f + %.0f + %.0f requests a second, limit %d in %d ms, bound %.0f', @rates, $limit, $width_ms, $bound));
	my @whole = grep { sum0(values %{ $admitted{$_} }) > 0 } sort keys %admitted;
	shift @whole;    # it began before we did
	cmp_ok(scalar @whole, '>=', 1, 'whole windows were seen: ' . @whole);
	for my $sequence (@whole)
	{
		my $sum = sum0(values %{ $admitted{$sequence} });
		note("window $sequence: " . join(' + ', map { $admitted{$sequence}{$_} } sort keys %{ $admitted{$sequence} }) . " = $sum");
		is(scalar keys %{ $admitted{$sequence} }, 3, "window $sequence: three nodes have counted");
		cmp_ok($sum, '<=', $limit + $bound, "window $sequence: $sum were admitted of $limit, at most $bound more");
	}
	my $offered = sum0(@rates) * $width_ms / 1000;
	cmp_ok($offered, '>', 1.5 * ($limit + $bound), "by itself each would have admitted more: $offered were asked for in a window");
	chomp @allowed;
	cmp_ok(sum0(@allowed), '>', $limit, 'and the limit is used: ' . join(' + ', @allowed));
	$service->stop;
}

#
# Replies that are lost: what Redis has counted in the end is what was admitted.
#
{
	my $proxy = FaultProxy->start(listen => PostgreSQL::Test::Utils::tempdir_short() . '/proxy', to => $redis->socket_path);
	my $id = $lossy{key_id};
	value($two, "ALTER SYSTEM SET apikey.redis_url = 'unix://" . $proxy->address . "'; SELECT pg_reload_conf()");
	my $service = start_service('unix://' . $proxy->address);
	wait_until(sub { $proxy->status->{connections} > 0 }, 'the worker has come to the proxy');
	await_mirror($two);
	$proxy->set('drop_replies 20');
	my $lost = $proxy->status->{accepted};
	my ($admitted, $by_service) = (0, 0);
	wait_until(
		sub {
			$admitted += ask($_, $lossy{token}, 7) for @both;
			$by_service += $service->ask($lossy{token}) // 0 for 1 .. 5;
			return $proxy->status->{accepted} >= $lost + 20 && $by_service > 0;
		},
		'several connections have been lost');
	$proxy->set('pass');
	# What the service gave up may be counted: the next request takes its place.
	wait_until(sub { $service->ask($lossy{token}) && ++$by_service }, 'the service decides by itself again');
	note("admitted by the service: $by_service");
	$admitted += $by_service;
	my $used = 0;
	eval { wait_until(sub { $used = used($id); $used >= $admitted }, 'all is counted') };
	is($used, $admitted, "every request that was admitted is counted, and once, with a fifth of the replies lost: $admitted");
	is(left_of($_, $lossy{token}) < 100000, 1, 'each of the two knows of its own at least') for @both;
	is_left($_, 100000 - $admitted, 'and in the end each knows of all', $lossy{token}) for @both;
	value($two, "ALTER SYSTEM RESET apikey.redis_url; SELECT pg_reload_conf()");
	$service->stop;
	$proxy->stop;
	await_mirror($two);
}

#
# Counted late: the clock was read before the slow hash, and exchanges took place meanwhile.
#
{
	is(ask($two, $slow{token}, 1), 1, 'a token that takes long to prove');
	my $used = 0;
	eval { wait_until(sub { $used = used($slow{key_id}); $used == 1 }, 'it is counted') };
	is($used, 1, 'is counted in Redis, though nobody asks again');
}

#
# Two databases of one server share its meter, and each has a worker that exchanges what is its own.
#
{
	my ($keys, $other) = (150, 'other');
	my $crowded = new_cluster('crowded', extension => 0, conf => "${conf}apikey.rate_entries = 1024\napikey.databases = 'postgres, $other'\n");
	value($crowded, "CREATE DATABASE $other");
	my @databases = ('postgres', $other);
	for my $database (@databases)
	{
		value($crowded, <<"SQL", database => $database);
CREATE EXTENSION apikey;
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES ('limited', '7 days', '{chat:*}', 300, '31 days', '24 hours');
CREATE TABLE issued AS SELECT k.key_id, k.token FROM generate_series(1, $keys) n, LATERAL apikey.issue('owner ' || n, 'limited', format => 'opaque') k;
SQL
		wait_until(sub { value($crowded, "SELECT state FROM apikey.status() WHERE component = 'mirror'", database => $database) eq 'ready' }, "the mirror of $database is ready");
	}
	my @ids = map { my $database = $_; map { $_->{key_id} } rows($crowded, 'SELECT key_id FROM issued', database => $database) } @databases;
	for my $round (1, 2)
	{
		is(value($crowded, 'SELECT count(*) FROM issued WHERE apikey.check_token(token)', database => $_), $keys, "use $round of every key in $_") for @databases;
		my @late;
		eval { wait_until(sub { @late = grep { used($_) != $round } @ids; !@late }, 'all are counted') };
		is(scalar @late, 0, "use $round: each is counted in Redis");
	}
	$crowded->stop;
}

#
# A crash: what was used before it counts, under the field of the server that was.
#
{
	my ($id, $token) = @{ $key{crash} }{qw(key_id token)};
	is(ask($one, $token, 200), 200, 'before a crash');
	wait_until(sub { used($id) == 200 }, 'it is in Redis');
	my ($before) = keys %{ counts($id) };
	my $session = session($one);
	my $pid = value($session, 'SELECT pg_backend_pid()');
	my $started = value($one, 'SELECT pid FROM pg_stat_activity WHERE backend_type = \'checkpointer\'');
	kill('KILL', $pid);
	eval { $session->quit };
	wait_until(sub { (eval { value($one, 'SELECT pid FROM pg_stat_activity WHERE backend_type = \'checkpointer\'') } // $started) ne $started }, 'it has started again');
	is_left($one, 100, 'after it, the server learns from Redis what was used', $token);
	is(ask($one, $token, 150), 100, 'and admits what is left');
	is_left($two, 0, 'the other one knows', $token);
	my %counts = %{ counts($id) };
	is_deeply([ sort { $a <=> $b } values %counts ], [ 100, 200 ], 'the field of the server that was is still there');
	is($counts{$before}, 200, 'as it was');
}

#
# Redis loses everything: the counts come back, also those of keys that nobody uses.
#
{
	my ($id, $token) = @{ $key{flush} }{qw(key_id token)};
	is(ask($one, $token, 70) + ask($two, $token, 30), 100, 'before Redis is emptied');
	wait_until(sub { used($id) == 100 }, 'they are in Redis');
	my $counts = counts($id);
	$redis->command('FLUSHALL');
	my $again = {};
	eval { wait_until(sub { $again = counts($id); sum0(values %$again) == 100 }, 'they are back') };
	is_deeply($again, $counts, 'they are there again, of each server');
	await_mirror($_) for @both;
	$redis->kill9;
	$redis->restart;
	$again = {};
	eval { wait_until(sub { $again = eval { counts($id) } // {}; sum0(values %$again) == 100 }, 'they are back') };
	is_deeply($again, $counts, 'and after Redis was killed and has started with nothing');
	await_mirror($_) for @both;
	$ak_rate = $redis->command('SCRIPT', 'LOAD', slurp_file("$FindBin::RealBin/../../src/lua/ak_rate.lua"));
}

#
# Redis is away: apikey.rate_on_stale.
#
{
	my ($id, $token) = @{ $key{stale} }{qw(key_id token)};
	ask_third($id, 300, $month_ms) for 1 .. 20;
	is(ask($one, $token, 30) + ask($two, $token, 10), 40, 'three nodes use a key');
	is_left($_, 240, 'each knows what all have used', $token) for @both;
	$redis->kill9;
	my $gone = Time::HiRes::time();
	is(left_of($two, $token), 240, 'Redis has just gone: nothing has changed');
	is_left($two, 90, 'share: a third of the limit, less what this one has used', $token);
	cmp_ok(Time::HiRes::time() - $gone, '>', 2.5, 'after some seconds, not at once');
	is(ask($two, $token, 100), 90, 'so many are admitted');
	is(code($two, $token), 'RATE_LIMITED', 'and no more');
	value($_, "ALTER SYSTEM SET apikey.rate_on_stale = 'local'; SELECT pg_reload_conf()") for @both;
	is_left($two, 200, 'local: all of it, less what this one has used', $token);
	value($_, "ALTER SYSTEM SET apikey.rate_on_stale = 'deny'; SELECT pg_reload_conf()") for @both;
	is_left($one, 0, 'deny: nothing is left', $token);
	is(code($one, $token), 'RATE_LIMITED', 'and nothing admitted');
	is(value($one, 'SELECT retry_after BETWEEN interval \'0\' AND interval \'1 second\' FROM apikey.validate(' . literal($token) . ')'), 't', 'it says to come back in a second');
	$one->restart;
	is_left($one, 0, 'deny: also on a server that has not heard of Redis since it started', $token);
	$redis->restart;
	value($_, "ALTER SYSTEM RESET apikey.rate_on_stale; SELECT pg_reload_conf()") for @both;
	# What the restarted one and the third had used was only in Redis, which has lost it: that of the third comes again when it tells.
	$ak_merge = $redis->command('SCRIPT', 'LOAD', slurp_file("$FindBin::RealBin/../../src/lua/ak_merge.lua"));
	my $sequence = int($now_ms->() / $month_ms);
	$redis->command('EVALSHA', $ak_merge, 2, hashes($id, $month_ms, $sequence), $field, 20, 0, $month_ms);
	is_left($one, 180, 'Redis is back: what the other one and the third have used', $token);
	is_left($two, 150, 'and the other one has not forgotten what it was told before', $token);
}

#
# Anonymous clients: the same subject in both.
#
{
	await_mirror($_) for @both;
	is(ask($one, undef, 25, '10.1.1.1') + ask($two, undef, 15, '10.1.1.1'), 40, 'an address asks both');
	is_left($_, 260, 'both know', undef, '10.1.1.1') for @both;
	is(left_of($one, undef, '10.1.1.2'), 300, 'another address has used nothing');
	my @hashes = @{ $redis->command('KEYS', "{ak:$rates:*}:rate:ip-*:default.$month_ms:*") };
	my @shared = grep { $redis->command('HLEN', $_) == 2 } @hashes;
	is(scalar @shared, 1, 'one hash in Redis has counts of both');
	like($shared[0], qr/:rate:ip-[0-9a-f]{32}:default\./, 'named by a hash of the address');
	unlike(join(' ', @hashes), qr/10\.1\.1|0a010101/, 'which does not say which address it is');

	$one->restart;
	is_left($one, 260, 'a server that was restarted learns what the address has used', undef, '10.1.1.1');

	# Without the master key each counts for itself.
	value($two, "ALTER SYSTEM SET apikey.master_key_file = 'nowhere'");
	$two->restart;
	await_mirror($two);
	is(ask($two, undef, 5, '10.1.1.1'), 5, 'without a master key the free tier works');
	is(left_of($two, undef, '10.1.1.1'), 295, 'and counts by itself');
	is_left($one, 260, 'the other one has nothing to do with it', undef, '10.1.1.1');
}

$_->stop for @both;
done_testing();
