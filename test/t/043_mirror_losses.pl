# What Redis, the worker and the server can lose, and how the mirror gets over it: nothing that was withdrawn is lost, nothing that was
# enabled again stays withdrawn, and meanwhile nodes are told that the mirror cannot say. Kills at random are in 051_mirror_kills.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use MirrorReader;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

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

# A psql that runs these statements by itself.
sub start_psql
{
	my (@statements) = @_;
	my $output = '';
	my $process = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @statements ],
		'<', \undef, '>', \$output, '2>', \$output, IPC::Run::timeout($RedisServer::timeout));
	return { process => $process, output => \$output };
}

# Does every bucket say that it is ready, of another epoch than these? In one look: the first half of two might show what was before, and
# the second that it is being filled.
sub is_filled_since
{
	my ($epochs) = @_;
	my %old = map { $_ => 1 } split(/ /, $epochs);
	return !grep { ($_->{ready} // '') ne '1' || !$_->{watermark_ms} || !$_->{epoch} || $old{ $_->{epoch} } } $mirror->metas;
}
sub seconds_until_filled
{
	my ($began, $before) = @_;
	wait_until(sub { return is_filled_since($before); }, 'Redis is filled again');
	return time - $began;
}

#
# 1. kill -9 of Redis, which keeps nothing, while revocations commit
#
my @old = $mirror->make_keys('old', 200);
my ($live) = $mirror->make_keys('live', 1);
value($node, "SELECT apikey.revoke_owner('old')");
$mirror->is_exact('before any loss');

# revoked(OWNER) of that owner's keys; the writers each commit one at a time.
sub revoked { my ($owner) = @_; return value($sql, "SELECT count(*) FROM apikey.key WHERE owner LIKE '$owner %' AND state = 'revoked'"); }
sub start_writers
{
	my ($owner, $writers, $each) = @_;
	$mirror->make_keys("$owner $_", $each) for 1 .. $writers;
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
	my $reader = MirrorReader->start($mirror, @old);
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
	$reader->never_ok($what);
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
	my $reader = MirrorReader->start($mirror, @old);
	my $before = epochs();
	my $resyncs = $mirror->resyncs('epoch');
	my @replies = $redis->pipeline([ 'FLUSHALL' ], map { [ $mirror->_check_arguments($_, 1) ] } @old);
	my $began = time;
	shift @replies;
	is(scalar(grep { $_->[0] ne 'unknown' } @replies), 0, 'FLUSHALL: the next question is answered with unknown');
	my $took = seconds_until_filled($began, $before);
	figure("FLUSHALL of $members members, complete after, ms", ms($took));
	cmp_ok($took, '<', $bar, 'FLUSHALL: complete in time');
	$reader->never_ok('FLUSHALL');
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
			return $seen eq 't|ready' && is_filled_since($before);
		},
		'Redis is filled again');
	cmp_ok($seen{'f|resyncing'} // 0, '>', 0, 'during a resync it is not in Redis');
	# The two are not read at the same moment.
	cmp_ok($seen{'t|resyncing'} // 0, '<=', 2, 'and nobody is told that it is');
}
# Again while it is being filled.
{
	my $reader = MirrorReader->start($mirror, @old);
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
	$reader->never_ok('FLUSHALL again and again');
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
	is($mirror->check($live, 1), 'unknown not_ready', "$policy: what is not cannot be said");
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
	is($mirror->check($live, 1), 'ok', "$policy: ready when that has changed");
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
	my $reader = MirrorReader->start($mirror, @old);
	my $before = epochs();
	$redis->pipeline([ 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random', 'maxmemory', 1 ], map { [ 'SET', 'other', 1 ] } 1 .. 200);
	$redis->pipeline([ 'CONFIG', 'SET', 'maxmemory', 0, 'maxmemory-policy', 'noeviction' ]);
	my $took = seconds_until_filled(time, $before);
	figure('everything was evicted, complete after, ms', ms($took));
	$reader->never_ok('eviction');
	$mirror->await_ready;
	$mirror->is_exact('eviction');
}
{
	# Full: withdrawals are refused, the watermark stops, nothing is lost.
	my ($key) = $mirror->make_keys('full', 1);
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
	my ($key, @more) = $mirror->make_keys('still', 3);
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
	is($mirror->await_state('late'), 'late', 'a worker that stands still: status says so after 5 s');
	is(value($sql, "SELECT value FROM apikey.metrics WHERE name = 'apikey_mirror_ready'"), '0', 'a worker that stands still: not ready in metrics');
	kill('CONT', $stopped);
	$stopped = 0;
	$began = time;
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'it goes on: mirrored');
	figure('it goes on: mirrored after, ms', ms(time - $began));
	is($mirror->check($key, 1, $staleness), 'revoked key', 'it goes on: withdrawn');
	is($mirror->await_check('ok', $more[0], 1, $staleness), 'ok', 'it goes on: fresh');

	# Much has come together meanwhile: a receipt holds for all of it, or not yet.
	$mirror->make_keys('mass', 9000);
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
		my $reader = MirrorReader->start($mirror, @old);
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
		$cause eq 'count' ? $reader->stop : $reader->never_ok($what);
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
	my @lost = grep { MirrorTest::bucket($_) eq $bucket } $mirror->make_keys('lagged', 100);
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
	my @lost = $mirror->make_keys('saved', 50);
	value($sql, "SELECT apikey.revoke_owner('saved')");
	my ($restored) = $mirror->make_keys('restored', 1);
	value($sql, "SELECT apikey.disable('$restored')");
	$mirror->settle;
	is(scalar(grep { $_ ne 'revoked key' } $mirror->checks(map { [ $_, 1, 60_000, $run_id ] } @lost)), 0, 'withdrawn after Redis has saved');
	my $before = epochs();
	my $reader = MirrorReader->start($mirror, @old);
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
	$reader->never_ok('restarted with an older state');
	unlink $redis->directory . '/dump.rdb';
}

#
# 7. What Redis has and the tables do not
#
{
	my ($live, $refreshed) = $mirror->make_keys('good', 2);
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

# Workers end by being killed, and in no other way.
unlike(slurp_file($node->logfile), qr/background worker "apikey[^\n]*exited with exit code [13-9]|PANIC/, 'no worker failed');
$mirror->leave;
$node->stop;

END
{
	my $status = $?;
	kill('CONT', $stopped) if $stopped;
	$? = $status;
}

done_testing();
