# What the tests of the mirror share: Redis as a node sees it, and what it should hold, computed from the tables.
#
#   my $mirror = MirrorTest->new($node, $redis);                         database => 'postgres', namespace => the default one
#   $mirror->await_ready; $mirror->settle;
#   is($mirror->check($key_id, 1), 'revoked key');
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
	my $self = bless { node => $node, redis => $redis, database => 'postgres', %options }, $class;
	$self->{namespace} //= value($node, 'SELECT s.system_identifier || \'-\' || d.oid FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()',
		database => $self->{database});
	return $self;
}

# A session of the database, which lasts.
sub sql
{
	my ($self) = @_;
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
	my $reply = $self->{redis}->command($self->_check_arguments(@arguments));
	return join(' ', grep { $_ ne '' } $reply->[0], $reply->[2]);
}

# The same of many keys, [ key_id, generation [, ...] ] each, in one go.
sub checks
{
	my ($self, @keys) = @_;
	return map { join(' ', grep { $_ ne '' } $_->[0], $_->[2]) } $self->{redis}->pipeline(map { [ $self->_check_arguments(@$_) ] } @keys);
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
	my @replies = $self->{redis}->pipeline(map { [ 'ZRANGE', $self->name_in($_, 'rev'), 0, -1, 'WITHSCORES' ] } @buckets);
	return { map { @$_ } @replies };
}

# The meta hash of each bucket.
sub metas
{
	my ($self) = @_;
	return map { +{@$_} } $self->{redis}->pipeline(map { [ 'HGETALL', $self->name_in($_, 'meta') ] } @buckets);
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
  FROM apikey.revocation r WHERE r.effective_at <= clock_timestamp() AND r.until + interval '60 s' > clock_timestamp()
SQL
	return JSON::PP::decode_json($json);
}

# missing, more, and with another score, in comparison with the tables: (0, 0, 0) when all is well. Says which.
sub compare
{
	my ($self) = @_;
	my ($expected, $found) = ($self->expected, $self->members);
	my @missing = grep { !exists $found->{$_} } sort keys %$expected;
	my @more = grep { !exists $expected->{$_} } sort keys %$found;
	my @other = grep { exists $found->{$_} && $found->{$_} != $expected->{$_} } sort keys %$expected;
	my $list = sub { return join(' ', map { $_ // () } @_[ 0 .. 4 ]); };
	diag('missing: ' . $list->(@missing)) if @missing;
	diag('more: ' . $list->(@more)) if @more;
	diag('with another score: ' . $list->(@other)) if @other;
	return (scalar @missing, scalar @more, scalar @other);
}

# A test: Redis has what the tables say, no more and no less.
sub is_exact
{
	my ($self, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->settle;
	return is(join(' ', $self->compare), '0 0 0', "$what: Redis has what the tables say");
}

1;
