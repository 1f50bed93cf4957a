# On a standby there are no workers, and nothing is written; what it has refused waits until it is promoted, when they start by themselves.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_cluster('primary', streaming => 1, conf => "fsync = off\napikey.usage_interval = '1s'\n");
my %key = issue($primary);
my $standby = new_standby('standby', $primary);
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'apikey%'";
my $status = "SELECT string_agg(component || ' ' || state, ', ' ORDER BY component) FROM apikey.status() WHERE component IN ('launcher', 'maintenance', 'server')";

sub eventually
{
	my ($node, $query, $what, $expected) = @_;
	return ok($node->poll_query_until('postgres', $query, $expected // 't'), $what);
}

eventually($primary, $workers, 'the primary has its workers', '2');
$primary->wait_for_catchup($standby);
is(value($standby, $workers), '0', 'a standby has none');
is(value($standby, $status), 'launcher standby, maintenance standby, server standby', 'and says so');
is(code($standby, $key{token}), 'VALID', 'it validates');
is(code($standby, $key{token}, permission => 'no:such', client => '192.0.2.1'), 'INSUFFICIENT_PERMISSIONS', 'it refuses') for 1 .. 3;
is(value($standby, "SELECT value FROM apikey.metrics WHERE name = 'apikey_event_ring_size'"), '3', 'which waits in its ring');
is(sqlstate($standby, 'DROP DATABASE postgres'), '25006', 'a command that wants workers away fails there as ever');

# The clients of the standby stay connected through its promotion.
my $client = session($standby);
is(code($client, $key{token}, permission => 'no:such', client => '192.0.2.1'), 'INSUFFICIENT_PERMISSIONS', 'another refusal');
my $denied = "SELECT coalesce(sum(coalesce((detail->>'count')::int, 1)), 0) FROM apikey.audit_event WHERE event = 'denied' AND key_id = '$key{key_id}' AND client = '192.0.2.1'";
is(value($standby, $denied), '0', 'nothing of it is in the trail');
$standby->promote;
eventually($standby, $workers, 'promoted: launcher and worker start', '2');
eventually($standby, $denied, 'they write what has waited', '4');
eventually($standby, "SELECT string_agg(code || ' ' || count, ', ' ORDER BY code) FROM apikey.usage WHERE key_id = '$key{key_id}'", 'the uses as well', 'INSUFFICIENT_PERMISSIONS 4, VALID 1');
eventually($standby, $status, 'and status says so', 'launcher ok, maintenance ok, server primary');
is(code($client, $key{token}, permission => 'no:such', client => '192.0.2.1'), 'INSUFFICIENT_PERMISSIONS', 'a client of before is refused again');
eventually($standby, $denied, 'which is written too', '5');
is(value($primary, $denied), '0', 'the old primary knows nothing of it');

done_testing();
