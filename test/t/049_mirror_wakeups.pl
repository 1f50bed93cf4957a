# A revocation that is committed while the mirror's worker waits for Redis is sent at once, and not when the worker next looks by itself;
# and one whose time is later than the worker's clock said is sent all the same.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use FaultProxy;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes ();

my $redis = RedisServer->start;
# Answers take 40 ms, so that the second of two revocations comes while the first one is on its way.
my $proxy = FaultProxy->start(listen => PostgreSQL::Test::Utils::tempdir_short() . '/proxy', to => $redis->socket_path);
my $node = new_cluster(
	'mirror',
	conf => "fsync = off\napikey.pbkdf2_iterations = 1000\napikey.rate_sync_interval = 60s\napikey.redis_url = 'unix://" . $proxy->address . "'\n");
wait_until(sub { value($node, "SELECT state FROM apikey.status() WHERE component = 'mirror'") eq 'ready' }, 'the mirror is ready');
$proxy->set('latency 20');

my $rounds = 15;
my @ids = map { { issue($node) }->{key_id} } 1 .. 2 * $rounds;
my $session = session($node);
my @seconds;
while (my ($first, $second) = splice(@ids, 0, 2))
{
	# The worker has nothing to do.
	value($session, "SELECT apikey.wait_mirrored(receipt) FROM apikey.revoke('" . { issue($node) }->{key_id} . "')");
	value($session, "SELECT apikey.revoke('$first')");
	my $receipt = value($session, "SELECT receipt FROM apikey.revoke('$second')");
	my $began = Time::HiRes::time();
	value($session, "SELECT apikey.wait_mirrored('$receipt')") eq 't' or die 'it did not come to Redis';
	push @seconds, Time::HiRes::time() - $began;
}
@seconds = sort { $a <=> $b } @seconds;
note('seconds: ' . join(' ', map { sprintf('%.3f', $_) } @seconds));
# Both round trips take 80 ms. By itself the worker would look after half a second, so that half of them took a quarter of one or more.
cmp_ok($seconds[ $rounds / 2 ], '<', 0.18, 'the second of two revocations is sent as soon as the first one is');

# The worker read its clock, and then a revocation was committed, and then the snapshot was taken that shows it; or somebody has set the
# clock back. What is in the table by then holds. Only a generation that is superseded may still have its grace.
$proxy->set('pass');
my %withdrawn = issue($node);
my %superseded = issue($node);
my $receipt = value($node, <<"SQL");
INSERT INTO apikey.revocation (key_id, generation, effective_at, until)
SELECT k, g, clock_timestamp() + interval '10 minutes', clock_timestamp() + interval '1 day' FROM (VALUES
    ('$withdrawn{key_id}'::uuid, NULL::integer), ('$superseded{key_id}', 1)) v(k, g);
INSERT INTO apikey.revocation (key_id, generation, kind, effective_at, until)
VALUES ('$withdrawn{key_id}', 1, 'changed', clock_timestamp() + interval '10 minutes', clock_timestamp() + interval '1 day')
RETURNING pg_current_xact_id();
SQL
($receipt) = $receipt =~ /(\d+)/;
is(value($node, "SELECT apikey.wait_mirrored('$receipt', '60s')"), 't', 'withdrawals with a time that is yet to come are mirrored');
my $members = sub {
	my ($id) = @_;
	my $rev = sprintf('{ak:%s:%x}:rev', value($node, "SELECT system_identifier || '-' || (SELECT oid FROM pg_database WHERE datname = 'postgres') FROM pg_control_system()"),
		value($node, "SELECT apikey.redis_bucket('$id')"));
	return join(' ', sort grep { /\Q$id\E/ } @{ $redis->command('ZRANGE', $rev, 0, -1) });
};
my $expected = "$withdrawn{key_id} changed:$withdrawn{key_id}.1";
is($members->($withdrawn{key_id}), $expected, 'a key that is withdrawn, and a claim that has changed, count now');
is($members->($superseded{key_id}), '', 'a generation at the end of its grace');
value($node, 'SELECT apikey.mirror_resync()');
wait_until(sub { value($node, "SELECT (detail->>'resyncs_requested')::integer FROM apikey.status() WHERE component = 'mirror' AND state = 'ready'") }, 'a resync');
is($members->($withdrawn{key_id}), $expected, 'after a resync as well');
is($members->($superseded{key_id}), '', 'and the other one');

$node->stop;
done_testing();
