# The maintenance worker writes what validation leaves in shared memory: each denial and each use, once, whatever becomes of the
# caller's transaction, of the worker, or of the server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use MIME::Base64 qw(decode_base64url encode_base64url);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('maintenance', conf => "fsync = off\napikey.usage_interval = '1s'\n");
value($node, "CREATE ROLE app LOGIN; CREATE ROLE web; GRANT web TO app; SELECT apikey.grant_access('app', 'application'), apikey.grant_access('web', 'application')");

sub eventually
{
	my ($query, $what, %options) = @_;
	my $expected = $options{expected} // 't';
	return ok($node->poll_query_until($options{database} // 'postgres', $query, $expected), $what);
}

# All that has happened so far is in the tables: the worker has finished a turn, and another, since.
sub wait_for_turns
{
	my ($count) = @_;
	for (1 .. $count // 2)
	{
		my $now = value($node, 'SELECT clock_timestamp()');
		eventually("SELECT (detail->>'last_turn_at')::timestamptz > '$now' FROM apikey.status() WHERE component = 'maintenance'", 'a turn')
		  or die 'the worker does not come round';
	}
	return;
}

sub denials
{
	my ($condition) = @_;
	return rows($node,
		"SELECT code, key_id, generation, owner, actor, actor_role, client, detail FROM apikey.audit_event"
		  . " WHERE event = 'denied' AND $condition ORDER BY at");
}

# How many denials the trail has: those of a kind are one row.
my $denied = "SELECT coalesce(sum(coalesce((detail->>'count')::int, 1)), 0) FROM apikey.audit_event WHERE event = 'denied'";

sub worker_pid { return value($node, "SELECT detail->>'pid' FROM apikey.status() WHERE component = 'maintenance'"); }

# What a denial says, though the caller's transaction was rolled back.
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'maintenance'", 'the worker runs');
my %key = issue($node, owner => 'acme', allowed_cidrs => '{192.0.2.0/24}');
my $app = session($node, user => 'app');
value($app, 'BEGIN; SET LOCAL ROLE web');
is(code($app, $key{token}, client => '198.51.100.7'), 'FORBIDDEN', 'a denial');
value($app, 'ROLLBACK');
$app->quit;
eventually("SELECT count(*) = 1 FROM apikey.audit_event WHERE event = 'denied' AND code = 'FORBIDDEN'", 'reaches the trail though its transaction did not commit');
is_deeply([ denials("code = 'FORBIDDEN'") ],
	[ { code => 'FORBIDDEN', key_id => $key{key_id}, generation => 1, owner => 'acme', actor => 'app', actor_role => 'web', client => '198.51.100.7', detail => { operation => 'validate' } } ],
	'with its code, key, owner, actor and role, client and operation');

# Each function that denies.
my $nobody = literal('ak_live_nonsense');
value($node, "SELECT apikey.check_token($nobody)");
isnt(sqlstate($node, "SELECT * FROM apikey.$_($nobody)"), '00000', "$_ refuses") for qw(require refresh revoke_token);
code($node, undef);
eventually("SELECT count(DISTINCT detail->>'operation') = 5 FROM apikey.audit_event WHERE event = 'denied'", 'every operation that denies is recorded');
is(value($node, "SELECT string_agg(DISTINCT code || ' ' || (detail->>'operation'), ', ' ORDER BY code || ' ' || (detail->>'operation')) FROM apikey.audit_event WHERE event = 'denied'"),
	'FORBIDDEN validate, MALFORMED check_token, MALFORMED refresh, MALFORMED require, MALFORMED revoke_token, MISSING validate', 'each under its name');

# The same denial many times at once is one row. In one transaction they are milliseconds apart, so that one turn or two see them all.
my %noisy = issue($node, owner => 'noisy', allowed_cidrs => '{192.0.2.0/24}');
my $noise = 'SELECT count(apikey.check_token(' . literal($noisy{token}) . ", NULL, '198.51.100.9')) FROM generate_series(1, 3000)";
value($node, $noise);
eventually("$denied AND key_id = '$noisy{key_id}'", '3000 denials of one kind are in the trail', expected => '3000');
my @noisy = denials("key_id = '$noisy{key_id}'");
cmp_ok(scalar(@noisy), '<', 20, 'in a few rows');
my ($folded) = sort { $b->{detail}{count} <=> $a->{detail}{count} } grep { $_->{detail}{count} } @noisy;
is(value($node, "SELECT every((detail->>'until')::timestamptz >= at AND (detail->>'until')::timestamptz <= now()) FROM apikey.audit_event WHERE key_id = '$noisy{key_id}' AND detail ? 'count'"),
	't', 'each with the time of its first and its last');
is($folded->{client}, '198.51.100.9', 'and what they have in common');
value($node, "SELECT apikey.check_token(" . literal($noisy{token}) . ", NULL, ('198.51.100.' || n)::inet) FROM generate_series(20, 29) n");
eventually("SELECT count(DISTINCT client) = 10 FROM apikey.audit_event WHERE key_id = '$noisy{key_id}' AND client > '198.51.100.19'", 'other addresses are other rows');

# Anybody can make up ids and generations; that fills no table. The tokens are formed as ours are: a key of another database.
value($node, 'CREATE DATABASE elsewhere');
value($node, 'CREATE EXTENSION apikey', database => 'elsewhere');
my @made_up = split(/\n/, value($node, "SELECT (apikey.issue('x', name => n::text, format => 'opaque')).token FROM generate_series(1, 200) n", database => 'elsewhere'));
my $before = value($node, 'SELECT count(*) FROM apikey.audit_event');
my $array = 'ARRAY[' . join(',', map { literal($_) } @made_up) . ']';
is(value($node, "SELECT string_agg(DISTINCT (apikey.validate(t)).code, ' ') FROM unnest($array) t"), 'NOT_FOUND', 'keys that are none');
eventually("$denied AND code = 'NOT_FOUND'", '200 of them are counted', expected => '200');
cmp_ok(value($node, 'SELECT count(*) FROM apikey.audit_event') - $before, '<', 10, 'in a few rows');
is(value($node, "SELECT count(*) FROM apikey.audit_event WHERE code = 'NOT_FOUND' AND detail ? 'count' AND key_id IS NOT NULL"), '0', 'which name none of the keys');
is(value($node, "SELECT count(*) FROM apikey.usage WHERE code = 'NOT_FOUND'"), '0', 'and are nobody\'s use');
code($node, $made_up[0]);
eventually("SELECT count(*) = 1 FROM apikey.audit_event WHERE code = 'NOT_FOUND' AND key_id IS NOT NULL", 'a single one shows the id that it claims');

# The id of a key is no secret, and its generation is as easily made up where the signature need not be right.
my ($header, $payload, $signature) = split(/\./, $noisy{token});
my $claims = decode_base64url($payload);
my @forged = map { my $forged = $claims =~ s/\Q$noisy{key_id}.1"/$noisy{key_id}.$_"/r; join('.', $header, encode_base64url($forged), $signature) } 2 .. 201;
$before = value($node, 'SELECT count(*) FROM apikey.audit_event');
is(value($node, "SELECT string_agg(DISTINCT (apikey.validate(t)).code, ' ') FROM unnest(ARRAY[" . join(',', map { literal($_) } @forged) . ']) t'), 'SIGNATURE_INVALID', 'forged generations of a key');
eventually("$denied AND code = 'SIGNATURE_INVALID'", '200 of them are counted', expected => '200');
cmp_ok(value($node, 'SELECT count(*) FROM apikey.audit_event') - $before, '<', 10, 'in a few rows');
is(value($node, "SELECT string_agg(DISTINCT key_id || ' ' || coalesce(generation::text, 'none'), ', ') FROM apikey.audit_event WHERE code = 'SIGNATURE_INVALID' AND detail ? 'count'"),
	"$noisy{key_id} none", 'which name the key, and no generation');

# Uses.
my %used = issue($node, owner => 'user');
value($node, "UPDATE apikey.role SET rate_limit = NULL, rate_window = NULL WHERE name = 'basic'");
my $since = value($node, 'SELECT clock_timestamp()');
is(code($node, $used{token}, client => '2001:db8::1'), 'VALID', 'a use');
is(code($node, $used{token}, permission => 'dataset:write'), 'INSUFFICIENT_PERMISSIONS', 'and a denial');
eventually("SELECT string_agg(code || ' ' || count, ', ' ORDER BY code) FROM apikey.usage WHERE key_id = '$used{key_id}'", 'are in usage', expected => 'INSUFFICIENT_PERMISSIONS 1, VALID 1');
is(value($node, "SELECT count(*) FROM apikey.usage WHERE key_id = '$used{key_id}' AND hour = date_trunc('hour', hour, 'UTC') AND hour <= now() AND hour > now() - interval '2 hours'"),
	'2', 'under the hour');
is(value($node, "SELECT last_client = '2001:db8::1' AND last_used_at BETWEEN '$since' AND now() FROM apikey.keys WHERE key_id = '$used{key_id}'"), 't', 'the last use is in the view keys');
is(code($node, $used{token}), 'VALID', 'a later use without an address');
eventually("SELECT last_client IS NULL FROM apikey.keys WHERE key_id = '$used{key_id}'", 'is the last one then');

# Every use counts once, though the worker is sent away again and again in the midst of it, and though its writes fail now and then.
my %busy = issue($node, owner => 'busy');
my %other = issue($node, owner => 'busy');
my $script = "$PostgreSQL::Test::Utils::tmp_check/use.sql";
write_file($script, 'SELECT apikey.check_token(' . literal($busy{token}) . '), apikey.check_token(' . literal($other{token}) . "), apikey.check_token('junk');\n", 0600);
my $junk = 'detail->>\'operation\' = \'check_token\' AND code = \'MALFORMED\'';
wait_for_turns();
my $junk_before = value($node, "$denied AND $junk");
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-t', 4000, '-R', 3000, '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $bench, '2>', \my $bench_errors);
my $pid = worker_pid();
for my $round (1, 2)
{
	ok(value($node, "SELECT pg_terminate_backend($pid, 5000)"), "worker terminated ($round)") or diag("pid $pid");
	my $new = "SELECT state = 'ok' AND detail->>'pid' <> '$pid' FROM apikey.status() WHERE component = 'maintenance'";
	eventually($new, "another one runs ($round)");
	$pid = worker_pid();
}
$load->finish or die "$bench$bench_errors";
like($bench, qr/actually processed: 8000/, 'the load has run');
eventually("SELECT sum(count) FROM apikey.usage WHERE key_id = '$_' AND code = 'VALID'", 'every use counts once', expected => '8000') for $busy{key_id}, $other{key_id};
eventually("$denied AND $junk", 'and every denial', expected => $junk_before + 8000);

# A table that cannot be written to.
for (
	[ 'usage', sub { is(code($node, $_[0]), 'VALID', 'a use') }, "SELECT coalesce(sum(count), 0) FROM apikey.usage WHERE key_id = '%s'" ],
	[ 'key_usage', sub { is(code($node, $_[0]), 'VALID', 'a use') }, "SELECT coalesce(sum(count), 0) FROM apikey.usage WHERE key_id = '%s'" ],
	[ 'audit_event', sub { is(code($node, $_[0], permission => 'no:such'), 'INSUFFICIENT_PERMISSIONS', 'a denial') }, "$denied AND key_id = '%s'" ])
{
	my ($table, $happen, $count) = @$_;
	my %locked = issue($node, owner => 'locked');
	my $locker = session($node);
	value($locker, "BEGIN; LOCK TABLE apikey.$table");
	my $offset = -s $node->logfile;
	$happen->($locked{token}) for 1 .. 3;
	my $log = $table eq 'audit_event' ? 'write events' : 'write usage';
	ok(eval { $node->wait_for_log(qr/apikey could not $log: canceling statement due to lock timeout/, $offset); 1 }, "$table: the worker says that it waits for somebody")
	  or diag($@);
	$happen->($locked{token}) for 1 .. 3;
	is(value($locker, sprintf($count, $locked{key_id})), '0', "$table: nothing is written while it is locked");
	value($locker, 'COMMIT');
	$locker->quit;
	eventually(sprintf($count, $locked{key_id}), "$table: all of it arrives afterwards", expected => '6');
	wait_for_turns();
	is(value($node, sprintf($count, $locked{key_id})), '6', "$table: once");
}

# A restart loses nothing: the worker's last turn writes what the ones before had left for later, or could not write.
my %last = issue($node, owner => 'last');
value($node, "ALTER SYSTEM SET apikey.usage_interval = '50s'; SELECT pg_reload_conf()");
eventually("SELECT setting = '50' FROM pg_settings WHERE name = 'apikey.usage_interval'", 'usage is not written for a while');
wait_for_turns(3);
value($node, 'SELECT count(apikey.check_token(' . literal($last{token}) . ")), count(apikey.check_token(" . literal($last{token}) . ", 'no:such')) FROM generate_series(1, 500)");
$node->restart;
is(value($node, "SELECT string_agg(code || ' ' || count, ', ' ORDER BY code) FROM apikey.usage WHERE key_id = '$last{key_id}'"),
	'INSUFFICIENT_PERMISSIONS 500, VALID 500', 'the uses of before a restart are in the tables');
is(value($node, "$denied AND key_id = '$last{key_id}'"), '500', 'and the denials');

# Also when the worker is in the midst of waiting for its next try.
my %failed = issue($node, owner => 'failed');
my $locker = session($node);
value($locker, 'BEGIN; LOCK TABLE apikey.audit_event, apikey.usage');
my $offset = -s $node->logfile;
code($node, $failed{token}, permission => 'no:such');
ok(eval { $node->wait_for_log(qr/(?:apikey could not write events.*){3}/s, $offset); 1 }, 'some tries have failed, the next one is seconds away');
value($locker, 'COMMIT');
$locker->quit;
$node->restart;
is(value($node, "$denied AND key_id = '$failed{key_id}'"), '1', 'a clean stop writes what could not be written before');
is(value($node, "SELECT sum(count) FROM apikey.usage WHERE key_id = '$failed{key_id}'"), '1', 'and its use');

# A full ring counts what it has no room for.
$node->append_conf('postgresql.conf', "apikey.event_entries = 64\n");
value($node, 'ALTER SYSTEM RESET apikey.usage_interval');
$node->restart;
my $dropped = "SELECT value FROM apikey.metrics WHERE name = 'apikey_events_dropped_total' AND labels->>'kind' = 'denial'";
is(value($node, $dropped), '0', 'nothing dropped yet');
$locker = session($node);
value($locker, 'BEGIN; LOCK TABLE apikey.audit_event');
my $before_flood = value($locker, $denied);
value($locker, "SELECT count(apikey.check_token('junk')) FROM generate_series(1, 164)");
is(value($locker, $dropped), '100', 'of 164 denials with a ring for 64, 100 are dropped and counted');
value($locker, 'COMMIT');
$locker->quit;
eventually($denied, 'the other 64 are written', expected => $before_flood + 64);
eventually("SELECT value FROM apikey.metrics WHERE name = 'apikey_event_ring_size'", 'and leave the ring', expected => '0');

# Cancelling the worker harms nothing.
$pid = worker_pid();
for (1 .. 3)
{
	value($node, "SELECT pg_cancel_backend($pid)");
	wait_for_turns(1);
}
is(worker_pid(), $pid, 'pg_cancel_backend() does not end a worker');
my $launcher = value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey launcher'");
value($node, "SELECT pg_cancel_backend($launcher)");
wait_for_turns();
is(value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey launcher'"), $launcher, 'nor the launcher');

done_testing();
