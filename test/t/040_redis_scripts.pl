# The Lua scripts against a Redis server: the vectors of test/conformance, alone and in a node of a cluster; then what takes more than
# one call: two writers, losses, many members, random counts, and the ACL lines of docs/redis-contract.md.

use strict;
use warnings FATAL => 'all';

use Digest::SHA ();
use File::Temp ();
use FindBin;
use JSON::PP ();
use Math::BigInt;
use lib "$FindBin::RealBin/lib";
use RedisServer qw(wait_until);
use Test::More;

note('srand(' . srand() . ')');

my $top = "$FindBin::RealBin/../..";

sub contents
{
	my ($path) = @_;
	open(my $file, '<:raw', $path) or die "could not read $path: $!";
	local $/ = undef;
	return scalar <$file>;
}

my @scripts = qw(ak_check ak_rate ak_merge ak_begin ak_write ak_mark ak_publish);
my %source = map { $_ => contents("$top/src/lua/$_.lua") } @scripts;
my %sha = map { $_ => Digest::SHA::sha1_hex($source{$_}) } @scripts;

our $redis = RedisServer->start(name => 'scripts');

#
# Loaded once, called by their hash
#

like($redis->failure('EVALSHA', $sha{ak_check}, 0), qr/^NOSCRIPT/, 'a script that is not loaded');
is($redis->command('SCRIPT', 'LOAD', $source{$_}), $sha{$_}, "$_ is called by the hash of its file") for @scripts;

sub call_of
{
	my ($script, $keys, @arguments) = @_;
	return [ 'EVALSHA', $sha{$script}, scalar @$keys, @$keys, @arguments ];
}
sub call { return $redis->command(@{ call_of(@_) }); }

#
# Vectors: docs/redis-contract.md says what they mean
#

# The value that a request has in this place.
sub given
{
	my ($value, $now) = @_;
	return $value unless ref $value;
	return $now + $value->{now_ms} if exists $value->{now_ms};
	return int($now / 1000) + $value->{now_s} if exists $value->{now_s};
	die 'unknown placeholder ' . join(' ', keys %$value);
}

# Whether a reply is as expected, for a command that was sent between the times "first" and "last".
sub matches
{
	my ($reply, $expected, %time) = @_;
	if (ref $expected eq 'ARRAY')
	{
		return ref $reply eq 'ARRAY' && @$reply == @$expected && !grep { !matches($reply->[$_], $expected->[$_], %time) } 0 .. $#$expected;
	}
	if (ref $expected eq 'HASH')
	{
		return 1 if $expected->{any};
		return "$reply" =~ /^\Q$expected->{error}\E / if exists $expected->{error} && ref $reply eq 'RedisServer::Error';
		return 0 unless defined $reply && $reply =~ /^-?\d+$/;
		return $reply eq $time{now} + $expected->{now_ms} if exists $expected->{now_ms};
		my ($from, $to);
		if (exists $expected->{from}) { ($from, $to) = @{$expected}{qw(from to)}; }
		elsif (exists $expected->{time_ms}) { ($from, $to) = map { $_ + $expected->{time_ms} } @time{qw(first last)}; }
		elsif (exists $expected->{elapsed_ms}) { ($from, $to) = map { $_ - $time{now} + $expected->{elapsed_ms} } @time{qw(first last)}; }
		elsif (exists $expected->{until_ms}) { ($from, $to) = map { $expected->{until_ms} - $_ } @time{qw(last first)}; }
		elsif (exists $expected->{window_seq}) { ($from, $to) = map { int($_ / $expected->{window_seq}) } @time{qw(first last)}; }
		else { return 0; }
		($from, $to) = map { $_ < $expected->{at_least} ? $expected->{at_least} : $_ } $from, $to if exists $expected->{at_least};
		return $from <= $reply && $reply <= $to;
	}
	# In JSON 1 is not "1", and in RESP an integer not a text.
	return json($reply) eq json($expected);
}

sub json { return JSON::PP->new->canonical->allow_nonref->allow_blessed->encode($_[0]); }

sub milliseconds { my ($time) = @_; return $time->[0] * 1000 + int($time->[1] / 1000); }

