# Sequence numbers are taken before the commit: who reads on from the last number that he has seen misses what commits late. The mirror
# keeps no position. Beside it a relay that does keep one, to show that the load here is one under which that matters.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use FaultProxy;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;

my ($writers, $transactions, $keys_each, $toggled) = (64, 44, 10, 200);

my $redis = RedisServer->start;
my $node = new_cluster('visibility',
	conf => "fsync = off\nmax_connections = 100\napikey.redis_url = 'unix://" . $redis->socket_path . "'\n");
my $mirror = MirrorTest->new($node, $redis, lasting => 0);
$mirror->becomes('ready', 'the mirror is ready');

# Keys to revoke, ten in each transaction, and some that are disabled and enabled again and again.
my $keys = $writers * $transactions * $keys_each;
$mirror->make_keys('to_revoke', $keys + 1);
$mirror->make_keys('to_toggle', $toggled);
value($node, <<~'SQL');
	CREATE TABLE public.to_revoke AS SELECT row_number() OVER (ORDER BY key_id) - 1 AS n, key_id FROM apikey.key WHERE owner = 'to_revoke';
	CREATE TABLE public.to_toggle AS SELECT row_number() OVER (ORDER BY key_id) - 1 AS n, key_id FROM apikey.key WHERE owner = 'to_toggle';
	ALTER TABLE public.to_revoke ADD PRIMARY KEY (n);
	ALTER TABLE public.to_toggle ADD PRIMARY KEY (n);
	ANALYZE public.to_revoke, public.to_toggle;
	CREATE SEQUENCE public.turn MINVALUE 0;
	SQL

# What the relay reads: copies of the outbox that nobody deletes.
value($node, <<~'SQL');
	CREATE TABLE public.copy (id bigint PRIMARY KEY, key_id uuid);
	CREATE FUNCTION public.copy() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	    INSERT INTO public.copy VALUES (NEW.id, NEW.key_id);
	    RETURN NULL;
	END $$;
	CREATE TRIGGER copy AFTER INSERT ON apikey.outbox FOR EACH ROW EXECUTE FUNCTION public.copy();
	SQL

my $directory = PostgreSQL::Test::Utils::tempdir();
my $ending = <<~'SCRIPT';
	\sleep :delay ms
	\if :gives_up
	ROLLBACK;
	\else
	COMMIT;
	\endif
	SCRIPT
my $beginning = "\\set delay random(0, 60)\n\\set gives_up random(1, 100) <= 20\nBEGIN;\n";
write_file("$directory/revoke.sql", <<"SCRIPT", 0644);
\\set function random(0, 1)
${beginning}SELECT nextval('public.turn') * $keys_each AS first \\gset
\\if :function
SELECT count(apikey.revoke(key_id::text, 'KEY_COMPROMISE')) FROM public.to_revoke WHERE n >= :first AND n < :first + $keys_each;
\\else
UPDATE apikey.key SET state = 'revoked' WHERE key_id IN (SELECT key_id FROM public.to_revoke WHERE n >= :first AND n < :first + $keys_each);
\\endif
$ending
SCRIPT
write_file("$directory/toggle.sql", <<"SCRIPT", 0644);
\\set chosen random(0, @{[ $toggled - 1 ]})
${beginning}UPDATE apikey.key SET state = CASE state WHEN 'active' THEN 'disabled' ELSE 'active' END
 WHERE key_id = (SELECT key_id FROM public.to_toggle WHERE n = :chosen);
$ending
SCRIPT

# One that revokes and looks into Redis: what wait_mirrored() and the watermark promise must be so at that moment.
my @probes = $mirror->make_keys('probe', 400);
my ($prober, $relay) = map { session($node) } 1 .. 2;
my $look = $redis->command('SCRIPT', 'LOAD',
	"local t = redis.call('TIME') return {redis.call('ZSCORE', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], 'watermark_ms'), t[1] * 1000 + math.floor(t[2] / 1000)}");
my %probe = (awaited => 0, absent_although_awaited => 0, passed => 0, absent_although_passed => 0);
my @tags = $mirror->names;

