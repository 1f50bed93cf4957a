# A large exchange of rate limits' counts does not hold up a revocation: the worker sends some counts at a time, and looks for changes in
# between.

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

my $subjects = 4000;
my $slice = 512;

my $redis = RedisServer->start;
my $proxy = FaultProxy->start(listen => PostgreSQL::Test::Utils::tempdir_short() . '/proxy', to => $redis->socket_path);
# Counts are exchanged when the worker connects, and then not for a minute.
my $node = new_cluster(
	'rate_slices',
	conf => "fsync = off\napikey.free_tier = on\napikey.rate_sync_interval = 60s\napikey.redis_timeout = 60s\napikey.redis_url = 'unix://"
	  . $proxy->address . "'\n");
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;
my %key = issue($node);
$mirror->settle;

# Each client address has a limit of its own.
is(value($node, "SELECT count(*) FROM generate_series(1, $subjects) n, apikey.validate(NULL, client => '10.0.0.0'::inet + n) v WHERE v.code = 'VALID'"),
	$subjects, 'many clients');
my $counted = sub { return scalar grep { /:rate:ip-/ } @{ $redis->command('KEYS', '*:rate:ip-*') }; };
is($counted->(), 0, 'which Redis has not been told of');

# The exchange begins, and is held in its first batch. Only then is there something to revoke.
$proxy->set('hold :rate:ip-');
$node->append_conf('postgresql.conf', "apikey.rate_sync_interval = 20ms\n");
$node->reload;
wait_until(sub { $proxy->status->{held} > 0 }, 'the exchange is under way');
my %sha = map { $_ => $redis->command('SCRIPT', 'LOAD', slurp_file("$FindBin::RealBin/../../src/lua/$_.lua")) } qw(ak_merge ak_write);
my $monitor = $redis->connect;
$monitor->command('MONITOR');
my $receipt = value($node, "SELECT receipt FROM apikey.revoke('$key{key_id}')");
$proxy->set('pass');

# What Redis is sent from then on, in its order.
my %seen = (ak_merge => 0, ak_write => 0);
my $before;
while (!defined $before || $seen{ak_merge} < $subjects)
{
	my ($digest) = $monitor->receive =~ /\] "EVALSHA" "([0-9a-f]{40})"/ or next;
	my ($name) = grep { $sha{$_} eq $digest } keys %sha;
	next unless defined $name;
	$seen{$name}++;
	$before = $seen{ak_merge} if $name eq 'ak_write' && !defined $before;
	last if $seen{ak_merge} > 2 * $subjects;
}
note("ak_write came after $before counts");
cmp_ok($before, '>', 0, 'the revocation came to Redis when counts had been sent');
cmp_ok($before, '<=', $slice, 'and before all but the first batch of them');
is(value($node, "SELECT apikey.wait_mirrored('$receipt', '180s')"), 't', 'it is mirrored');
is($mirror->check($key{key_id}, 1), 'revoked key', 'and nodes see it');
wait_until(sub { $counted->() == $subjects }, 'the exchange comes to its end');
is($mirror->state, 'ready', 'the mirror is ready');
is($mirror->resyncs, 1, 'and was filled once');

$mirror->leave;
$node->stop;
done_testing();