# Says what is wrong; nothing when all is as it should be. The script runs as a user who may touch its KEYS and nothing else.
sub run_vector
{
	my ($server, $restricted, $vector) = @_;
	my @keys = @{ $vector->{keys} };
	$server->pipeline([ 'FLUSHALL' ], [ 'ACL', 'SETUSER', 'restricted', 'resetkeys', map { "~$_" } @keys ]);
	my $now = milliseconds($server->command('TIME'));
	$server->command(map { given($_, $now) } @$_) for @{ $vector->{state} // [] };
	my @arguments = map { given($_, $now) } @{ $vector->{args} };
	# The time of the last call; what is looked at afterwards may be of any time since.
	my ($called, @wrong);
	my $expect = sub {
		my ($what, $connection, $expected, @command) = @_;
		my ($reply) = $connection->pipeline(\@command);
		my $last = milliseconds($server->command('TIME'));
		return if matches($reply, $expected, now => $now, first => $called, last => $last);
		push @wrong, "$what: " . (ref $reply eq 'RedisServer::Error' ? $reply : json($reply)) . ' and not ' . json($expected);
	};
	for my $time (1 .. $vector->{times} // 1)
	{
		$called = milliseconds($server->command('TIME'));
		$expect->("call $time", $restricted, $vector->{reply}, @{ call_of($vector->{script}, \@keys, @arguments) });
	}
	for my $after (@{ $vector->{after} // [] })
	{
		my ($command, $expected) = @$after;
		$expect->("@$command", $server, $expected, map { given($_, $now) } @$command);
	}
	return @wrong;
}

sub restricted_user
{
	my ($server) = @_;
	$server->command('ACL', 'SETUSER', 'restricted', 'on', '>secret', '+@all');
	return $server->connect(user => 'restricted', password => 'secret');
}

my %vectors;
{
	my $restricted = restricted_user($redis);
	for my $script (@scripts)
	{
		my $text = contents("$top/test/conformance/$script.json");
		$vectors{$script} = JSON::PP::decode_json($text);
		my %seen;
		for my $vector (@{ $vectors{$script} })
		{
			my @wrong = run_vector($redis, $restricted, $vector);
			push @wrong, 'a second vector of that name' if $seen{ $vector->{name} }++;
			push @wrong, 'of another script' if $vector->{script} ne $script;
			ok(!@wrong, "$script: $vector->{name}") or diag(join("\n", @wrong));
		}
	}
}

# The same where keys have slots.
{
	my $cluster = RedisServer->start(name => 'cluster', cluster_enabled => 'yes', port => 1);
	$cluster->command('CLUSTER', 'ADDSLOTS', 0 .. 16383);
	wait_until(sub { $cluster->command('CLUSTER', 'INFO') =~ /^cluster_state:ok/m }, 'the cluster serves');
	$cluster->command('SCRIPT', 'LOAD', $source{$_}) for @scripts;
	my $restricted = restricted_user($cluster);
	my @wrong;
	for my $vector (map { @{ $vectors{$_} } } @scripts)
	{
		# Keys of two buckets are refused by the cluster itself.
		next if ref $vector->{reply} eq 'HASH' && keys %{ { map { /\{(.*?)\}/ => 1 } @{ $vector->{keys} } } } > 1;
		push @wrong, map { "$vector->{script}: $vector->{name}: $_" } run_vector($cluster, $restricted, $vector);
	}
	is(join("\n", @wrong), '', 'all of them in a cluster');
	for my $row (@{ JSON::PP::decode_json(contents("$top/test/conformance/buckets.json")) })
	{
		my $bucket = substr(Digest::SHA::sha256_hex($row->{subject}), 0, 1);
		is_deeply(
			{ bucket => $bucket, rev => "{ak:test:$bucket}:rev", slot => $cluster->command('CLUSTER', 'KEYSLOT', $row->{rev}) },
			{ map { $_ => $row->{$_} } qw(bucket rev slot) },
			"the bucket of $row->{subject}");
	}
	$cluster->stop;
}

#
# One bucket in the hands of its writers
#

my ($rev, $meta, $events) = map { "{ak:test:0}:$_" } qw(rev meta ev);
my @bucket = ($rev, $meta);

sub gen { my ($timeline, $start) = @_; return sprintf('%08x%016x', $timeline, $start); }
sub uuid { my ($n) = @_; return sprintf('%08x-0000-4000-8000-%012x', $n >> 32, $n); }
sub begin { my ($gen, $expected, $epoch, @more) = @_; return call('ak_begin', \@bucket, $gen, $expected, $epoch, @more); }
sub write_call
{
	my ($epoch, $gen, $add, $remove, @events) = @_;
	return call_of('ak_write', [ @bucket, $events ], $epoch, $gen, @$add / 2, @$add, scalar @$remove, @$remove, @events / 6, @events);
}
sub write_bucket { return $redis->command(@{ write_call(@_) }); }
sub mark_call { my ($epoch, $gen, @more) = @_; return call_of('ak_mark', \@bucket, $epoch, $gen, @more); }
sub mark { return $redis->command(@{ mark_call(@_) }); }
sub check { my ($key, @more) = @_; return join(' ', @{ call('ak_check', \@bucket, $key, 1, 3_600_000, @more) }[ 0, 2 ]); }
# Members, each with a score that no clock gets to.
sub far { return map { (9_999_999_999, $_) } @_; }
sub now_ms { return milliseconds($redis->command('TIME')); }

# A ready bucket without members.
sub fresh_bucket
{
	my ($gen, $epoch, @run_id) = @_;
	$redis->command('FLUSHALL');
	begin($gen, '', $epoch, @run_id);
	return mark($epoch, $gen, now_ms(), '1');
}

# Two writers at once: what the earlier one sends after the later one has begun does nothing, however they interleave.
for my $round (1 .. 20)
{
	my ($old, $new) = (gen(1, $round), gen($round % 2 ? (1, $round + 1) : (2, 1)));
	fresh_bucket($old, uuid(1));
	my %replies = (old => [], new => []);
	my %calls = (
		old => [ map { write_call(uuid(1), $old, [ far(uuid($_)) ], []) } 1 .. 200 ],
		new => [
			call_of('ak_begin', \@bucket, $new, uuid(1), uuid(2)),
			(map { write_call(uuid(2), $new, [ far(uuid(1000 + $_)) ], [ uuid($_) ]) } 1 .. 100),
			mark_call(uuid(2), $new, now_ms(), '1', 100)
		]);
	my %connection = map { $_ => $redis->connect } keys %calls;
	my %unsent = map { $_ => [ @{ $calls{$_} } ] } keys %calls;
	while (my @left = grep { @{ $unsent{$_} } } sort keys %unsent)
	{
		my $who = $left[ rand @left ];
		$connection{$who}->send(splice(@{ $unsent{$who} }, 0, 1 + rand 20));
	}
	for my $who (keys %calls)
	{
		push @{ $replies{$who} }, $connection{$who}->receive for @{ $calls{$who} };
	}
	my $sequence = join('', map { ref $_ eq 'ARRAY' ? { ok => 'o', fenced => 'f' }->{ $_->[0] } // '?' : '!' } @{ $replies{old} });
	my $accepted = ($sequence =~ tr/o//);
	my @wrong;
	push @wrong, "the earlier one was answered $sequence" unless $sequence =~ /^o*f*$/;
	push @wrong, 'the later one was answered otherwise' if grep { ref $_ ne 'ARRAY' || $_->[0] ne 'ok' } @{ $replies{new} };
	# The later one has removed the first 100 of the earlier one's, after all of the earlier one's calls that were accepted.
	my $expected = 100 + ($accepted > 100 ? $accepted - 100 : 0);
	my $members = $redis->command('ZCARD', $rev);
	push @wrong, "$members members and not $expected" unless $members == $expected;
	push @wrong, check(uuid(1001)), check(uuid(5000)) unless check(uuid(1001)) eq 'revoked key' && check(uuid(5000)) eq 'ok ';
	is("@wrong", '', "two writers, round $round: $accepted of the earlier one's were accepted");
}

# Of two texts of hexadecimal digits a locale may take another one for the later: in Danish "aa" comes after "z".
{
	my $locales = File::Temp::tempdir('locales-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	is(system('localedef', '-i', 'da_DK', '-f', 'UTF-8', "$locales/da_DK.UTF-8"), 0, 'a Danish locale');
	local %ENV = (%ENV, LOCPATH => $locales, LC_ALL => 'da_DK.UTF-8');
	local $redis = RedisServer->start(name => 'danish');
	is($redis->command('EVAL', "return 'aa' > 'ab' and 1 or 0", 0), 1, 'it is what Redis goes by');
	$redis->command('SCRIPT', 'LOAD', $source{$_}) for @scripts;
	my ($earlier, $later) = (gen(1, 0xaa), gen(1, 0xab));
	my @published = ('{ak:test:jwks}', '{ak:test:jwks}:gen');
	is(fresh_bucket($earlier, uuid(1))->[0], 'ok', 'Danish: a writer');
	is(call('ak_publish', \@published, $earlier, 'string', '{}')->[0], 'ok', 'Danish: publishes');
	is(begin($later, uuid(1), uuid(2))->[0], 'ok', 'Danish: a later one begins');
	is(write_bucket(uuid(2), $later, [ far(uuid(1)) ], [])->[0], 'ok', 'Danish: writes');
	is(mark(uuid(2), $later, now_ms(), '1')->[0], 'ok', 'Danish: marks');
	is(call('ak_publish', \@published, $later, 'string', '{}')->[0], 'ok', 'Danish: publishes');
	is(begin($earlier, uuid(2), uuid(3))->[0], 'fenced', 'Danish: the earlier one may not begin');
	is(write_bucket(uuid(1), $earlier, [], [])->[0], 'fenced', 'Danish: nor write');
	is(mark(uuid(1), $earlier, now_ms(), '1')->[0], 'fenced', 'Danish: nor mark');
	is(call('ak_publish', \@published, $earlier, 'string', '{}')->[0], 'fenced', 'Danish: nor publish');
	$redis->stop;
}

# Losses. No reader may take what is left for the whole.
my ($gen, $epoch) = (gen(1, 1), uuid(7));
my @withdrawn = map { uuid($_) } 1 .. 100;
sub fill
{
	fresh_bucket($gen, $epoch, $redis->info('server')->{run_id});
	return write_bucket($epoch, $gen, [ far(@withdrawn) ], []);
}
for my $loss (
	[ 'FLUSHALL' => 'no_meta' ],
	[ DEL => $meta, 'no_meta' ],
	[ DEL => $rev, 'count' ],
	[ ZREM => $rev, $withdrawn[0], 'count' ],
	[ ZREMRANGEBYRANK => $rev, 50, 99, 'count' ],
	[ HDEL => $meta, 'watermark_ms', 'stale' ])
{
	my @command = @$loss;
	my $why = pop @command;
	fill();
	is(check($withdrawn[0]) . ', ' . check(uuid(5000)), 'revoked key, ok ', "before @command");
	$redis->command(@command);
	is(check(uuid(5000)), "unknown $why", "after @command");
	unlike(check($withdrawn[0]), qr/^ok/, "after @command, for a key that was withdrawn");
	next if $why eq 'stale';
	is(write_bucket($epoch, $gen, [ far(uuid(200)) ], [])->[0], 'epoch', "after @command the writer is sent to a resync");
	is(mark($epoch, $gen, now_ms(), '1')->[0], 'epoch', "after @command no watermark");
	unlike(check($withdrawn[0]), qr/^ok/, "after @command and those calls");
	is(begin($gen, '', uuid(8))->[0], 'ok', "after @command the resync begins");
	is(check(uuid(5000)), 'unknown not_ready', 'it is not ready meanwhile');
	write_bucket(uuid(8), $gen, [ far(@withdrawn) ], []);
	is(mark(uuid(8), $gen, now_ms(), '1', 1)->[0], 'ok', 'it ends');
	is(check($withdrawn[0]) . ', ' . check(uuid(5000)), 'revoked key, ok ', 'it has healed');
}

# No room: the call is refused whole, and the watermark that counts on it is, too, although both were sent at once.
fill();
$redis->command('CONFIG', 'SET', 'maxmemory', 1);
{
	my @refused = far(map { uuid(300 + $_) } 1 .. 10);
	my ($written, $marked) = $redis->pipeline(write_call($epoch, $gen, \@refused, []), mark_call($epoch, $gen, now_ms(), '', 2));
	like("$written", qr/\bOOM\b/, 'no room for a withdrawal');
	unlike(ref $marked eq 'ARRAY' ? $marked->[0] : '', qr/ok/, 'no watermark without it');
	$redis->command('CONFIG', 'SET', 'maxmemory', 0);
	is($redis->command('ZCARD', $rev), 100, 'none of it was written');
	is(mark($epoch, $gen, now_ms(), '', 2)->[0], 'epoch', 'nor is there one when there is room again');
	unlike(check(uuid(301)), qr/^ok/, 'and no reader is told that nothing is withdrawn');
}

# Another process with the data of the first, as after a crash or a fail-over.
{
	my $durable = RedisServer->start(name => 'durable', appendonly => 'yes', appendfsync => 'always');
	local $redis = $durable;
	$redis->command('SCRIPT', 'LOAD', $source{$_}) for @scripts;
	fill();
	my $run_id = $redis->info('server')->{run_id};
	is(check(uuid(5000), $run_id), 'ok ', 'the process that was filled');
	$redis->kill9;
	$redis->restart;
	$redis->command('SCRIPT', 'LOAD', $source{$_}) for @scripts;
	$run_id = $redis->info('server')->{run_id};
	is(check(uuid(5000), $run_id), 'unknown server', 'another one with the same data');
	is(check($withdrawn[0], $run_id), 'revoked key', 'which still says what was withdrawn');
	begin($gen, $epoch, uuid(9), $run_id);
	mark(uuid(9), $gen, now_ms(), '1', 0);
	is(check(uuid(5000), $run_id), 'ok ', 'after a resync');
	$redis->stop;
}

# Many at once.
fresh_bucket($gen, $epoch);
{
	my @many = map { uuid($_) } 1 .. 5500;
	is(write_bucket($epoch, $gen, [ far(@many) ], [], map { ($_, '', 1, '', 1, 'withdrawn') } @many[ 0 .. 1999 ])->[0], 'ok', '5500 members');
	is($redis->command('ZCARD', $rev) . ' ' . $redis->command('XLEN', $events), '5500 2000', 'all of them are there');
	is(write_bucket($epoch, $gen, [], \@many)->[0], 'ok', '5500 to remove');
	is($redis->command('ZCARD', $rev), 0, 'none is left');
	for my $from (0 .. 4)
	{
		write_bucket($epoch, $gen, [ map { ($_, uuid(5000 * $from + $_)) } 1 .. 5000 ], []);
	}
	is(join(' ', map { mark($epoch, $gen, '', '')->[2] } 1 .. 4), '15000 5000 0 0', '25000 whose time has passed go, 10000 at a time');
	is(check(uuid(1)), 'ok ', 'and readers are not told of a loss');
	my %roles = map { ("role$_" => "{\"n\":$_}") } 1 .. 5000;
	is_deeply(call('ak_publish', [ '{ak:test:roles}', '{ak:test:roles}:gen' ], $gen, 'hash', 5000, %roles), ['ok'], '5000 roles');
	is_deeply({ @{ $redis->command('HGETALL', '{ak:test:roles}') } }, \%roles, 'all of them are there');
}

#
# Rates. What is expected follows from the definition, not from the script's way to it.
#

my @nodes = map { sprintf('node-%d:%016x', $_ % 3, $_) } 1 .. 5;

# 1 to the limit, of any size.
sub some { my ($limit) = @_; return int(exp(rand(log($limit + 1)))); }

sub faded
{
	my ($count, $elapsed, $width) = @_;
	return Math::BigInt->new($count)->bmul($width - $elapsed)->bdiv($width)->numify;
}

# Is the same request allowed so many milliseconds later, when nobody else comes?
sub allowed_after
{
	my ($wait, $t, %r) = @_;
	my $elapsed = $t + $wait - $r{sequence} * $r{width};
	return $r{others} + _max($r{stored}, $r{own}) + faded($r{previous}, $elapsed, $r{width}) <= $r{limit} if $elapsed < $r{width};
	return $r{cost} + faded($r{others} + _max($r{stored}, $r{own} - $r{cost}), $elapsed - $r{width}, $r{width}) <= $r{limit};
}

sub _max { my ($a, $b) = @_; return $a > $b ? $a : $b; }

# What is wrong with a reply to a request at the time t; '' when nothing is.
sub rate_breach
{
	my ($reply, $t, %r) = @_;
	my ($allowed, $remaining, $reset, $retry_after, $sequence) = @$reply;
	my $this = int($t / $r{width});
	my $elapsed = $t % $r{width};
	return 'reset' if $reset != $r{width} - $elapsed;
	return 'window' if $sequence != $this;
	return $allowed == -1 ? '' : 'allowed in another window' if $this != $r{sequence};
	my $expected = allowed_after(0, $t, %r) || $r{cost} == 0 ? 1 : 0;
	return 'allowed' if $allowed != $expected;
	my $counted = $r{others} + ($allowed ? _max($r{stored}, $r{own}) : _max($r{stored}, $r{own} - $r{cost})) + faded($r{previous}, $elapsed, $r{width});
	return 'remaining' if $remaining != _max(0, $r{limit} - $counted);
	return $retry_after == -1 ? '' : 'retry_after for nothing' if $allowed || $r{cost} > $r{limit} && $r{others} + _max($r{stored}, $r{own}) > $r{limit};
	return 'retry_after' if $retry_after < 1 || !allowed_after($retry_after, $t, %r) || allowed_after($retry_after - 1, $t, %r);
	return '';
}

{
	my ($cases, %seen, @wrong) = (0);
	$redis->command('FLUSHALL');
	while ($cases < 2000)
	{
		my $width = (1000, 60_000, 3_600_000, 86_400_000, 2_678_400_000, 1 + int(rand 5_000_000))[ rand 6 ];
		my $limit = rand() < 0.2 ? 10**12 + some(10**12) : some(10**5);
		my @counts = map { rand() < 0.3 ? 0 : some($limit / 2) } 1 .. 6;
		my @previous = map { rand() < 0.3 ? 0 : some($limit / 2) } 1 .. 4;
		my $cost = rand() < 0.1 ? 0 : rand() < 0.1 ? $limit + int(rand 3) : some($limit / 4);
		my $stored = $counts[0];
		my $own = rand() < 0.8 ? $stored + $cost : $cost + some($limit / 2);
		my $sequence = int(now_ms() / $width);
		$sequence += rand() < 0.5 ? 1 : -1 if rand() < 0.05;
		my @keys = map { "{ak:test:0}:rate:subject-$cases:default.$width:$_" } $sequence, $sequence - 1;
		$redis->command('HSET', $keys[0], map { $nodes[$_] => $counts[$_] } 0 .. 4);
		$redis->command('HSET', $keys[1], map { $nodes[$_] => $previous[$_] } 0 .. 3);
		my %r = (own => $own, cost => $cost, limit => $limit, width => $width, sequence => $sequence, stored => $stored, others => 0, previous => 0);
		$r{others} += $_ for @counts[ 1 .. 4 ];
		$r{previous} += $_ for @previous;
		my ($first, $reply, $last) =
		  $redis->pipeline([ 'TIME' ], call_of('ak_rate', \@keys, $nodes[0], $own, $cost, $limit, $width, $sequence), [ 'TIME' ]);
		my @breaches = map { rate_breach($reply, $_, %r) } milliseconds($first) .. milliseconds($last);
		my $written = $redis->command('HGET', $keys[0], $nodes[0]);
		my $expected = $reply->[0] == 1 && $cost > 0 ? _max($own, $stored) : $stored;
		push @breaches, "wrote $written and not $expected" if $written != $expected;
		if ($written != $expected || !grep { $_ eq '' } @breaches)
		{
			push @wrong, "@breaches: " . join(' ', @$reply) . ' for ' . join(', ', map { "$_ $r{$_}" } sort keys %r);
		}
		$cases++;
		$seen{ $reply->[0] }++;
	}
	ok(!@wrong, "$cases random requests: $seen{1} allowed, $seen{0} denied, $seen{-1} in another window") or diag(join("\n", splice(@wrong, 0, 10)));
	ok($seen{1} > 300 && $seen{0} > 300 && $seen{-1} > 30, 'enough of each');
}

# Several nodes, one limit: requests one after another, some of them sent twice, let exactly the limit through.
{
	my $width = 10**15;
	my @keys = map { "{ak:test:0}:rate:together:default.$width:$_" } 0, -1;
	my (%own, %answers);
	for my $request (1 .. 300)
	{
		my $node = $nodes[ rand 3 ];
		my @request = ('ak_rate', \@keys, $node, ($own{$node} // 0) + 1, 1, 200, $width, 0);
		my ($answer) = @{ call(@request) };
		($answer) = @{ call(@request) } if rand() < 0.3;
		$own{$node}++ if $answer == 1;
		$answers{$answer}++;
	}
	is_deeply(\%answers, { 1 => 200, 0 => 100 }, 'three nodes share a limit of 200, and repeat themselves');
	my %stored = @{ $redis->command('HGETALL', $keys[0]) };
	is_deeply(\%stored, \%own, 'each has counted what it let through');
}

sub sorted { my ($counts) = @_; return join(' ', map { "$_=$counts->{$_}" } sort keys %$counts); }

# Counts that are merged in any order, any number of times, come out the same.
{
	my @wrong;
	for my $round (1 .. 50)
	{
		my @calls = map { [ $nodes[ rand @nodes ], int(rand 5) * int(rand 100), int(rand 5) * int(rand 100) ] } 1 .. 12;
		my @results;
		for my $order (1 .. 3)
		{
			my @sent = sort { rand() <=> 0.5 } @calls, $order == 1 ? () : @calls[ map { rand @calls } 1 .. 6 ];
			my @keys = map { "{ak:test:0}:rate:merge-$round-$order:default.60000:$_" } 2, 1;
			my @before;
			for my $call (@sent)
			{
				call('ak_merge', \@keys, @$call, 60_000);
				my @now = map { { @{ $redis->command('HGETALL', $_) } } } @keys;
				for my $i (0 .. 1)
				{
					push @wrong, "round $round: lowered" if grep { ($now[$i]{$_} // 0) < $before[$i]{$_} } keys %{ $before[$i] // {} };
				}
				@before = @now;
			}
			push @results, join(' / ', map { sorted($_) } @before);
		}
		my @expected = ({}, {});
		for my $call (@calls)
		{
			my ($field, @counts) = @$call;
			for my $i (0 .. 1)
			{
				$expected[$i]{$field} = $counts[$i] if $counts[$i] > ($expected[$i]{$field} // 0);
			}
		}
		my $expected = join(' / ', map { sorted($_) } @expected);
		push @wrong, map { "round $round: $_ and not $expected" } grep { $_ ne $expected } @results;
	}
	is("@wrong", '', 'merged in any order and more than once');
}

#
# The users of docs/redis-contract.md can do what they have to, and no more.
#

{
	my @lines = contents("$top/docs/redis-contract.md") =~ /^ *ACL SETUSER (.*)$/mg;
	my %user = map { /^(\S+) (.*)$/ } @lines;
	is(join(' ', sort keys %user), 'apikey-counter apikey-mirror apikey-reader', 'the lines of the documentation');
	for my $name (keys %user)
	{
		$redis->command('ACL', 'SETUSER', $name, split(' ', $user{$name} =~ s/>\S+/>secret/r));
	}
	my %as = map { $_ => $redis->connect(user => $_, password => 'secret') } keys %user;
	my $refused = sub {
		my ($name, @command) = @_;
		my ($reply) = $as{$name}->pipeline(\@command);
		return "$reply" =~ /\bNOPERM\b|can't (?:run this command|access at least one of the keys)|No permissions/i ? 1 : 0;
	};
	my %name_of = reverse %sha;
	my $short = sub { my (@command) = @_; return join(' ', map { $name_of{$_} // (/\n/ ? 'a script' : $_) } grep { defined } @command[ 0, 1 ]); };
	fresh_bucket($gen, $epoch);
	my $width = 10**15;
	my @rate = map { "{ak:test:0}:rate:acl:default.$width:$_" } 0, -1;
	my @check = ($sha{ak_check}, 2, @bucket, uuid(1), 1, 3_600_000);

	# The mirror: every script, both ways to send it, and what it asks of a server.
	for my $command (
		call_of('ak_begin', \@bucket, $gen, $epoch, uuid(20), 'f' x 40),
		write_call(uuid(20), $gen, [ 1, uuid(1), 9_999_999_999, uuid(2) ], [ uuid(3) ], uuid(1), '', 1, '', 1, 'withdrawn'),
		mark_call(uuid(20), $gen, now_ms(), '1', 1),
		call_of('ak_merge', \@rate, $nodes[1], 3, 4, 60_000),
		call_of('ak_publish', [ '{ak:test:jwks}', '{ak:test:jwks}:gen' ], $gen, 'string', '{}'),
		call_of('ak_publish', [ '{ak:test:roles}', '{ak:test:roles}:gen' ], $gen, 'hash', 1, 'basic', '{}'),
		[ 'EVALSHA', @check ],
		[ 'SCRIPT', 'LOAD', $source{ak_mark} ],
		[ 'SCRIPT', 'EXISTS', $sha{ak_mark} ],
		(map { [ split ' ' ] } 'PING', 'ROLE', 'INFO', 'INFO server', 'SELECT 0', "DEL $meta", "ZRANGE $rev 0 -1", "ZCARD $rev", "HGETALL $meta"))
	{
		my ($reply) = $as{'apikey-mirror'}->pipeline($command);
		ok(ref $reply ne 'RedisServer::Error', 'apikey-mirror: ' . $short->(@$command)) or diag("$reply");
	}
	write_bucket(uuid(21), $gen, [], []) if begin($gen, '', uuid(21))->[0] eq 'ok';
	mark(uuid(21), $gen, now_ms(), '1');
	my %may = (
		'apikey-reader' => [
			[ 'EVALSHA', @check ], [ 'EVALSHA_RO', @check ],
			(map { [ split ' ' ] } 'GET {ak:test:jwks}', 'HGETALL {ak:test:roles}', 'HGET {ak:test:roles} basic',
				"HGET $meta epoch", "HGETALL $meta", "XRANGE $events - +", "XREAD COUNT 10 STREAMS $events 0-0", "ZSCORE $rev " . uuid(1)) ],
		'apikey-counter' => [
			call_of('ak_rate', \@rate, $nodes[0], 1, 1, 100, $width, 0, 5), call_of('ak_merge', \@rate, $nodes[0], 2, 4, 60_000), [ 'HGET', $rate[0], $nodes[0] ] ]);
	my $undeclared = "return redis.call('HSET', '$meta', 'ready', '1')";
	my $load = $redis->command('SCRIPT', 'LOAD', $undeclared);
	for my $name (sort keys %may)
	{
		for my $command (@{ $may{$name} }, [ 'PING' ], [ 'INFO', 'server' ])
		{
			my ($reply) = $as{$name}->pipeline($command);
			ok(ref $reply ne 'RedisServer::Error', "$name: " . $short->(@$command)) or diag("$reply");
		}
		for my $command (
			"DEL $rev", "ZREM $rev x", "ZADD $rev 1 x", "DEL $meta", "HSET $meta ready 1", 'SET {ak:test:jwks} x', 'HSET {ak:test:roles} basic {}',
			"XADD $events * a b", "DEL $rate[0]", "HDEL $rate[0] $nodes[0]")
		{
			ok($refused->($name, split ' ', $command), "$name may not: $command");
		}
		# What a script does is allowed or not by the same rules, whoever loaded it. Nobody but the worker loads any.
		ok($refused->($name, @$_), "$name may not: " . $short->(@$_))
		  for mark_call(uuid(21), $gen, now_ms(), '0'), write_call(uuid(21), $gen, [ 1, uuid(1) ], []), [ 'EVALSHA', $load, 0 ],
		  [ 'EVAL', 'return 1', 0 ], [ 'EVAL_RO', 'return 1', 0 ], [ 'SCRIPT', 'LOAD', 'return 1' ], [ 'FUNCTION', 'LOAD', 'x' ];
	}
	ok($refused->('apikey-reader', 'HSET', $rate[0], 'x', 1), 'apikey-reader may not: count');
	ok($refused->('apikey-reader', @{ call_of('ak_merge', \@rate, $nodes[0], 3, 4, 60_000) }), 'apikey-reader may not: ak_merge');
	ok($refused->('apikey-counter', 'EVALSHA', @check), 'apikey-counter may not: ak_check');
	ok($refused->('apikey-counter', split ' ', $_), "apikey-counter may not: $_") for "HGETALL $meta", 'GET {ak:test:jwks}', "ZSCORE $rev x";
	for my $name (sort keys %as)
	{
		for my $command ('FLUSHALL', 'FLUSHDB', 'KEYS *', 'SCAN 0', 'CONFIG GET maxmemory', 'CONFIG SET maxmemory 0', 'ACL LIST', 'SHUTDOWN NOSAVE',
			'MONITOR', 'GET elsewhere', 'SET elsewhere x', 'SCRIPT FLUSH', 'FUNCTION LIST', 'CLIENT LIST', 'REPLICAOF NO ONE',
			'SAVE', 'PUBLISH channel x', 'SUBSCRIBE channel')
		{
			ok($refused->($name, split ' ', $command), "$name may not: $command");
		}
	}
}

done_testing();
