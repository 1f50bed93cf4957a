# What a flood of made-up tokens does to the audit trail, and what an open transaction does to the events of keys that expire: little.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('floods', conf => "fsync = off\nmax_prepared_transactions = 2\napikey.event_entries = 16384\n");

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until('postgres', $query, $options{expected} // 't'), $what);
}

sub wait_for_turn
{
	my $now = value($node, 'SELECT clock_timestamp()');
	eventually("SELECT (detail->>'last_turn_at')::timestamptz > '$now' FROM apikey.status() WHERE component = 'maintenance'", 'a turn')
	  or die 'the worker does not come round';
	return;
}

my $denied = "SELECT coalesce(sum(coalesce((detail->>'count')::int, 1)), 0) FROM apikey.audit_event WHERE event = 'denied'";
my $rows = "SELECT count(*) FROM apikey.audit_event WHERE event = 'denied'";

# The addresses of one subscriber.
value($node, "SELECT count(apikey.check_token('junk', NULL, ('2001:db8:1:2::' || to_hex(n))::inet)) FROM generate_series(1, 2000) n");
eventually("$denied AND client << '2001:db8:1::/48' OR client = '2001:db8:1:2::/64'", '2000 denials of one /64 are in the trail', expected => '2000');
cmp_ok(value($node, "$rows AND client <<= '2001:db8:1::/48'"), '<', 20, 'in a few rows');
is(value($node, "SELECT DISTINCT client FROM apikey.audit_event WHERE event = 'denied' AND client <<= '2001:db8:1::/48' AND (detail->>'count')::int > 1"), '2001:db8:1:2::/64', 'which name the network');
value($node, "SELECT apikey.check_token('junk', NULL, '2001:db8:7:7::7')");
eventually("SELECT client FROM apikey.audit_event WHERE client <<= '2001:db8:7::/48'", 'a single one names its address', expected => '2001:db8:7:7::7');
value($node, "SELECT count(apikey.check_token('junk', NULL, ('::ffff:198.51.100.' || n)::inet)) FROM generate_series(1, 9) n");
eventually("$rows AND client << '198.51.100.0/24' OR client << '::ffff:198.51.100.0/120'", 'IPv4 addresses have a row each, also as IPv6 ones', expected => '9');

# Whoever has many networks. One statement, so that a few turns see all of it.
wait_for_turn();
my %key = issue($node, owner => 'acme');
my $summarized = metric($node, 'apikey_denials_summarized_total');
my $before = value($node, $rows);
my $since = value($node, 'SELECT clock_timestamp()');
value($node, "SELECT count(apikey.check_token('junk', NULL, ('2001:db8:' || to_hex(n) || '::1')::inet)) FROM generate_series(4096, 4096 + 11999) n; SELECT apikey.check_token("
	  . literal($key{token}) . ", 'no:such', '192.0.2.77')");
eventually("$denied AND at >= '$since'", 'a flood from 12,000 networks is counted', expected => '12001');
my $seconds = value($node, "SELECT ceil(extract(epoch FROM clock_timestamp() - '$since')) + 1");
cmp_ok(value($node, $rows) - $before, '<=', 205 * $seconds, 'in 200 rows a second at most, and a few for the rest');
is(value($node, "SELECT bool_and(client IS NULL AND key_id IS NULL AND code = 'MALFORMED' AND detail->>'operation' = 'check_token') FROM apikey.audit_event WHERE detail ? 'summary'"), 't', 'which say what, and not who');
cmp_ok(metric($node, 'apikey_denials_summarized_total') - $summarized, '>=', 12000 - 200 * $seconds, 'a metric counts what went there');
is(value($node, "SELECT sum(coalesce((detail->>'count')::int, 1)) FROM apikey.audit_event WHERE detail ? 'summary'"), metric($node, 'apikey_denials_summarized_total'), 'and is right');
is(value($node, "SELECT client FROM apikey.audit_event WHERE event = 'denied' AND key_id = '$key{key_id}'"), '192.0.2.77', 'a key that has proven itself has its row all the same');

# Transactions that have not written keys hold up nothing, however long they are open.
my $idle = session($node);
value($idle, 'BEGIN; CREATE TEMP TABLE t AS SELECT pg_current_xact_id(); SELECT count(*) FROM apikey.key');
my $prepared = session($node);
value($prepared, "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'");
$prepared->quit;
my %unhindered = issue($node, owner => 'acme', ttl => '1 second');
my $recorded = "SELECT count(*) FROM apikey.audit_event WHERE event = 'expired' AND key_id = '%s'";
eventually(sprintf($recorded, $unhindered{key_id}), 'a key that expires is recorded beside transactions that have written something else', expected => '1');

# One that has written keys is waited for: its key must not be passed by.
my %slow = issue($idle, owner => 'acme', ttl => '1 second');
my %other = issue($node, owner => 'acme', ttl => '1 second');
eventually("SELECT clock_timestamp() > '$other{expires_at}' AND clock_timestamp() > '$slow{expires_at}'", 'both have expired');
is(value($node, 'SELECT apikey.record_expired(1000)'), '0', 'nothing is recorded as long as its transaction is open');
value($idle, 'COMMIT');
$idle->quit;
eventually(sprintf($recorded, $_), 'and each is afterwards', expected => '1') for $slow{key_id}, $other{key_id};
value($node, "ROLLBACK PREPARED 'forgotten'");

done_testing();
