# What the tests of the mirror share: Redis as a node sees it, and what it should hold, computed from the tables.
#
#   my $mirror = MirrorTest->new($node, $redis);
#   $mirror->await_ready; $mirror->settle;
#   is($mirror->check($key_id, 1), 'revoked key');
#
# $redis is a RedisServer, or an array of them, the masters of a cluster. Options:
#   database => 'postgres'
#   namespace => '...'     where it is not the default one
#   lasting => 0           a connection for each query, for servers that stop
package MirrorTest;

use strict;
use warnings FATAL => 'all';

use ApikeyTest;
use Cwd ();
use Digest::SHA ();
use FindBin;
use JSON::PP ();
use RedisServer qw(wait_until);
use Scalar::Util ();
use Test::More;
use Time::HiRes ();

my @buckets = map { sprintf('%x', $_) } 0 .. 15;

sub new
{
	my ($class, $node, $redis, %options) = @_;
	my $self = bless { node => $node, redis => $redis, database => 'postgres', lasting => 1, %options }, $class;
	$self->{namespace} //= value($node, 'SELECT s.system_identifier || \'-\' || d.oid FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()',
		database => $self->{database});
	return $self;
}

# A session of the database, which lasts.
sub sql
{
	my ($self) = @_;
	return $self->{node} unless $self->{lasting};
	$self->{session} //= session($self->{node}, database => $self->{database});
	return $self->{session};
}

# Before the server ends.
sub leave
{
	my ($self) = @_;
	my $session = delete $self->{session} // return;
	eval { $session->quit };
	return;
}

#
# Redis as a node sees it
#

sub bucket { return substr(Digest::SHA::sha256_hex($_[0]), 0, 1); }

# Of the key's bucket: name($key_id, 'rev'). name_in('a', 'rev') and name_in('jwks')
sub name { my ($self, $key_id, $what) = @_; return $self->name_in(bucket($key_id), $what); }
sub name_in { my ($self, $bucket, $what) = @_; return "{ak:$self->{namespace}:$bucket}" . (defined $what ? ":$what" : ''); }
# Of each bucket: names('rev')
sub names { my ($self, $what) = @_; return map { $self->name_in($_, $what) } @buckets; }

