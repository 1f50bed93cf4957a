# What Redis, the worker and the server can lose, and how the mirror gets over it: nothing that was withdrawn is lost, nothing that was
# enabled again stays withdrawn, and meanwhile nodes are told that the mirror cannot say.
#
# APIKEY_MIRROR_ROUNDS says how many random kills there are, APIKEY_MIRROR_SEED which.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use MirrorTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{APIKEY_MIRROR_ROUNDS} // 50;
my $seed = $ENV{APIKEY_MIRROR_SEED} // int(rand(1_000_000));
srand($seed);

# The time that a loss may take to be made good: the bar of the project.
my $bar = 5;
# What this machine adds to any wait.
my $slack = 1.5;

my $redis = RedisServer->start(name => 'losses', port => 1);
my $node = new_cluster('losses', conf => <<CONF);
fsync = off
restart_after_crash = on
max_connections = 50
max_worker_processes = 16
apikey.redis_url = 'unix://${\$redis->socket_path}'
CONF
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;
my $sql = $mirror->sql;

sub figure { my ($name, $value) = @_; note("$name: $value"); return; }
sub ms { my ($seconds) = @_; return int(1000 * $seconds); }
sub log_size { return -s $node->logfile; }
sub log_since { return substr(slurp_file($node->logfile), $_[0]); }
sub eventually { my ($sub, $what) = @_; return ok(eval { wait_until($sub, $what) }, $what); }
sub worker_pid { return value($node, "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'apikey mirror'"); }
sub epochs { return join(' ', map { $_->{epoch} // '' } $mirror->metas); }
sub withdrawn_keys { my ($owner) = @_; return split(/\n/, value($node, "SELECT key_id FROM apikey.key WHERE owner = '$owner' ORDER BY key_id")); }

# So many active keys of an owner: copies of one, which share its hash.
my %template = issue($sql, owner => 'template', ttl => '7 days');
sub make_keys
{
	my ($owner, $number) = @_;
	value($node, <<SQL);
INSERT INTO apikey.key SELECT (jsonb_populate_record(k, jsonb_build_object('key_id', apikey.uuid_v7(), 'owner', '$owner'))).*
  FROM apikey.key k, generate_series(1, $number) WHERE k.key_id = '$template{key_id}'
SQL
	return withdrawn_keys($owner);
}

# A psql that runs these statements by itself.
sub start_psql
{
	my (@statements) = @_;
	my $output = '';
	my $process = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @statements ],
		'<', \undef, '>', \$output, '2>', \$output, IPC::Run::timeout($RedisServer::timeout));
	return { process => $process, output => \$output };
}

# A process that asks about these keys of generation 1, all of which are withdrawn, some at a time, every millisecond. Whatever happens to
# Redis, the answer must never be "ok". Ends with stop_reader(), which returns how often it got which answer.
my @readers;
sub start_reader
{
	my (@keys) = @_;
	my %reader;
	pipe(my $stop, $reader{stop}) or die "no pipe: $!";
	pipe($reader{result}, my $result) or die "no pipe: $!";
	$reader{pid} = fork() // die "could not fork: $!";
	if ($reader{pid} == 0)
	{
		close $reader{stop};
		my %count;
		my $bits = '';
		vec($bits, fileno($stop), 1) = 1;
		until (select(my $ready = $bits, undef, undef, 0.001))
		{
			my @some = map { [ $keys[ rand @keys ], 1 ] } 1 .. 16;
			my @answers = eval { $mirror->checks(@some) };
			if (!@answers)
			{
				# Redis is not there: no answer, which is no permission either.
				$redis->{connection} = undef;
				@answers = ('no answer');
			}
			$count{$_}++ for @answers;
		}
		print {$result} JSON::PP::encode_json(\%count);
		close $result;
		POSIX::_exit(0);
	}
	close $stop;
	close $result;
	push @readers, \%reader;
	return \%reader;
}
sub stop_reader
{
	my ($reader) = @_;
	close $reader->{stop};
	my $text = do { local $/ = undef; readline $reader->{result} };
	waitpid($reader->{pid}, 0);
	@readers = grep { $_ != $reader } @readers;
	return JSON::PP::decode_json($text);
}
sub never_ok
{
	my ($reader, $what) = @_;
	my $count = stop_reader($reader);
	is($count->{ok} // 0, 0, "$what: a reader never got ok for a key that is withdrawn");
	cmp_ok($count->{'revoked key'} // 0, '>', 0, "$what: it asked");
	figure("$what, answers", join(', ', map { "$_ $count->{$_}" } sort keys %$count));
	return $count;
}

# Seconds until every bucket says that it is ready, of another epoch than it was.
sub seconds_until_filled
{
	my ($began, $before) = @_;
	wait_until(sub { return $mirror->is_ready && epochs() ne $before && epochs() !~ /^ | $|  /; }, 'Redis is filled again');
	return time - $began;
}

#
# 1. kill -9 of Redis, which keeps nothing, while revocations commit
#
my @old = make_keys('old', 200);
value($node, "SELECT apikey.revoke_owner('old')");
$mirror->is_exact('before any loss');

# revoked(OWNER) of that owner's keys; the writers each commit one at a time.
sub revoked { my ($owner) = @_; return value($sql, "SELECT count(*) FROM apikey.key WHERE owner LIKE '$owner %' AND state = 'revoked'"); }
sub start_writers
{
	my ($owner, $writers, $each) = @_;
	make_keys("$owner $_", $each) for 1 .. $writers;
	return map {
		start_psql("DO \$\$ DECLARE k record; BEGIN FOR k IN SELECT key_id FROM apikey.key WHERE owner = '$owner $_' LOOP"
			  . " PERFORM apikey.revoke(k.key_id::text); COMMIT; END LOOP; END \$\$")
	} 1 .. $writers;
}
sub finish_writers { my (@writers) = @_; $_->{process}->finish for @writers; return join('', map { ${ $_->{output} } } @writers); }
for my $when ('restarted after the last of them', 'restarted in their midst')
{
	my $what = "kill -9 of Redis under 10,000 revocations, $when";
	my $owner = $when =~ /midst/ ? 'midst' : 'after';
	my $reader = start_reader(@old);
	my @writers = start_writers($owner, 4, 2500);
	wait_until(sub { return revoked($owner) >= 2000; }, '2000 revocations');
	my $before = epochs();
	$redis->kill9;
	my $at_kill = revoked($owner);
	wait_until(sub { return revoked($owner) >= 5000; }, '5000 revocations') if $owner eq 'midst';
	is(finish_writers(@writers), '', "$what: the writers do not mind") if $owner eq 'after';
	my $waiting = value($sql, 'SELECT count(*) FROM apikey.outbox');
	$redis->restart;
	my $up = time;
	my $took = seconds_until_filled($up, $before);
	is(finish_writers(@writers), '', "$what: the writers do not mind") if $owner eq 'midst';
	is(revoked($owner), 10_000, "$what: all have been revoked");
	$mirror->settle;
	figure("$what: revoked before the kill", $at_kill);
	figure("$what: rows that waited", $waiting);
	figure("$what: complete after, ms", ms($took));
	cmp_ok($took, '<', $bar, "$what: complete in time");
	my @verdicts = map { $mirror->checks(map { [ $_, 1 ] } withdrawn_keys("$owner $_")) } 1 .. 4;
	is(scalar(grep { $_ eq 'revoked key' } @verdicts), 10_000, "$what: nothing is lost");
	figure("$what: lost", 10_000 - grep { $_ eq 'revoked key' } @verdicts);
	$mirror->is_exact($what);
	never_ok($reader, $what);
}

#
# 2. FLUSHALL of a large mirror
#
value($node, "INSERT INTO apikey.revocation (key_id, kind, effective_at, until) SELECT apikey.uuid_v7(), 'withdrawn', now(), now() + interval '1 day' FROM generate_series(1, 80000)");
$mirror->is_exact('a large mirror');
my $members = scalar(keys %{ $mirror->members });
cmp_ok($members, '>=', 100_000, '100,000 withdrawals');
for my $round (1 .. 2)
{
	my $reader = start_reader(@old);
	my $before = epochs();
	my $resyncs = $mirror->resyncs('epoch');
	my @replies = $redis->pipeline([ 'FLUSHALL' ], map { [ $mirror->_check_arguments($_, 1) ] } @old);
	my $began = time;
	shift @replies;
	is(scalar(grep { $_->[0] ne 'unknown' } @replies), 0, 'FLUSHALL: the next question is answered with unknown');
	my $took = seconds_until_filled($began, $before);
	figure("FLUSHALL of $members members, complete after, ms", ms($took));
	cmp_ok($took, '<', $bar, 'FLUSHALL: complete in time');
	never_ok($reader, 'FLUSHALL');
	$mirror->is_exact('FLUSHALL');
	is($mirror->resyncs('epoch'), $resyncs + 1, 'FLUSHALL: filled once, since the epoch was gone');
	is($redis->command('HLEN', $mirror->name_in('roles')), 5, 'FLUSHALL: the roles are there again');
	ok($redis->command('GET', $mirror->name_in('jwks')), 'FLUSHALL: and the key set');
}
# What a receipt was good for is gone with the data.
{
	my $receipt = value($sql, 'SELECT pg_current_xact_id()');
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'a receipt before FLUSHALL');
	my %seen;
	my $before = epochs();
	$redis->command('FLUSHALL');
	wait_until(
		sub {
			my $seen = value($sql, "SELECT apikey.wait_mirrored('$receipt', '0'), state FROM apikey.status() WHERE component = 'mirror'");
			$seen{$seen}++;
			return $seen eq 't|ready' && $mirror->is_ready && epochs() ne $before;
		},
		'Redis is filled again');
	cmp_ok($seen{'f|resyncing'} // 0, '>', 0, 'during a resync it is not in Redis');
	# The two are not read at the same moment.
	cmp_ok($seen{'t|resyncing'} // 0, '<=', 2, 'and nobody is told that it is');
}
# Again while it is being filled.
{
	my $reader = start_reader(@old);
	my $before = epochs();
	$redis->command('FLUSHALL');
	my $times = 0;
	wait_until(
		sub {
			if ($times < 3 && grep { ($_->{ready} // '') eq '0' } $mirror->metas)
			{
				$redis->command('FLUSHALL');
				$times++;
			}
			return $times == 3;
		},
		'three more losses during a resync');
	seconds_until_filled(time, $before);
	never_ok($reader, 'FLUSHALL again and again');
	$mirror->is_exact('FLUSHALL again and again');
}
value($node, "DELETE FROM apikey.revocation r WHERE r.generation IS NULL AND NOT EXISTS (SELECT FROM apikey.key k WHERE k.key_id = r.key_id)");
$mirror->is_exact('a small mirror again');

#
# 4. A Redis that may evict, or is full
#
sub configure { my (%settings) = @_; $redis->command('CONFIG', 'SET', %settings); return; }
sub never_ready_until
{
	my ($sub, $what) = @_;
	my $ready = 0;
	ok(
		eval {
			wait_until(sub { $ready++ if grep { ($_->{ready} // '') eq '1' } $mirror->metas; return $sub->(); }, $what);
		},
		$what);
	return is($ready, 0, "$what: Redis never said that it is ready");
}
for my $policy ('allkeys-lru', 'volatile-lru', 'volatile-ttl')
{
	my $offset = log_size();
	configure('maxmemory', '1gb', 'maxmemory-policy', $policy);
	is($mirror->await_state('unsafe'), 'unsafe', "$policy: unsafe");
	eventually(sub { return !grep { $_->{ready} ne '0' } $mirror->metas; }, "$policy: nodes are told so");
	is($mirror->check($old[0], 1), 'revoked key', "$policy: what is withdrawn is");
	is($mirror->check($template{key_id}, 1), 'unknown not_ready', "$policy: what is not cannot be said");
	like(log_since($offset), qr/WARNING:  apikey tells readers of Redis that the mirror is not ready\n.*DETAIL: .*$policy.*noeviction/, "$policy: the log has a WARNING");
	like($mirror->detail->{problem}, qr/$policy.*noeviction/, "$policy: so has status");
	is(value($sql, "SELECT value FROM apikey.metrics WHERE name = 'apikey_mirror_ready'"), 0, "$policy: so have the metrics");
	my $resyncs = $mirror->resyncs;
	value($sql, 'SELECT apikey.mirror_resync()');
	never_ready_until(sub { return $mirror->resyncs > $resyncs && $mirror->state ne 'resyncing'; }, "$policy: filled anew");
	is($mirror->state, 'unsafe', "$policy: filled anew, and still unsafe");
	like($mirror->detail->{problem}, qr/$policy.*noeviction/, "$policy: and it still says why");
	if ($policy eq 'volatile-lru')
	{
		my $connects = $mirror->detail->{connects};
		$redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
		never_ready_until(sub { return $mirror->detail->{connects} > $connects && $mirror->state eq 'unsafe'; }, "$policy: connected anew");
	}
	configure('maxmemory-policy', 'noeviction');
	$mirror->await_ready;
	is($mirror->check($template{key_id}, 1), 'ok', "$policy: ready when that has changed");
	ok(!exists $mirror->detail->{problem}, "$policy: and there is no problem");
	configure('maxmemory', 0);
}
configure('maxmemory-policy', 'allkeys-lru');
{
	# Without a limit the policy does not matter.
	my ($before) = $mirror->metas;
	eventually(sub { my ($now) = $mirror->metas; return $now->{heartbeat_ms} > $before->{heartbeat_ms} + 2500; }, 'some heartbeats');
	is($mirror->state . ', ' . $mirror->is_ready, 'ready, 1', 'a policy that may evict, but no limit');
}
{
	# A key of somebody else's goes: it could have been one of ours.
	my $resyncs = $mirror->resyncs('evicted');
	my $lost = $redis->info('stats')->{evicted_keys};
	$redis->pipeline([ 'SET', 'somebody', 'x', 'EX', 1000 ], [ 'CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru', 'maxmemory', 1 ], [ 'SET', 'other', 1 ],
		[ 'CONFIG', 'SET', 'maxmemory', 0, 'maxmemory-policy', 'noeviction' ]);
	cmp_ok($redis->info('stats')->{evicted_keys}, '>', $lost, 'an eviction');
	eventually(sub { return $mirror->resyncs('evicted') == $resyncs + 1; }, 'what may have been evicted is sent again');
	$mirror->await_ready;
	# All of ours go.
	my $reader = start_reader(@old);
	my $before = epochs();
	$redis->pipeline([ 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random', 'maxmemory', 1 ], map { [ 'SET', 'other', 1 ] } 1 .. 200);
	$redis->pipeline([ 'CONFIG', 'SET', 'maxmemory', 0, 'maxmemory-policy', 'noeviction' ]);
	my $took = seconds_until_filled(time, $before);
	figure('everything was evicted, complete after, ms', ms($took));
	never_ok($reader, 'eviction');
	$mirror->await_ready;
	$mirror->is_exact('eviction');
}
{
	# Full: withdrawals are refused, the watermark stops, nothing is lost.
	my ($key) = make_keys('full', 1);
	$mirror->settle;
	configure('maxmemory', 1, 'maxmemory-policy', 'noeviction');
	my $receipt = value($sql, "SELECT receipt FROM apikey.revoke('$key')");
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '500 ms')"), 'f', 'a Redis that is full: not mirrored');
	eventually(sub { return $mirror->check($key, 1, 1000) =~ /^unknown (?:stale|not_ready)$/; }, 'a Redis that is full: nodes cannot say');
	eventually(sub { return ($mirror->detail->{problem} // '') =~ /OOM/; }, 'a Redis that is full: status says why');
	configure('maxmemory', 0);
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'there is room again: mirrored');
	is($mirror->check($key, 1), 'revoked key', 'there is room again: it is withdrawn');
	$mirror->is_exact('after a Redis that was full');
}

#
# 5. A worker that stands still
#
my $stopped = 0;
{
	my ($key, @more) = make_keys('still', 3);
	$mirror->settle;
	my $staleness = 2000;
	is($mirror->check($key, 1, $staleness), 'ok', 'before the worker stops');
	$stopped = worker_pid();
	kill('STOP', $stopped) or die "could not stop the worker: $!";
	my $began = time;
	my $receipt = value($sql, "SELECT receipt FROM apikey.revoke('$key')");
	is($mirror->await_check('unknown stale', $key, 1, $staleness), 'unknown stale', 'a worker that stands still: stale');
	my $took = time - $began;
	cmp_ok($took, '<', $staleness / 1000 + $slack, 'a worker that stands still: in time');
	figure("a worker that stands still: stale (at $staleness ms) after, ms", ms($took));
	is($mirror->check($more[0], 1, $staleness), 'unknown stale', 'a worker that stands still: so is every key');
	is($mirror->check($old[0], 1, $staleness), 'revoked key', 'a worker that stands still: what was withdrawn is');
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '100 ms')"), 'f', 'a worker that stands still: not mirrored');
	kill('CONT', $stopped);
	$stopped = 0;
	$began = time;
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'it goes on: mirrored');
	figure('it goes on: mirrored after, ms', ms(time - $began));
	is($mirror->check($key, 1, $staleness), 'revoked key', 'it goes on: withdrawn');
	is($mirror->await_check('ok', $more[0], 1, $staleness), 'ok', 'it goes on: fresh');

	# Much has come together meanwhile: a receipt holds for all of it, or not yet.
	make_keys('mass', 9000);
	$stopped = worker_pid();
	kill('STOP', $stopped) or die "could not stop the worker: $!";
	$receipt = value($sql, "SELECT pg_current_xact_id() FROM (SELECT apikey.revoke_owner('mass')) r");
	my @last = split(/\n/, value($sql, 'SELECT key_id FROM apikey.outbox ORDER BY id DESC LIMIT 50'));
	kill('CONT', $stopped);
	$stopped = 0;
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'a large transaction: mirrored');
	is(scalar(grep { $_ eq 'revoked key' } $mirror->checks(map { [ $_, 1 ] } @last)), 50, 'a large transaction: its last revocation, too');
	$mirror->is_exact('a large transaction');
}

#
# 6. A part of it is lost
#
{
	my $name = $mirror->name($old[0], 'rev');
	my $meta = $mirror->name($old[0], 'meta');
	my $bucket = MirrorTest::bucket($old[0]);
	my @there = grep { MirrorTest::bucket($_) eq $bucket } @old;
	my $loss = sub {
		my ($what, $cause, @commands) = @_;
		my $reader = start_reader(@old);
		my ($before, $resyncs) = (epochs(), $mirror->resyncs);
		my @replies = $redis->pipeline([ 'MULTI' ], @commands, [ $mirror->_check_arguments($old[0], 1) ], [ 'EXEC' ]);
		my $began = time;
		my $verdict = $cause eq 'count' ? undef : $replies[-1][-1][0];
		is($verdict, 'unknown', "$what: the next question is answered with unknown") if defined $verdict;
		my $took = seconds_until_filled($began, $before);
		figure("$what: complete after, ms", ms($took));
		cmp_ok($took, '<', $bar, "$what: complete in time") unless $cause eq 'count';
		is($mirror->resyncs, $resyncs + 1, "$what: filled once");
		$mirror->await_ready;
		$mirror->is_exact($what);
		$cause eq 'count' ? stop_reader($reader) : never_ok($reader, $what);
	};
	$loss->('the members of a bucket', 'epoch', [ 'DEL', $name ]);
	$loss->('a bucket', 'epoch', [ 'DEL', $name, $meta ]);
	$loss->('meta of a bucket', 'epoch', [ 'DEL', $meta ], [ 'ZREM', $name, $old[0] ]);
	$loss->('a few members', 'epoch', [ 'ZREM', $name, @there[ 0 .. 2 ] ]);
	# One that Redis itself cannot see: the number was set to what is left.
	my $count = $redis->command('ZCARD', $name);
	$loss->('a member, and the number of them is right', 'count', [ 'ZREM', $name, $there[0] ], [ 'HSET', $meta, 'count', $count - 1 ]);

	# An older state behind the same connection, as of a replica that lagged.
	my @older = $redis->pipeline([ 'DUMP', $name ], [ 'DUMP', $meta ]);
	my @lost = grep { MirrorTest::bucket($_) eq $bucket } make_keys('lagged', 100);
	value($sql, "SELECT apikey.revoke_owner('lagged')");
	$mirror->settle;
	is($mirror->check($lost[0], 1), 'revoked key', 'withdrawn');
	my ($before, $resyncs) = (epochs(), $mirror->resyncs('epoch'));
	my $began = time;
	$redis->pipeline([ 'MULTI' ], [ 'RESTORE', $name, 0, $older[0], 'REPLACE' ], [ 'RESTORE', $meta, 0, $older[1], 'REPLACE' ], [ 'EXEC' ]);
	my $took = seconds_until_filled($began, $before);
	figure('an older state of a bucket: complete after, ms', ms($took));
	cmp_ok($took, '<', $bar, 'an older state of a bucket: complete in time');
	is($mirror->resyncs('epoch'), $resyncs + 1, 'an older state of a bucket: was noticed');
	$mirror->await_ready;
	$mirror->is_exact('an older state of a bucket');
}
{
	# Restarted with what was saved some time ago.
	$redis->command('SAVE');
	my $run_id = $redis->info('server')->{run_id};
	my @lost = make_keys('saved', 50);
	value($sql, "SELECT apikey.revoke_owner('saved')");
	my ($restored) = make_keys('restored', 1);
	value($sql, "SELECT apikey.disable('$restored')");
	$mirror->settle;
	is(scalar(grep { $_ ne 'revoked key' } $mirror->checks(map { [ $_, 1, 60_000, $run_id ] } @lost)), 0, 'withdrawn after Redis has saved');
	my $before = epochs();
	my $reader = start_reader(@old);
	# Nothing changes before the worker is there again, but what is enabled.
	$redis->kill9;
	value($sql, "SELECT apikey.enable('$restored')");
	$redis->restart;
	my $began = time;
	isnt($redis->info('server')->{run_id}, $run_id, 'it is another process');
	my $took = seconds_until_filled($began, $before);
	figure('restarted with an older state: complete after, ms', ms($took));
	cmp_ok($took, '<', $bar, 'restarted with an older state: complete in time');
	is(scalar(grep { $_ ne 'revoked key' } $mirror->checks(map { [ $_, 1 ] } @lost)), 0, 'restarted with an older state: nothing is lost');
	$mirror->await_ready;
	is($mirror->check($restored, 1), 'ok', 'restarted with an older state: what was enabled again is good');
	$mirror->is_exact('restarted with an older state');
	never_ok($reader, 'restarted with an older state');
	unlink $redis->directory . '/dump.rdb';
}

#
# 7. What Redis has and the tables do not
#
{
	my ($live, $refreshed) = make_keys('live', 2);
	value($sql, "UPDATE apikey.key SET generation = 3 WHERE key_id = '$refreshed'");
	$mirror->settle;
	my $unknown = '01a00000-0000-7000-8000-000000000001';
	my $until = int(time) + 5000;
	my @removed = ($live, "$live.1", "changed:$live.1", "$refreshed.3", "changed:$refreshed.3");
	my @listed = ($unknown, "$unknown.7", "changed:$unknown.7");
	# Nobody asks for what is no member; it must not be in the way either.
	my @junk = ('', 'junk', "$live.0", "$live.01", "changed:$live", "$live.99999999999", uc $live, "\xff\xfe\x00", "caf\xc3\xa9", 'x' x 5000);
	my $bucket_of = sub { my ($member) = @_; return $mirror->name($member =~ /([0-9a-f-]{36})/ ? $1 : $live, 'rev'); };
	my @replies = $redis->pipeline(map { [ 'ZADD', $bucket_of->($_), $until, $_ ] } @removed, @listed, @junk);
	is(scalar(grep { ref $_ || $_ != 1 } @replies), 0, 'somebody has written to the mirror');
	$redis->command('ZADD', $mirror->name($_->[1], 'rev'), @$_) for [ 'inf', "$unknown.8" ], [ '-inf', "$unknown.9" ], [ '1e300', "$unknown.10" ];
	is($mirror->check($live, 1), 'revoked key', 'a key that is live is withdrawn there');
	my $resyncs = $mirror->resyncs;
	value($sql, 'SELECT apikey.mirror_resync()');
	eventually(sub { return $mirror->resyncs > $resyncs && $mirror->state eq 'ready'; }, 'filled anew');
	cmp_ok($mirror->resyncs, '==', $resyncs + 1, 'at the first attempt');
	$mirror->settle;
	is($mirror->check($live, 1) . ', ' . $mirror->check($refreshed, 3), 'ok, ok', 'what is live is good again');
	my $found = $mirror->members;
	is_deeply([ grep { exists $found->{$_} } @removed ], [], 'members of live keys are removed');
	is_deeply([ grep { !exists $found->{$_} } @listed, "$unknown.8" ], [], 'members of unknown keys stay');
	is($mirror->check($unknown, 1), 'revoked key', 'and count');
	my @rows = grep { defined $_->{key_id} && $_->{key_id} eq $unknown }
	  rows($sql, 'SELECT member, key_id, generation, kind, round(extract(epoch FROM until))::bigint AS until FROM apikey.mirror_diff() ORDER BY member COLLATE "C"');
	my %until = map { $_->{member} => delete $_->{until} } @rows;
	is_deeply([ grep { $_->{member} !~ /\.(?:8|9|10)$/ } @rows ],
		[ { member => $unknown, key_id => $unknown, generation => undef, kind => 'withdrawn' },
			{ member => "$unknown.7", key_id => $unknown, generation => 7, kind => 'withdrawn' },
			{ member => "changed:$unknown.7", key_id => $unknown, generation => 7, kind => 'changed' } ],
		'mirror_diff() lists them');
	is($until{$unknown}, $until - 60, 'and until when they count');
	ok(exists $until{"$unknown.8"}, 'also one for ever');
	$redis->pipeline(map { [ 'ZREM', $mirror->name_in($_, 'rev'), grep { $_ ne '' } @listed, @junk, map { "$unknown.$_" } 8, 9, 10 ] } map { sprintf('%x', $_) } 0 .. 15);
	$redis->pipeline(map { [ 'ZREM', $mirror->name_in($_, 'rev'), '' ] } map { sprintf('%x', $_) } 0 .. 15);
	wait_until(sub { return value($sql, 'SELECT count(*) FROM apikey.mirror_unknown') == 0 && $mirror->state eq 'ready'; }, 'nothing is unknown any more');
	$mirror->is_exact('without them');
}

#
# 3. kill -9 of the worker and of backends, at random, in the midst of changes
#
{
	my $per_round = 60;
	my $began = time;
	# Which state each key is to have in the end is in its name; each goes through others on its way, in transactions of its own.
	my $script = sub {
		my ($round, $part) = @_;
		return (<<"CHANGE", <<"AGAIN");
DO \$\$
DECLARE k record;
BEGIN
    FOR k IN SELECT key_id, name FROM apikey.key WHERE owner = 'round $round' AND name LIKE '% $part' AND state::text <> split_part(name, ' ', 1) ORDER BY random() LOOP
        IF split_part(k.name, ' ', 1) = 'revoked' THEN
            PERFORM apikey.revoke(k.key_id::text);
        ELSE
            PERFORM apikey.disable(k.key_id::text);
        END IF;
        COMMIT;
    END LOOP;
    FOR k IN SELECT key_id FROM apikey.key WHERE owner = 'round $round' AND name LIKE 'active % $part' AND state = 'disabled' ORDER BY random() LOOP
        PERFORM apikey.enable(k.key_id::text);
        COMMIT;
    END LOOP;
END \$\$;
CHANGE
DO \$\$
DECLARE k record;
BEGIN
    FOR k IN SELECT key_id FROM apikey.key WHERE owner = 'round $round' AND name LIKE 'active % $part' ORDER BY random() LOOP
        PERFORM apikey.disable(k.key_id::text);
        COMMIT;
        PERFORM apikey.enable(k.key_id::text);
        COMMIT;
    END LOOP;
END \$\$;
AGAIN
	};
	my %killed = (worker => 0, backend => 0);
	my $retries = 0;
	$mirror->leave;
	my $reader = start_reader(@old);
	for my $round (1 .. $rounds)
	{
		make_keys("round $round", $per_round);
		value($node, "UPDATE apikey.key k SET name = (ARRAY['active', 'revoked', 'disabled'])[1 + n % 3] || ' ' || n || ' ' || n % 2 FROM "
			  . "(SELECT key_id, row_number() OVER () AS n FROM apikey.key WHERE owner = 'round $round') i WHERE i.key_id = k.key_id");
		# Sometimes the worker has only begun.
		my $victim = rand() < 0.6 ? 'worker' : 'backend';
		my $after = int(rand($per_round));
		my @writers = map { start_psql("SET application_name = 'writer $_'", $script->($round, $_)) } 0, 1;
		my $offset = log_size();
		my $query = $victim eq 'worker' ? "backend_type = 'apikey mirror'" : "application_name LIKE 'writer%'";
		my $pid = 0;
		wait_until(
			sub {
				my ($done, $found) = split(/\|/, value($node, "SELECT (SELECT count(*) FROM apikey.key WHERE owner = 'round $round' AND state <> 'active'), "
					  . "(SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE $query)"));
				$pid = $found;
				# Writers may have finished before.
				return $done >= $after / 2 && $pid > 0 || ($victim eq 'backend' && $done >= $per_round / 2);
			},
			"somebody to kill in round $round");
		if ($pid > 0 && kill('KILL', $pid))
		{
			# Unless it was just about to end by itself: then nothing follows.
			wait_until(
				sub {
					return 1 if log_since($offset) =~ /database system is ready to accept connections/;
					my $gone = !kill(0, $pid);
					# psql may end before it has read the query, which is an exception.
					my $answers = eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
					return $gone && $answers && log_since($offset) !~ /terminated by signal 9/;
				},
				"the server is there again in round $round");
			$killed{$victim}++ if log_since($offset) =~ /terminated by signal 9/;
		}
		eval { $_->{process}->finish } for @writers;
		# They come again until all is done.
		for my $part (0, 1)
		{
			wait_until(
				sub {
					$retries++;
					my (undef, $errors) = eval { run_sql($node, join('', $script->($round, $part))) };
					return defined $errors && $errors !~ /ERROR|FATAL|PANIC|could not connect|connection to server/;
				},
				"the changes of round $round are made");
		}
	}
	my $took = time - $began;
	$sql = $mirror->sql;
	$mirror->await_ready;
	$mirror->settle;
	figure('random kills: seed', $seed);
	figure('random kills: rounds', $rounds);
	figure('random kills: of the worker', $killed{worker});
	figure('random kills: of a backend', $killed{backend});
	figure('random kills: changed keys', $rounds * $per_round);
	figure('random kills: took, s', int($took));
	my ($lost, $revived, $left) = (0, 0, 0);
	my $members = $mirror->members;
	for my $row (rows($sql, "SELECT key_id, state, split_part(name, ' ', 1) AS goal FROM apikey.key WHERE owner LIKE 'round %'"))
	{
		die "$row->{key_id} is $row->{state} and should be $row->{goal}" if $row->{state} ne $row->{goal};
		$lost++ if $row->{state} ne 'active' && !exists $members->{ $row->{key_id} };
		$left++ if $row->{state} eq 'active' && exists $members->{ $row->{key_id} };
	}
	is($lost, 0, 'random kills: no withdrawal is lost');
	is($left, 0, 'random kills: no key that was enabled again is withdrawn');
	figure('random kills: lost', $lost);
	figure('random kills: enabled, but still withdrawn', $left);
	$mirror->is_exact('random kills');
	never_ok($reader, 'random kills');
	is(value($sql, 'SELECT count(*) FROM apikey.outbox'), 0, 'random kills: nothing waits');
}

# Workers end by being killed, and in no other way.
unlike(slurp_file($node->logfile), qr/background worker "apikey[^\n]*exited with exit code [13-9]|PANIC/, 'no worker failed');
$mirror->leave;
$node->stop;

END
{
	my $status = $?;
	kill('CONT', $stopped) if $stopped;
	close $_->{stop} for @readers;
	$? = $status;
}

done_testing();
