# What the TAP tests of the mirror share: its state, what should be in Redis, and what is.
package RedisMirror;

use strict;
use warnings FATAL => 'all';

use ApikeyTest;
use Exporter 'import';
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(mirror mirror_phase await_phase resyncs mirror_pid namespace_of bucket_tags set_redis members_in withdrawals_of differences
  await_complete is_complete add_keys seconds check_in_redis);

my $scripts;

# The mirror as status() shows it: ( state, problem, connects, ... ).
sub mirror
{
	my ($where, %options) = @_;
	my %status = row($where, "SELECT state, detail FROM apikey.status() WHERE component = 'mirror'", %options);
	return (%{ $status{detail} }, state => $status{state});
}

sub mirror_phase
{
	my ($where, %options) = @_;
	return value($where, "SELECT state FROM apikey.status() WHERE component = 'mirror'", %options);
}

# Waits for a state of the mirror; what it was at last is in the failure.
sub await_phase
{
	my ($where, $state, $what, %options) = @_;
	my %last;
	my $reached = eval {
		wait_until(sub { %last = mirror($where, %options); $last{state} eq $state }, "the mirror is $state");
	};
	return ok($reached, $what) || diag(join(', ', map { "$_: $last{$_}" } sort keys %last));
}

# How often everything was sent anew.
sub resyncs
{
	my %mirror = mirror(@_);
	my $sum = 0;
	$sum += $mirror{$_} for grep { /^resyncs_/ } keys %mirror;
	return $sum;
}

# '' while there is none.
sub mirror_pid
{
	my ($where, $database) = @_;
	$database //= 'postgres';
	return value($where, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey mirror' AND datname = '$database'");
}

# The namespace that is used where none is set.
sub namespace_of
{
	my ($where) = @_;
	return value($where, "SELECT (SELECT system_identifier FROM pg_control_system()) || '-' || oid FROM pg_database WHERE datname = 'postgres'");
}

sub bucket_tags
{
	my ($namespace) = @_;
	return map { sprintf('{ak:%s:%x}', $namespace, $_) } 0 .. 15;
}

# Another apikey.redis_url, by reload.
sub set_redis
{
	my ($node, $url) = @_;
	value($node, 'ALTER SYSTEM SET apikey.redis_url = ' . literal($url));
	value($node, 'SELECT pg_reload_conf()');
	return;
}

# For each key the reply of the server that has it: of a cluster, not all do.
sub _of_owner
{
	my ($servers, @commands) = @_;
	my @replies;
	for my $server (@$servers)
	{
		my @answers = $server->pipeline(@commands);
		for my $i (0 .. $#answers)
		{
			$replies[$i] //= $answers[$i] unless ref $answers[$i] eq 'RedisServer::Error';
		}
	}
	return @replies;
}

# All members of rev, in all buckets: hash of member => score. Several servers: the masters of a cluster.
sub members_in
{
	my ($namespace, @servers) = @_;
	my %members;
	for my $page (_of_owner(\@servers, map { [ 'ZRANGE', "$_:rev", 0, -1, 'WITHSCORES' ] } bucket_tags($namespace)))
	{
		die 'no server has a bucket' unless defined $page;
		my %scores = @$page;
		@members{ keys %scores } = values %scores;
	}
	return %members;
}

# What should be in Redis: hash of member => score.
sub withdrawals_of
{
	my ($where) = @_;
	my $lines = value($where, <<~'SQL');
		SELECT CASE kind WHEN 'changed' THEN 'changed:' ELSE '' END || key_id || coalesce('.' || generation, '') || ' '
		    || floor(extract(epoch FROM until + interval '60 s'))::bigint
		  FROM apikey.revocation
		 WHERE (effective_at <= clock_timestamp() OR generation IS NULL OR kind = 'changed') AND until + interval '60 s' > clock_timestamp()
		SQL
	return map { split(/ /) } split(/\n/, $lines);
}

# ( what Redis lacks, what it has without reason ), members each; a member with another score is in both.
sub differences
{
	my ($should, $is) = @_;
	my @missing = grep { !exists $is->{$_} || abs($is->{$_} - $should->{$_}) > 1 } keys %$should;
	my @surplus = grep { !exists $should->{$_} || abs($is->{$_} - $should->{$_}) > 1 } keys %$is;
	return (\@missing, \@surplus);
}

# Waits until Redis has what it should, and every bucket says that it is ready. Returns what is missing and what there is too much, both
# empty unless the time is up.
sub await_complete
{
	my ($where, $namespace, @servers) = @_;
	my ($missing, $surplus, @ready) = ([], []);
	eval {
		wait_until(
			sub {
				my %should = withdrawals_of($where);
				my %is = eval { members_in($namespace, @servers) };
				($missing, $surplus) = differences(\%should, \%is);
				@ready = eval { _of_owner(\@servers, map { [ 'HGET', "$_:meta", 'ready' ] } bucket_tags($namespace)) };
				return !@$missing && !@$surplus && 16 == grep { ($_ // '') eq '1' } @ready;
			},
			'Redis is complete');
	};
	return ($missing, $surplus, 16 - grep { ($_ // '') eq '1' } @ready);
}

sub is_complete
{
	my ($what, @where) = @_;
	my ($missing, $surplus, $unready) = await_complete(@where);
	return is_deeply([ scalar(@$missing), scalar(@$surplus), $unready ], [ 0, 0, 0 ], "$what: everything is in Redis, and nothing else")
	  || diag("missing: @$missing[0 .. ($#$missing > 3 ? 3 : $#$missing)]");
}

# Keys that differ from one that was issued in nothing but the id and the name; their ids. For speed.
sub add_keys
{
	my ($where, $count, $name, %options) = @_;
	my %model = issue($where, name => "$name model", format => 'opaque', %options);
	my $ids = value($where, <<~"SQL", %options);
		INSERT INTO apikey.key SELECT (jsonb_populate_record(k, jsonb_build_object('key_id', gen_random_uuid(), 'name', '$name'))).*
		  FROM apikey.key k, generate_series(1, $count) WHERE k.key_id = '$model{key_id}' RETURNING key_id
		SQL
	return split(/\n/, $ids);
}

# How long something takes.
sub seconds
{
	my ($code) = @_;
	my $start = Time::HiRes::time();
	$code->();
	return Time::HiRes::time() - $start;
}

# What a node is told of a key: verdict and reason, of ak_check. With the run id of the server that it talks to, or ''.
sub check_in_redis
{
	my ($where, $namespace, $id, $run_id, @servers) = @_;
	$scripts->{ak_check} //= slurp_file("$FindBin::RealBin/../../src/lua/ak_check.lua");
	my $bucket = (bucket_tags($namespace))[ value($where, "SELECT apikey.redis_bucket('$id')") ];
	my ($reply) = _of_owner(\@servers, [ 'EVAL', $scripts->{ak_check}, 2, "$bucket:rev", "$bucket:meta", $id, 1, 5000, $run_id ]);
	return join(' ', grep { length } @{$reply}[ 0, 2 ]);
}

1;