# The replies to commands of one key each. In a cluster, each is of the server that has the key.
sub _replies
{
	my ($self, @commands) = @_;
	my $redis = $self->{redis};
	my @replies;
	for my $server (ref $redis eq 'ARRAY' ? @$redis : $redis)
	{
		my @answers = $server->pipeline(@commands);
		for my $i (0 .. $#answers)
		{
			$replies[$i] = $answers[$i] if !defined $replies[$i] || Scalar::Util::blessed($replies[$i]);
		}
	}
	Scalar::Util::blessed($_) and die $_ for @replies;
	return @replies;
}

my $source;

sub _check_arguments
{
	my ($self, $key_id, $generation, $staleness, @run_id) = @_;
	if (!defined $source)
	{
		my $path = "$FindBin::RealBin/../../src/lua/ak_check.lua";
		open(my $file, '<', $path) or die "could not open $path: $!";
		local $/ = undef;
		$source = <$file>;
	}
	return ('EVAL', $source, 2, $self->name($key_id, 'rev'), $self->name($key_id, 'meta'), $key_id, $generation, $staleness // 60_000, @run_id);
}

# What ak_check says: 'ok', 'revoked key', 'unknown not_ready' ... ; check($key_id, $generation [, $max_staleness_ms [, $run_id]])
sub check
{
	my ($self, @arguments) = @_;
	return ($self->checks(\@arguments))[0];
}

# The same of many keys, [ key_id, generation [, ...] ] each, in one go.
sub checks
{
	my ($self, @keys) = @_;
	return map { join(' ', grep { $_ ne '' } $_->[0], $_->[2]) } $self->_replies(map { [ $self->_check_arguments(@$_) ] } @keys);
}

# Waits until that is what it says.
sub await_check
{
	my ($self, $expected, @arguments) = @_;
	my $found = '';
	eval { wait_until(sub { ($found = $self->check(@arguments)) eq $expected }, $expected) };
	return $found;
}

# Milliseconds by the clock of Redis.
sub now_ms
{
	my ($self) = @_;
	my $time = $self->{redis}->command('TIME');
	return $time->[0] * 1000 + int($time->[1] / 1000);
}

# Everything that Redis says is withdrawn or changed: member => score.
sub members
{
	my ($self) = @_;
	return { map { @$_ } $self->_replies(map { [ 'ZRANGE', $_, 0, -1, 'WITHSCORES' ] } $self->names('rev')) };
}

# The meta hash of each bucket.
sub metas
{
	my ($self) = @_;
	return map { +{@$_} } $self->_replies(map { [ 'HGETALL', $_ ] } $self->names('meta'));
}

# Does every bucket say that it is ready, with a watermark?
sub is_ready
{
	my ($self) = @_;
	return !grep { ($_->{ready} // '') ne '1' || !$_->{watermark_ms} } $self->metas;
}

# Of one key, in order: a hash each.
sub events
{
	my ($self, $key_id) = @_;
	my @events = map { +{ @{ $_->[1] } } } @{ $self->{redis}->command('XRANGE', $self->name($key_id, 'ev'), '-', '+') };
	return grep { $_->{key_id} eq $key_id } @events;
}

#
# PostgreSQL
#

sub state
{
	my ($self) = @_;
	return value($self->sql, "SELECT state FROM apikey.status() WHERE component = 'mirror'");
}

# '' while there is no worker.
sub pid
{
	my ($self) = @_;
	return value($self->sql, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey mirror' AND datname = '$self->{database}'");
}

# Another apikey.redis_url, by reload.
sub set_url
{
	my ($self, $url) = @_;
	value($self->sql, 'ALTER SYSTEM SET apikey.redis_url = ' . literal($url));
	value($self->sql, 'SELECT pg_reload_conf()');
	return;
}

# So many active keys of an owner: copies of one, which share its hash. Returns their ids.
sub make_keys
{
	my ($self, $owner, $number) = @_;
	$self->{template} //= +{ issue($self->sql, owner => 'template', ttl => '7 days') }->{key_id};
	# Not in the session that lasts: callers may be about to end it.
	my %there = (database => $self->{database});
	value($self->{node}, <<SQL, %there);
INSERT INTO apikey.key SELECT (jsonb_populate_record(k, jsonb_build_object('key_id', apikey.uuid_v7(), 'owner', '$owner'))).*
  FROM apikey.key k, generate_series(1, $number) WHERE k.key_id = '$self->{template}'
SQL
	return split(/\n/, value($self->{node}, "SELECT key_id FROM apikey.key WHERE owner = '$owner' ORDER BY key_id", %there));
}

# Its detail, decoded.
sub detail
{
	my ($self) = @_;
	return JSON::PP::decode_json(value($self->sql, "SELECT detail FROM apikey.status() WHERE component = 'mirror'"));
}

# The same, and the state.
sub status
{
	my ($self) = @_;
	my %row = row($self->sql, "SELECT state, detail FROM apikey.status() WHERE component = 'mirror'");
	return { %{ $row{detail} }, state => $row{state} };
}

# How often everything was sent anew, by cause; or, given a cause, how often for that.
sub resyncs
{
	my ($self, $cause) = @_;
	my $detail = $self->detail;
	return $detail->{"resyncs_$cause"} // 0 if defined $cause;
	my $sum = 0;
	$sum += $detail->{$_} for grep { /^resyncs_/ } keys %$detail;
	return $sum;
}

sub await_state
{
	my ($self, $expected) = @_;
	my $found = '';
	eval { wait_until(sub { ($found = $self->state) eq $expected }, "state $expected") };
	return $found;
}

# A test: it comes to be in that state.
sub becomes
{
	my ($self, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $last = {};
	eval { wait_until(sub { $last = $self->status; $last->{state} eq $expected }, "state $expected") };
	return is($last->{state}, $expected, $what) || diag(join(', ', map { "$_: $last->{$_}" } sort keys %$last));
}

# Redis is complete and says so.
sub await_ready
{
	my ($self) = @_;
	wait_until(sub { return $self->state eq 'ready' && $self->is_ready; }, 'the mirror is ready');
	return 1;
}

# Everything that has been committed so far is in Redis.
sub settle
{
	my ($self) = @_;
	my $receipt = value($self->sql, 'SELECT pg_current_xact_id()');
	my $there = value($self->sql, "SELECT apikey.wait_mirrored('$receipt', '$RedisServer::timeout s')");
	die 'the mirror does not get there' if $there ne 't';
	return;
}

# Members and scores that Redis should have, from the tables. Not those that come or go just now.
sub expected
{
	my ($self) = @_;
	my $json = value($self->sql, <<'SQL');
SELECT coalesce(jsonb_object_agg(CASE r.kind WHEN 'changed' THEN 'changed:' ELSE '' END || r.key_id || coalesce('.' || r.generation, ''),
                                 floor(extract(epoch FROM r.until)) + 60), '{}')
  FROM apikey.revocation r
 WHERE (r.effective_at <= clock_timestamp() OR r.generation IS NULL OR r.kind = 'changed') AND r.until + interval '60 s' > clock_timestamp()
SQL
	return JSON::PP::decode_json($json);
}

# What Redis lacks, has without reason, or has with another score: three arrays of members, in their order.
sub differences
{
	my ($self) = @_;
	my ($expected, $found) = ($self->expected, $self->members);
	my @missing = grep { !exists $found->{$_} } sort keys %$expected;
	my @more = grep { !exists $expected->{$_} } sort keys %$found;
	my @other = grep { exists $found->{$_} && $found->{$_} != $expected->{$_} } sort keys %$expected;
	return (\@missing, \@more, \@other);
}

sub _described
{
	my @differences = @_;
	my @kinds = ('missing', 'more', 'with another score');
	return map { "$kinds[$_]: " . join(' ', grep { defined } @{ $differences[$_] }[ 0 .. 4 ]) . "\n" } grep { @{ $differences[$_] } } 0 .. $#differences;
}

# A test: Redis has now what the tables say, no more and no less, since everything that has been committed is said to be there.
sub is_exact
{
	my ($self, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->settle;
	my @differences = $self->differences;
	return ok(!(grep { @$_ } @differences), "$what: Redis has what the tables say") || diag(_described(@differences));
}

# A test: Redis comes to have that, and every bucket is ready. For a Redis that may not be there for a while.
sub is_complete
{
	my ($self, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @differences;
	my $look = sub
	{
		@differences = eval { $self->differences } or return 0;
		return !(grep { @$_ } @differences) && $self->is_ready;
	};
	my $complete = eval { wait_until($look, 'Redis is complete') };
	return ok($complete, "$what: Redis comes to have what the tables say") || diag(_described(@differences));
}

1;