sub look_for
{
	my ($id, $bucket) = @_;
	return @{ $redis->command('EVALSHA', $look, 2, "$tags[$bucket]:rev", "$tags[$bucket]:meta", $id) };
}

sub probe
{
	my $id = shift @probes // return;
	my ($receipt, $bucket) = split(/\|/, value($prober, "SELECT receipt, apikey.redis_bucket(key_id) FROM apikey.revoke('$id')"));
	my (undef, undef, $committed_ms) = look_for($id, $bucket);
	# Every other one by the watermark in Redis.
	if (@probes % 2)
	{
		die 'it is not mirrored' if value($prober, "SELECT apikey.wait_mirrored('$receipt', '1 minute')") ne 't';
		$probe{awaited}++;
		$probe{absent_although_awaited}++ unless defined((look_for($id, $bucket))[0]);
		return;
	}
	my ($score, $watermark_ms);
	wait_until(sub { ($score, $watermark_ms) = look_for($id, $bucket); ($watermark_ms // 0) > $committed_ms }, 'the watermark passes a commit');
	$probe{passed}++;
	$probe{absent_although_passed}++ unless defined $score;
	return;
}

my $last = 0;
value($node, 'CREATE TABLE public.relayed (id bigint PRIMARY KEY)');
sub relay
{
	$last = value($relay,
		"WITH new AS (INSERT INTO public.relayed SELECT id FROM public.copy WHERE id > $last RETURNING id) SELECT coalesce(max(id), $last) FROM new");
	return;
}

my ($output, $errors) = ('', '');
my $load = IPC::Run::start(
	[ 'pgbench', '--no-vacuum', '--client', $writers, '--jobs', 2, '--transactions', int($transactions * 1.25), '--file', "$directory/revoke.sql\@4",
		'--file', "$directory/toggle.sql\@1", '--log', '--log-prefix', "$directory/transactions", '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \$output, '2>', \$errors);
my ($polls, $took) = (0, 0);
$took = seconds(
	sub {
		while ($load->pumpable)
		{
			$load->pump_nb;
			relay();
			$polls++;
			probe() unless $polls % 3;
		}
		$load->finish;
	});
is($?, 0, 'the writers are done') || diag($errors);
unlike($errors, qr/aborted/, 'none of them failed');
relay();

$mirror->is_complete('after all writers');
my $should = $mirror->expected;
my $rows = value($node, 'SELECT count(*) FROM apikey.revocation');
is(scalar(keys %$should), $rows, 'every row of revocation is one that should be in Redis');
cmp_ok($rows, '>=', 18_000, 'there were enough of them');
my $is = $mirror->members;
my $left = value($node, "SELECT count(*) FROM apikey.key WHERE owner = 'to_revoke' AND state = 'active'");
cmp_ok($left, '>', 1000, 'and enough that were rolled back');
my @active = split(/\n/, value($node, "SELECT key_id FROM apikey.key WHERE state = 'active'"));
is(scalar(grep { exists $is->{$_} } @active), 0, 'none of the keys that are active is in Redis');
my ($missing) = $mirror->differences;
is(scalar(@$missing), 0, 'the worker misses none');
is(value($node, 'SELECT count(*) FROM apikey.outbox'), '0', 'and the outbox is empty');

my $copied = value($node, 'SELECT count(*) FROM public.copy');
my $missed = value($node, 'SELECT count(*) FROM public.copy c WHERE NOT EXISTS (SELECT FROM public.relayed r WHERE r.id = c.id)');
cmp_ok($missed, '>=', 1, 'who reads on from the last id misses rows');

cmp_ok($probe{awaited}, '>=', 5, 'wait_mirrored() was asked while the writers wrote');
is($probe{absent_although_awaited}, 0, 'wait_mirrored(): what it says is there is there');
cmp_ok($probe{passed}, '>=', 5, 'the watermark was looked at while the writers wrote');
is($probe{absent_although_passed}, 0, 'the watermark: what was committed before it is there');
is($mirror->resyncs, 1, 'all of that without sending everything anew');

my $longest_us = 0;
for my $line (map { split(/\n/, slurp_file($_)) } glob("$directory/transactions*"))
{
	my $us = (split(/ /, $line))[2];
	$longest_us = $us if $us > $longest_us;
}

# Transactions that take longer than anybody may expect, over a slow line: what they commit was written long ago, and is not there yet. That
# must not look as if Redis had lost it.
my $proxy = FaultProxy->start(to => $redis->socket_path);
$proxy->set('latency 100');
write_file("$directory/slow.sql", <<'SCRIPT', 0644);
\set delay random(5200, 9000)
BEGIN;
SELECT nextval('public.slow_turn') AS turn \gset
SELECT count(apikey.revoke(key_id::text)) FROM public.slow WHERE n = :turn;
\sleep :delay ms
COMMIT;
SCRIPT
$mirror->make_keys('slow', 500);
value($node, <<~'SQL');
	CREATE TABLE public.slow AS SELECT row_number() OVER () AS n, key_id FROM apikey.key WHERE owner = 'slow';
	CREATE SEQUENCE public.slow_turn;
	SQL
my $slow = IPC::Run::start(
	[ 'pgbench', '--no-vacuum', '--client', $writers, '--jobs', 2, '--transactions', 4, '--file', "$directory/slow.sql", '-h', $node->host, '-p', $node->port,
		'postgres' ], '>', \$output, '2>', \$errors);
wait_until(sub { value($node, "SELECT count(*) > 10 FROM apikey.key WHERE owner = 'slow' AND state = 'revoked'") eq 't' }, 'the first have committed');
# Members are counted ten seconds after Redis was filled, and again when that is due or seems to be.
$mirror->set_url('redis://' . $proxy->address);
wait_until(sub { $mirror->resyncs == 2 && $mirror->state eq 'ready' }, 'the mirror takes the slow line');
$slow->finish;
is($?, 0, 'the slow writers are done') || diag($errors);
$mirror->is_complete('after those');
is($mirror->resyncs, 2, 'what was committed late does not look lost');

# Written by a server whose clock is ahead, a publisher or the primary before this one. What is withdrawn is so at once; only the end of a
# grace is in the future.
$mirror->set_url('unix://' . $redis->socket_path);
$mirror->becomes('ready', 'directly again');
my ($ahead, $changed, $refreshed) = map { my %key = issue($node, name => $_, ttl => '1 hour'); \%key } qw(ahead changed refreshed);
value($node, <<~"SQL");
	INSERT INTO apikey.revocation (key_id, generation, kind, effective_at, until)
	    VALUES ('$ahead->{key_id}', NULL, 'withdrawn', clock_timestamp() + interval '10 minutes', '$ahead->{expires_at}'),
	           ('$changed->{key_id}', 1, 'changed', clock_timestamp() + interval '10 minutes', '$changed->{expires_at}')
	SQL
refresh($node, $refreshed->{token});
for my $when ('at once', 'when everything is sent anew')
{
	$mirror->is_complete("a clock that is ahead, $when");
	my $there = $mirror->members;
	is_deeply([ map { exists $there->{$_} || 0 } $ahead->{key_id}, "changed:$changed->{key_id}.1", "$refreshed->{key_id}.1" ], [ 1, 1, 0 ],
		"a clock that is ahead, $when: what is withdrawn or changed is there, and no generation whose grace goes on");
	my $resyncs = $mirror->resyncs;
	value($node, 'SELECT apikey.mirror_resync()');
	wait_until(sub { $mirror->resyncs > $resyncs && $mirror->state eq 'ready' }, 'everything is sent anew');
}

note("writers: $writers");
note(sprintf('longest_transaction_seconds: %.2f', $longest_us / 1e6));
note(sprintf('seconds: %.1f', $took));
note("rows_of_revocation: $rows");
note("members_in_redis: " . keys %$is);
note("missed_by_worker: " . @$missing);
note("rows_of_outbox: $copied");
note("missed_by_cursor: $missed");
note("polls_of_cursor: $polls");
note("probes_awaited: $probe{awaited}");
note("probes_of_watermark: $probe{passed}");

$node->stop;
done_testing();
