# What the mirror worker tells Redis, and when; who may be told that it has; and the worker's life: settings, extensions, databases,
# dumps, standbys.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $redis = RedisServer->start(name => 'first', port => 1);
my $url = 'redis://127.0.0.1:' . $redis->port;
my $node = new_cluster('mirror', streaming => 1, conf => <<CONF);
fsync = off
max_prepared_transactions = 10
max_worker_processes = 16
apikey.redis_url = '$url'
apikey.refresh_grace = '5 min'
apikey.usage_interval = '1s'
# Each exchange of counts would be one more look at the outbox.
apikey.rate_sync_interval = '10s'
CONF
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;
my $sql = $mirror->sql;

sub figure { my ($name, $value) = @_; note("$name: $value"); return; }
sub log_size { return -s $node->logfile; }
sub log_since { return substr(slurp_file($node->logfile), $_[0]); }
sub eventually { my ($sub, $what) = @_; return ok(eval { wait_until($sub, $what) }, $what); }

sub set
{
	my (%settings) = @_;
	value($sql, 'ALTER SYSTEM SET ' . $_ . ' = ' . literal($settings{$_})) for sort keys %settings;
	value($sql, 'SELECT pg_reload_conf()');
	return;
}

# A key that can be refreshed at any time, unless it is asked for otherwise.
sub new_key { return issue($sql, ttl => '1 hour', @_); }
sub expiry { my ($key_id) = @_; return value($sql, "SELECT floor(extract(epoch FROM expires_at)) FROM apikey.key WHERE key_id = '$key_id'"); }
sub receipt_of { my ($statement) = @_; return value($sql, "SELECT receipt FROM $statement"); }

is(join(' ', $mirror->compare), '0 0 0', 'at first there is nothing');
is(scalar(keys %{ $mirror->members }), 0, 'and Redis has nothing');

#
# Every way in which a key stops being good, and only then. [ what, statements, verdict of generation 1, kind of the event ]
#
my @tokens;
{
	my $id = sub { return "'$_[0]{key_id}'"; };
	my $update = sub { my ($set) = @_; return sub { return "UPDATE apikey.key SET $set WHERE key_id = '$_[0]{key_id}'"; }; };
	my @changes = (
		[ 'revoke()', sub { 'SELECT apikey.revoke(' . $id->(@_) . ", 'KEY_COMPROMISE')" }, 'revoked key', 'withdrawn' ],
		[ 'revoke_token()', sub { 'SELECT apikey.revoke_token(' . literal($_[0]{token}) . ')' }, 'revoked key', 'withdrawn' ],
		[ 'disable()', sub { 'SELECT apikey.disable(' . $id->(@_) . ')' }, 'revoked key', 'withdrawn' ],
		[ 'revoke_owner()', sub { "SELECT apikey.revoke_owner('$_[0]{owner}')" }, 'revoked key', 'withdrawn' ],
		[ 'plain UPDATE to revoked', $update->("state = 'revoked'"), 'revoked key', 'withdrawn' ],
		[ 'plain UPDATE to disabled', $update->("state = 'disabled'"), 'revoked key', 'withdrawn' ],
		[ 'plain DELETE', sub { 'DELETE FROM apikey.key WHERE key_id = ' . $id->(@_) }, 'revoked key', 'withdrawn' ],
		[ 'refresh() without a grace', sub { 'BEGIN; SET LOCAL apikey.refresh_grace = 0; SELECT apikey.refresh(' . literal($_[0]{token}) . '); COMMIT' },
			'revoked generation', 'withdrawn' ],
		[ 'refresh() with a grace', sub { 'SELECT apikey.refresh(' . literal($_[0]{token}) . ')' }, 'ok', undef ],
		[ 'another role', $update->("role = 'contributor'"), 'unknown changed', 'changed' ],
		[ 'other permissions', $update->("permissions = '{chat:read}'"), 'unknown changed', 'changed' ],
		[ 'another environment', $update->("environment = 'test'"), 'unknown changed', 'changed' ],
		[ 'other addresses', $update->("allowed_cidrs = '{10.0.0.0/8}'"), 'unknown changed', 'changed' ],
		[ 'an earlier expiry', $update->("expires_at = expires_at - interval '1 minute'"), 'unknown changed', 'changed' ],
		[ 'a later expiry', $update->("expires_at = expires_at + interval '1 minute'"), 'ok', undef ],
		[ 'another name', $update->("name = 'other', metadata = '{\"a\": 1}'"), 'ok', undef ],
		[ 'changed, then revoked', sub { $update->("permissions = '{chat:read}'")->(@_) . '; SELECT apikey.revoke(' . $id->(@_) . ')' },
			'revoked key', 'withdrawn' ],
		[ 'disable() and enable() in one transaction', sub { 'BEGIN; SELECT apikey.disable(' . $id->(@_) . '); SELECT apikey.enable(' . $id->(@_) . '); COMMIT' },
			'ok', 'restored' ],
		[ 'a ROLLBACK', sub { 'BEGIN; SELECT apikey.revoke(' . $id->(@_) . '); ROLLBACK' }, 'ok', undef ],
		[ 'a ROLLBACK to a savepoint', sub { 'BEGIN; SAVEPOINT s; SELECT apikey.revoke(' . $id->(@_) . '); ROLLBACK TO s; COMMIT' }, 'ok', undef ]);
	my $number = 0;
	my @all;
	for (@changes)
	{
		my ($what, $statement, $verdict, $kind) = @$_;
		$number++;
		my %key = new_key(owner => "owner $number");
		my %other = new_key(owner => "other $number");
		push @tokens, $key{token}, $other{token};
		my $until = expiry($key{key_id});
		value($sql, $statement->(\%key));
		$mirror->settle;
		is($mirror->check($key{key_id}, 1), $verdict, "$what: a node is told so");
		is($mirror->check($other{key_id}, 1), 'ok', "$what: and nothing of another key");
		my %member = ('revoked key' => $key{key_id}, 'revoked generation' => "$key{key_id}.1", 'unknown changed' => "changed:$key{key_id}.1");
		my $members = $mirror->members;
		is($members->{ $member{$verdict} }, $until + 60, "$what: the member may go a minute after the expiry") if $member{$verdict};
		my @events = map { $_->{kind} } $mirror->events($key{key_id});
		is($events[-1], $kind, "$what: the event");
		is(scalar(@events), 0, "$what: no event") unless defined $kind;
		push @all, [ $what, $verdict, \%key ];
	}
	$mirror->is_exact('all of that');
	is(join("\n", map { $mirror->check($_->[2]{key_id}, 1) . " after $_->[0]" } @all), join("\n", map { "$_->[1] after $_->[0]" } @all),
		'and what was told stays told');
}

# revoke_owner() concerns all keys of one.
{
	my @many = map { { new_key(owner => 'many') } } 1 .. 40;
	is(value($sql, "SELECT apikey.revoke_owner('many')"), 40, 'revoke_owner() of many keys');
	$mirror->settle;
	is(scalar(grep { $_ eq 'revoked key' } $mirror->checks(map { [ $_->{key_id}, 1 ] } @many)), 40, 'all of them are told');
}

# Again and again: the last state counts, in Redis as in the tables.
{
	my %key = new_key();
	for my $round (1 .. 5)
	{
		value($sql, "SELECT apikey.disable('$key{key_id}')");
		$mirror->settle;
		is($mirror->check($key{key_id}, 1), 'revoked key', "disabled, round $round");
		value($sql, "SELECT apikey.enable('$key{key_id}')");
		$mirror->settle;
		is($mirror->check($key{key_id}, 1), 'ok', "enabled again, round $round");
		ok(!exists $mirror->members->{ $key{key_id} }, "no member is left, round $round");
	}
	# What had changed stays changed.
	value($sql, "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$key{key_id}'; SELECT apikey.disable('$key{key_id}')");
	value($sql, "SELECT apikey.enable('$key{key_id}')");
	$mirror->settle;
	is($mirror->check($key{key_id}, 1), 'unknown changed', 'changed, disabled, and enabled again');
	# A later expiry moves the score.
	value($sql, "SELECT apikey.disable('$key{key_id}')");
	value($sql, "UPDATE apikey.key SET expires_at = expires_at + interval '1 day' WHERE key_id = '$key{key_id}'");
	$mirror->settle;
	is($mirror->members->{ $key{key_id} }, expiry($key{key_id}) + 60, 'a later expiry of a disabled key: its member stays as much longer');
	my %next = new_key();
	value($sql, "UPDATE apikey.key SET environment = 'test' WHERE key_id = '$next{key_id}'");
	refresh($sql, $next{token});
	$mirror->settle;
	is($mirror->check($next{key_id}, 1), 'unknown changed', 'a generation that has changed');
	is($mirror->check($next{key_id}, 2), 'ok', 'and the next one, which says what is true');
	$mirror->is_exact('back and forth');
}

#
# The stream's fields
#
{
	my %key = new_key();
	my $until = expiry($key{key_id});
	my %field = (key_id => $key{key_id}, exp => $until);
	my $revoked = receipt_of("apikey.revoke('$key{key_id}', 'PRIVILEGE_WITHDRAWN')");
	$mirror->settle;
	is_deeply([ $mirror->events($key{key_id}) ], [ { %field, generation => '', reason => 'PRIVILEGE_WITHDRAWN', xid => $revoked, kind => 'withdrawn' } ],
		'the event of a revocation, with the receipt as its xid');
	my %other = new_key();
	my $disabled = value($sql, "BEGIN; SELECT pg_current_xact_id(); SELECT apikey.disable('$other{key_id}'); COMMIT") =~ s/\s+\z//r;
	$mirror->settle;
	my $enabled = value($sql, "BEGIN; SELECT pg_current_xact_id(); SELECT apikey.enable('$other{key_id}'); COMMIT") =~ s/\s+\z//r;
	$mirror->settle;
	is_deeply([ $mirror->events($other{key_id}) ],
		[ { key_id => $other{key_id}, generation => '', exp => expiry($other{key_id}), reason => '', xid => $disabled, kind => 'withdrawn' },
			{ key_id => $other{key_id}, generation => '', exp => '', reason => '', xid => $enabled, kind => 'restored' } ],
		'the events of a key that was disabled and enabled again');
	value($sql, "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$other{key_id}'");
	$mirror->settle;
	my $last = ($mirror->events($other{key_id}))[-1];
	is_deeply([ @$last{qw(generation kind exp)} ], [ 1, 'changed', expiry($other{key_id}) ], 'the event of a change');
}

#
# A superseded generation: from the end of its grace on, and not before
#
# Asks until it is no longer ok: when it was last ok, and when it was first not, by the clock of Redis in ms, and what it was then.
sub watch
{
	my ($key_id, $generation) = @_;
	my ($last_ok, $first_other, $found) = (0, 0, '');
	wait_until(
		sub {
			my $before = $mirror->now_ms;
			$found = $mirror->check($key_id, $generation);
			my $after = $mirror->now_ms;
			$last_ok = $before if $found eq 'ok';
			$first_other = $after;
			return $found ne 'ok';
		},
		'the grace ends');
	return ($last_ok, $first_other, $found);
}
sub grace_end { my ($key_id) = @_; return value($sql, "SELECT floor(1000 * extract(epoch FROM previous_valid_until)) FROM apikey.key WHERE key_id = '$key_id'"); }
{
	my %key = new_key();
	my $until = expiry($key{key_id});
	value($sql, 'BEGIN; SET LOCAL apikey.refresh_grace = 3; SELECT generation FROM apikey.refresh(' . literal($key{token}) . '); COMMIT');
	$mirror->settle;
	is($mirror->check($key{key_id}, 1), 'ok', 'during the grace the previous generation is good');
	my $end = grace_end($key{key_id});
	my ($last_ok, $first_other, $found) = watch($key{key_id}, 1);
	is($found, 'revoked generation', 'after the grace it is withdrawn');
	cmp_ok($first_other, '>=', $end, 'not before the grace ends');
	cmp_ok($last_ok, '<', $end + 5000, 'and soon after');
	figure('superseded generation in Redis after the end of its grace, ms', $first_other - $end);
	is($mirror->check($key{key_id}, 2), 'ok', 'the next generation is good');
	is($mirror->members->{"$key{key_id}.1"}, $until + 60, 'the member stays for as long as that generation would have been good');
	my $event = ($mirror->events($key{key_id}))[-1];
	is_deeply($event, { key_id => $key{key_id}, generation => 1, exp => $until, reason => 'SUPERSEDED', xid => '', kind => 'withdrawn' }, 'its event');

	# Prolonged, and cut short.
	my %longer = new_key();
	value($sql, 'BEGIN; SET LOCAL apikey.refresh_grace = 2; SELECT generation FROM apikey.refresh(' . literal($longer{token}) . '); COMMIT');
	$end = grace_end($longer{key_id});
	value($sql, "UPDATE apikey.key SET previous_valid_until = previous_valid_until + interval '30 minutes' WHERE key_id = '$longer{key_id}'");
	wait_until(sub { return $mirror->now_ms > $end + 1500; }, 'the first end of the grace is past');
	$mirror->settle;
	is($mirror->check($longer{key_id}, 1), 'ok', 'a grace that was prolonged does not end where it did');
	value($sql, "UPDATE apikey.key SET previous_valid_until = clock_timestamp() WHERE key_id = '$longer{key_id}'");
	$mirror->settle;
	is($mirror->check($longer{key_id}, 1), 'revoked generation', 'one that is cut short ends at once');

	# Prolonged in time, committed too late: Redis has been told already, and is told otherwise.
	my %late = new_key();
	value($sql, 'BEGIN; SET LOCAL apikey.refresh_grace = 2; SELECT generation FROM apikey.refresh(' . literal($late{token}) . '); COMMIT');
	my $slow = session($node);
	value($slow, "BEGIN; UPDATE apikey.key SET previous_valid_until = previous_valid_until + interval '30 minutes' WHERE key_id = '$late{key_id}'");
	is($mirror->await_check('revoked generation', $late{key_id}, 1), 'revoked generation', 'prolonged in a transaction that is still open: the grace ends');
	value($slow, 'COMMIT');
	$mirror->settle;
	is($mirror->check($late{key_id}, 1), 'ok', 'and goes on when that is committed');
	$slow->quit;
	$mirror->is_exact('graces');
}

#
# Roles and the key set
#
sub roles_in_redis { return +{ @{ $redis->command('HGETALL', $mirror->name_in('roles')) } }; }
sub decoded { my ($hash) = @_; return +{ map { $_ => JSON::PP::decode_json($hash->{$_}) } keys %$hash }; }
sub is_jwks
{
	my ($what) = @_;
	$mirror->settle;
	return is_deeply(JSON::PP::decode_json($redis->command('GET', $mirror->name_in('jwks'))), JSON::PP::decode_json(value($sql, 'SELECT apikey.jwks()')), $what);
}
{
	my $roles = decoded(roles_in_redis());
	is(join(' ', sort keys %$roles), 'admin basic contributor free node_operator', 'the roles');
	is_deeply($roles->{basic}, { permissions => [ 'chat:read', 'chat:write' ], rate => { limit => 600, window_ms => 60000 }, refresh_window_ms => 86_400_000 }, 'what they may');
	is($roles->{admin}{rate}, undef, 'a role without a limit');
	value($sql, "INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES ('extra', '1 day', '{a:b}', 7, '1.5 s', '1 hour')");
	$mirror->settle;
	is_deeply(decoded(roles_in_redis())->{extra}, { permissions => ['a:b'], rate => { limit => 7, window_ms => 1500 }, refresh_window_ms => 3_600_000 }, 'a new role');
	value($sql, "UPDATE apikey.role SET permissions = '{a:c}', rate_limit = NULL, rate_window = NULL WHERE name = 'extra'");
	$mirror->settle;
	is_deeply(decoded(roles_in_redis())->{extra}, { permissions => ['a:c'], rate => undef, refresh_window_ms => 3_600_000 }, 'a role that was edited');
	value($sql, "DELETE FROM apikey.role WHERE name = 'extra'");
	$mirror->settle;
	ok(!exists roles_in_redis()->{extra}, 'a role that was deleted');

	is_jwks('the key set');
	my %key = new_key();
	my $kid = value($sql, 'SELECT kid FROM apikey.key WHERE key_id = ' . literal($key{key_id}));
	my $new = value($sql, "SELECT apikey.rotate_signing_key('ES256')");
	is_jwks('the key set after a rotation');
	like($redis->command('GET', $mirror->name_in('jwks')), qr/\Q$new\E/, 'has the new key');
	value($sql, "SELECT apikey.rotate_signing_key('EdDSA')");
	value($sql, "SELECT apikey.retire_signing_key('$kid', true)");
	is_jwks('the key set after a key was retired');
	unlike($redis->command('GET', $mirror->name_in('jwks')), qr/\Q$kid\E/, 'has it no more');
	is($mirror->check($key{key_id}, 1), 'revoked key', 'and what it signed is revoked');
	my $hs = value($sql, "SELECT apikey.rotate_signing_key('HS256')");
	is_jwks('the key set with a symmetric key');
	unlike($redis->command('GET', $mirror->name_in('jwks')), qr/\Q$hs\E|"oct"/, 'does not have it');
	value($sql, "SELECT apikey.rotate_signing_key('EdDSA')");
	$mirror->is_exact('rotation');
}

#
# Receipts
#
{
	my %key = new_key();
	my %later = new_key(owner => 'later');
	my $wait = sub { my ($receipt, $timeout, $where) = @_; return value($where // $sql, "SELECT apikey.wait_mirrored('$receipt', '$timeout')"); };
	value($sql, 'BEGIN');
	my $receipt = receipt_of("apikey.revoke('$key{key_id}')");
	my $started = time;
	is($wait->($receipt, '1 hour'), 'f', 'in its own transaction: false');
	value($sql, 'SAVEPOINT s');
	is($wait->($receipt, '1 hour'), 'f', 'and within a savepoint');
	cmp_ok(time - $started, '<', 30, 'at once');
	is($wait->($receipt, '200 ms', $node), 'f', 'for others it is not there yet');
	my $session = session($node);
	my $other = value($session, "SELECT receipt FROM apikey.revoke('$later{key_id}')");
	is($wait->($other, '1 min', $session), 't', 'a later transaction does not wait for an earlier one that is still open');
	value($sql, 'COMMIT');
	is($wait->($receipt, '1 min'), 't', 'after COMMIT: true');
	is($mirror->check($key{key_id}, 1), 'revoked key', 'and it is so');
	is(value($sql, "SELECT already FROM apikey.revoke('$key{key_id}')"), 't', 'revoked already');
	my $again = receipt_of("apikey.revoke('$key{key_id}')");
	is($wait->($again, '1 min'), 't', 'a receipt of that');
	is(value($sql, 'SELECT apikey.wait_mirrored(NULL) IS NULL, apikey.wait_mirrored(NULL, NULL) IS NULL'), 't|t', 'NULL: NULL');
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', NULL) IS NULL"), 't', 'a timeout that is NULL: NULL');
	my %kept = new_key();
	value($sql, 'BEGIN');
	my $aborted = receipt_of("apikey.revoke('$kept{key_id}')");
	value($sql, 'ROLLBACK');
	is($wait->($aborted, '1 min'), 't', 'what was rolled back: true');
	is(sqlstate($sql, "SELECT apikey.wait_mirrored('$receipt', '-1 s')"), '22023', 'a negative timeout');
	is($wait->($receipt, '0'), 't', 'a timeout of 0, of what is there');
	my $future = value($sql, 'SELECT pg_current_xact_id()') + 100_000;
	$started = time;
	is($wait->($future, '300 ms'), 'f', 'what there is not yet: false');
	cmp_ok(time - $started, '>=', 0.29, 'when the time is up');
	is(sqlstate($sql, "SET statement_timeout = '300 ms'; SELECT apikey.wait_mirrored('$future', '1 hour')"), '57014', 'the wait can be interrupted');
	value($sql, 'RESET statement_timeout');

	# Many that wait, each for its own.
	my @keys = map { { new_key(owner => 'waiting') } } 1 .. 50;
	my $slowest = 0;
	for my $one (@keys)
	{
		my $mine = receipt_of("apikey.revoke('$one->{key_id}')");
		my $began = time;
		is($wait->($mine, '1 min'), 't', 'a receipt') or last;
		$slowest = time - $began if time - $began > $slowest;
		is($mirror->check($one->{key_id}, 1), 'revoked key', 'holds') or last;
	}
	figure('slowest of 50 receipts, ms', int(1000 * $slowest));
	$session->quit;
}

#
# Two-phase commit wakes nobody: the worker looks by itself.
#
{
	my @took;
	for my $round (1 .. 3)
	{
		my %key = new_key();
		value($sql, 'BEGIN');
		my $receipt = receipt_of("apikey.revoke('$key{key_id}')");
		value($sql, "PREPARE TRANSACTION 'revocation'");
		$mirror->settle;
		is($mirror->check($key{key_id}, 1), 'ok', 'prepared: nobody is told yet');
		is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '200 ms')"), 'f', 'prepared: not mirrored');
		if ($round == 3)
		{
			value($sql, "ROLLBACK PREPARED 'revocation'");
			$mirror->settle;
			is($mirror->check($key{key_id}, 1), 'ok', 'ROLLBACK PREPARED leaves nothing');
			is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'and the receipt is as that of an aborted one');
			next;
		}
		value($sql, "COMMIT PREPARED 'revocation'");
		my $began = time;
		is($mirror->await_check('revoked key', $key{key_id}, 1), 'revoked key', 'COMMIT PREPARED: told');
		push @took, time - $began;
		is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '1 min')"), 't', 'COMMIT PREPARED: mirrored');
	}
	my ($slowest) = sort { $b <=> $a } @took;
	cmp_ok($slowest, '<', 4, 'COMMIT PREPARED: soon');
	figure('COMMIT PREPARED until Redis knows, slowest of 2, ms', int(1000 * $slowest));
}

# How long a COMMIT takes to get to Redis, measured by its reader.
{
	my @took;
	for my $key (map { { new_key(owner => 'latency') } } 1 .. 30)
	{
		value($sql, "SELECT apikey.revoke('$key->{key_id}')");
		my $began = time;
		wait_until(sub { return $mirror->check($key->{key_id}, 1) eq 'revoked key'; }, 'a revocation is told');
		push @took, time - $began;
	}
	@took = sort { $a <=> $b } @took;
	figure('COMMIT until Redis knows, median of 30, ms', sprintf('%.1f', 1000 * $took[15]));
	figure('COMMIT until Redis knows, slowest of 30, ms', sprintf('%.1f', 1000 * $took[-1]));
	cmp_ok($took[15], '<', 0.2, 'a COMMIT wakes the worker: nobody waits for its next look');
}

#
# What it says of itself
#
{
	$mirror->settle;
	my %row = row($sql, "SELECT state, detail FROM apikey.status() WHERE component = 'mirror'");
	is($row{state}, 'ready', 'status: ready');
	like($row{detail}{server}, qr/127\.0\.0\.1:${\$redis->port}/, 'status: the server');
	is($row{detail}{connects}, 1, 'status: one connection since the start');
	is($mirror->resyncs, 1, 'status: filled once');
	is($row{detail}{resyncs_connected}, 1, 'status: because it connected');
	ok(!exists $row{detail}{problem}, 'status: no problem');
	cmp_ok($row{detail}{watermark_age_ms}, '<', 20_000, 'status: the watermark is young');
	my $members = scalar(keys %{ $mirror->members });
	eventually(sub { return $mirror->detail->{members} == $members; }, 'status: the number of members');
	is(value($sql, "SELECT state FROM apikey.worker_state('mirror')"), 'ok', 'status: the worker');
	my %metric = map { $_->{name} => $_->{value} } rows($sql, "SELECT name, value FROM apikey.metrics WHERE name LIKE 'apikey\\_mirror\\_%' AND name NOT LIKE '%resyncs%'");
	is($metric{apikey_mirror_configured}, 1, 'metrics: configured');
	is($metric{apikey_mirror_ready}, 1, 'metrics: ready');
	is($metric{apikey_mirror_members}, $members, 'metrics: members');
	is($metric{apikey_mirror_connects_total}, 1, 'metrics: connections');
	is($metric{apikey_mirror_connection_failures_total}, 0, 'metrics: failures');
	cmp_ok($metric{apikey_mirror_rows_sent_total}, '>', 100, 'metrics: rows');
	cmp_ok($metric{apikey_mirror_bytes_sent_total}, '>', 10_000, 'metrics: bytes sent');
	cmp_ok($metric{apikey_mirror_bytes_received_total}, '>', 1_000, 'metrics: bytes received');
	is($metric{apikey_mirror_outbox_rows}, 0, 'metrics: nothing waits');
	is(value($sql, "SELECT sum(value) FROM apikey.metrics WHERE name = 'apikey_mirror_resyncs_total'"), 1, 'metrics: filled once');
	is(value($sql, 'SELECT count(*) FROM apikey.outbox'), 0, 'the outbox is empty');
	# Watermarks and heartbeats go on when nothing happens, and the connection with them.
	my ($before) = $mirror->metas;
	eventually(sub { my ($now) = $mirror->metas; return $now->{watermark_ms} > $before->{watermark_ms} && $now->{heartbeat_ms} > $before->{heartbeat_ms}; },
		'the watermark moves on by itself');
	value($sql, 'SELECT pg_reload_conf()');
	$mirror->settle;
	is($mirror->detail->{connects}, 1, 'a reload that changes nothing leaves the connection alone');
	is(scalar(grep { ($_->{run_id} // '') ne $redis->info('server')->{run_id} } $mirror->metas), 0, 'each bucket names the process that holds it');
	is($mirror->check('01890000-0000-7000-8000-000000000000', 1, 60_000, '0' x 40), 'unknown server', 'a node that talks to another process is told');
}

# Redis never gets a token to see.
{
	my @names = @{ $redis->command('KEYS', '*') };
	is(scalar(grep { !/^\{ak:\Q$mirror->{namespace}\E:(?:[0-9a-f]|jwks|roles)\}/ } @names), 0, 'all keys are in the namespace');
	my $all = '';
	for my $name (@names)
	{
		my $type = $redis->command('TYPE', $name);
		my $dump = $type eq 'string' ? [ $redis->command('GET', $name) ]
		  : $type eq 'hash' ? $redis->command('HGETALL', $name)
		  : $type eq 'zset' ? $redis->command('ZRANGE', $name, 0, -1)
		  :                   [ map { @{ $_->[1] } } @{ $redis->command('XRANGE', $name, '-', '+') } ];
		$all .= join("\n", $name, @$dump) . "\n";
	}
	is(scalar(grep { index($all, (split /\./)[-1]) >= 0 } @tokens), 0, 'no token, nor its signature, is in Redis');
	unlike($all, qr/owner \d|acme/, 'nor an owner');
}

#
# apikey.redis_url decides whether there is a worker, and where it writes.
#
sub worker_pid { my ($database) = @_; return value($sql, "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'apikey mirror' AND datname = '" . ($database // 'postgres') . "'"); }

# Sockets of the server's processes that lead to Redis, or to any other address: lines of /proc/net.
sub sockets_of_server
{
	my $postmaster = (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
	my %inode;
	for my $pid ($postmaster, split(/\n/, value($node, 'SELECT pid FROM pg_stat_activity')))
	{
		for my $fd (glob "/proc/$pid/fd/*")
		{
			my $target = readlink $fd // next;
			$inode{$1} = $pid if $target =~ /^socket:\[(\d+)\]$/;
		}
	}
	die 'could not look at the sockets' unless keys %inode;
	my @found;
	for my $table (grep { -r $_ } map { "/proc/net/$_" } qw(tcp tcp6 udp udp6))
	{
		push @found, grep { (split)[9] =~ /^\d+$/ && exists $inode{ (split)[9] } } split(/\n/, slurp_file($table));
	}
	return scalar @found;
}
sub clients_of { my ($server) = @_; return scalar(split(/\n/, $server->command('CLIENT', 'LIST'))) - 1; }
{
	my $first = worker_pid();
	cmp_ok($first, '>', 0, 'a mirror worker');
	cmp_ok(sockets_of_server(), '>=', 1, 'has a socket');
	is(clients_of($redis), 1, 'one client of Redis');

	set('apikey.redis_url' => '');
	eventually(sub { return worker_pid() == 0; }, 'unset by a reload: the worker ends');
	is(value($sql, "SELECT state, detail->>'reason' FROM apikey.status() WHERE component = 'mirror'"), 'off|apikey.redis_url is not set', 'status: off');
	is(sqlstate($sql, $_), '55000', "without a Redis: $_") for "SELECT apikey.wait_mirrored('100')", 'SELECT apikey.mirror_resync()', 'SELECT apikey.mirror_takeover()';
	is(value($sql, 'SELECT apikey.wait_mirrored(NULL) IS NULL'), 't', 'without a Redis: NULL all the same');
	my $connections = $redis->info('stats')->{total_connections_received};
	my %key = new_key();
	my %role = row($sql, "SELECT receipt FROM apikey.revoke('$key{key_id}')");
	value($sql, "UPDATE apikey.role SET permissions = permissions WHERE name = 'basic'; SELECT apikey.rotate_signing_key('EdDSA')");
	cmp_ok(value($sql, 'SELECT count(*) FROM apikey.outbox'), '>', 0, 'rows are written to the outbox all the same');
	eventually(sub { return value($sql, 'SELECT count(*) FROM apikey.outbox') == 0; }, 'and the maintenance worker deletes them');
	code($sql, $key{token});
	is(sockets_of_server(), 0, 'no process of the server has a socket but its own clients');
	is(clients_of($redis), 0, 'and Redis has no client');
	is($redis->info('stats')->{total_connections_received}, $connections, 'nor had one meanwhile');
	is($mirror->check($key{key_id}, 1, 60_000), 'ok', 'Redis has not heard of it');
	eventually(sub { return $mirror->check($key{key_id}, 1, 1000) eq 'unknown stale'; }, 'and is stale');

	set('apikey.redis_url' => $url);
	$mirror->await_ready;
	is($mirror->check($key{key_id}, 1), 'revoked key', 'set again: everything is told');
	$mirror->is_exact('after a time without Redis');
	isnt(worker_pid(), $first, 'by another worker');

	# To another server, through its unix socket.
	my $second = RedisServer->start(name => 'second');
	my $there = MirrorTest->new($node, $second);
	my $pid = worker_pid();
	set('apikey.redis_url' => 'unix://' . $second->socket_path);
	wait_until(sub { return $there->is_ready; }, 'the other server is filled');
	$there->await_ready;
	is(worker_pid(), $pid, 'changed by a reload: the worker goes on');
	is(clients_of($redis), 0, 'and leaves the first server');
	$there->is_exact('in the other server');
	my %other = new_key();
	value($sql, "SELECT apikey.revoke('$other{key_id}')");
	$there->settle;
	is($there->check($other{key_id}, 1), 'revoked key', 'what comes next goes there');
	is(sqlstate($sql, "ALTER SYSTEM SET apikey.redis_url = $_"), '22023', "no URL: $_") for "'redis//x'", "'redis://u:secret\@h/'";
	$there->leave;

	# Nobody there.
	my $offset = log_size();
	my $port = RedisServer::free_port();
	set('apikey.redis_url' => "redis://127.0.0.1:$port");
	is($mirror->await_state('connecting'), 'connecting', 'a server that is not there: connecting');
	eventually(sub { return ($mirror->detail->{problem} // '') =~ /refused/i; }, 'and why');
	value($sql, "SELECT apikey.disable('$other{key_id}') WHERE false; UPDATE apikey.role SET permissions = permissions WHERE name = 'basic'");
	is(code($sql, $other{token}), 'REVOKED', 'validation does not care');
	set('apikey.redis_url' => $url);
	$mirror->await_ready;
	my @said = log_since($offset) =~ /mirror is not in order: .*/g;
	cmp_ok(scalar(@said), '>=', 1, 'the log has it');
	is($mirror->check($other{key_id}, 1), 'revoked key', 'back at the first server: what went elsewhere is told');
	$mirror->is_exact('back at the first server');
	$second->stop;
}

#
# Namespaces, and two databases
#
value($sql, 'CREATE DATABASE other');
value($node, 'CREATE EXTENSION apikey', database => 'other');
my $other = MirrorTest->new($node, $redis, database => 'other');
isnt($other->{namespace}, $mirror->{namespace}, 'each database has its namespace');
{
	set('apikey.databases' => 'postgres, other');
	$other->await_ready;
	my %here = new_key();
	my %there = issue($other->sql);
	value($sql, "SELECT apikey.revoke('$here{key_id}')");
	value($other->sql, "SELECT apikey.revoke('$there{key_id}')");
	$_->settle for $mirror, $other;
	is($mirror->check($here{key_id}, 1) . ', ' . $other->check($there{key_id}, 1), 'revoked key, revoked key', 'each database tells its own');
	is($mirror->check($there{key_id}, 1) . ', ' . $other->check($here{key_id}, 1), 'ok, ok', "and nothing of the other's");
	$_->is_exact('two databases') for $mirror, $other;
	is(clients_of($redis), 2, 'two clients of Redis');

	# Everything again under a name that was given. Only one database can have it.
	set('apikey.databases' => 'postgres');
	eventually(sub { return worker_pid('other') == 0; }, 'the worker of the other database ends');
	set('apikey.redis_namespace' => 'shop.1_a-b');
	my $shop = MirrorTest->new($node, $redis, namespace => 'shop.1_a-b');
	$shop->await_ready;
	$shop->is_exact('a namespace that was set');
	is_deeply($redis->command('GET', '{ak:shop.1_a-b:jwks}'), $redis->command('GET', $mirror->name_in('jwks')), 'the key set, too');
	my $before = $shop->members;
	set('apikey.databases' => 'postgres, other');
	is($other->await_state('foreign'), 'foreign', 'a second database with the same namespace: foreign');
	like($other->detail->{problem}, qr/mirror_takeover/, 'and it says what can be done');
	$shop->settle;
	is($shop->state, 'ready', 'the first one is not disturbed');
	is_deeply($shop->members, $before, 'and nothing has been written');
	is(sqlstate($sql, q{ALTER SYSTEM SET apikey.redis_namespace = 'a b'}), '22023', 'what is no namespace is refused');
	$shop->leave;
	set('apikey.redis_namespace' => '');
	$_->await_ready for $mirror, $other;
	$_->is_exact('back to the default') for $mirror, $other;
}

#
# DROP DATABASE, also while Redis does not answer
#
{
	value($sql, 'CREATE DATABASE third');
	value($node, 'CREATE EXTENSION apikey', database => 'third');
	set('apikey.databases' => 'postgres, other, third');
	my $third = MirrorTest->new($node, $redis, database => 'third');
	$third->await_ready;
	$_->leave for $third, $other;
	my $began = time;
	is(sqlstate($sql, 'DROP DATABASE third'), '00000', 'DROP DATABASE with the mirror at work');
	figure('DROP DATABASE with the mirror at work, ms', int(1000 * (time - $began)));
	eventually(sub { return clients_of($redis) == 2; }, 'its worker has left Redis');
	$redis->pause;
	$began = time;
	my $other_pid = worker_pid('other');
	is(sqlstate($sql, 'DROP DATABASE other'), '00000', 'DROP DATABASE while Redis does not answer');
	my $took = time - $began;
	$redis->resume;
	cmp_ok($took, '<', 20, 'does not wait for it');
	figure('DROP DATABASE while Redis does not answer, ms', int(1000 * $took));
	set('apikey.databases' => 'postgres');
	$mirror->await_ready;
	is($mirror->state, 'ready', 'the other mirror is not concerned');
}

#
# A dump of a database with changes that wait
#
{
	my %key = new_key();
	my %disabled = new_key();
	value($sql, "SELECT apikey.disable('$disabled{key_id}')");
	$mirror->settle;
	$redis->stop;
	is($mirror->await_state('connecting'), 'connecting', 'without Redis: connecting');
	value($sql, "SELECT apikey.revoke('$key{key_id}'); SELECT apikey.enable('$disabled{key_id}')");
	cmp_ok(value($sql, 'SELECT count(*) FROM apikey.outbox'), '>=', 2, 'changes wait in the outbox');
	is(value($sql, q{SELECT count(*) FROM apikey.metrics WHERE name = 'apikey_mirror_ready' AND value = 0}), 1, 'metrics: not ready');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
	$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
	value($sql, 'CREATE DATABASE restored');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
	is(value($node, 'SELECT count(*) FROM apikey.mirror_epoch', database => 'restored'), 0, 'what the first database did in Redis is not copied');
	$redis->restart;
	set('apikey.databases' => 'postgres, restored');
	my $restored = MirrorTest->new($node, $redis, database => 'restored');
	$_->await_ready for $mirror, $restored;
	$_->is_exact('after a restore') for $mirror, $restored;
	is($_->check($key{key_id}, 1) . ', ' . $_->check($disabled{key_id}, 1), 'revoked key, ok', 'what waited is told') for $mirror, $restored;
	is(value($restored->sql, 'SELECT count(*) FROM apikey.outbox'), 0, 'nothing waits any more');
	$restored->leave;
	set('apikey.databases' => 'postgres');
	is(sqlstate($sql, 'DROP DATABASE restored'), '00000', 'DROP DATABASE');
}

#
# A standby has no mirror. When it is promoted, it has, and the old primary is fenced.
#
{
	my $standby = new_standby('mirror_standby', $node);
	my $connections = $redis->info('stats')->{total_connections_received};
	is(sqlstate($standby, $_), '55000', "on a standby: $_") for "SELECT apikey.wait_mirrored('100')", 'SELECT apikey.mirror_resync()', 'SELECT apikey.mirror_takeover()';
	is(value($standby, "SELECT state FROM apikey.status() WHERE component = 'mirror'"), 'standby', 'on a standby: status');
	my %key = new_key();
	value($sql, "SELECT apikey.revoke('$key{key_id}')");
	$node->wait_for_catchup($standby);
	is(value($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey mirror'"), 0, 'on a standby: no worker');
	is($redis->info('stats')->{total_connections_received}, $connections, 'and no connection');
	$standby->promote;
	my $promoted = MirrorTest->new($standby, $redis);
	$promoted->await_ready;
	is($mirror->await_state('fenced'), 'fenced', 'promoted: the old primary is fenced');
	my %new = issue($promoted->sql);
	value($promoted->sql, "SELECT apikey.revoke('$new{key_id}')");
	$promoted->settle;
	is($promoted->check($new{key_id}, 1), 'revoked key', 'promoted: it tells Redis');
	$promoted->is_exact('promoted');
	# The old primary takes it back, as an admin says.
	$promoted->leave;
	$standby->stop;
	value($sql, 'SELECT apikey.mirror_takeover()');
	$mirror->await_ready;
	$mirror->settle;
	is($mirror->check($new{key_id}, 1), 'revoked key', "taken back: what the other one withdrew stays");
	is_deeply([ map { $_->{member} } rows($sql, 'SELECT member FROM apikey.mirror_diff()') ], [ $new{key_id} ], 'and is listed');
	my %diff = row($sql, 'SELECT * FROM apikey.mirror_diff()');
	is($diff{key_id} . ' ' . ($diff{generation} // 'all') . ' ' . $diff{kind}, "$new{key_id} all withdrawn", 'in full');
	$redis->command('ZREM', $mirror->name($new{key_id}, 'rev'), $new{key_id});
	wait_until(sub { return value($sql, 'SELECT count(*) FROM apikey.mirror_diff()') == 0 && $mirror->is_ready; }, 'the list is made anew at the next resync');
	$mirror->is_exact('taken back');
}

#
# DROP EXTENSION and CREATE EXTENSION: what is in Redis was another's, also when the worker has not seen it go.
#
for my $commands ([ 'BEGIN; DROP EXTENSION apikey CASCADE; CREATE EXTENSION apikey; COMMIT' ], [ 'DROP EXTENSION apikey CASCADE', 'CREATE EXTENSION apikey' ])
{
	my $what = join(', then ', @$commands);
	my %old = new_key();
	value($sql, "SELECT apikey.revoke('$old{key_id}')");
	$mirror->settle;
	my @before = $mirror->metas;
	$mirror->leave;
	my $offset = log_size();
	is(sqlstate($node, $_), '00000', "$_, with the mirror at work") for @$commands;
	$sql = $mirror->sql;
	# Fenced after that standby: its timeline is later.
	eventually(sub { return $mirror->state =~ /^(?:foreign|fenced)$/; }, "$what: not ours");
	my $problem = $mirror->detail->{problem} // '';
	like($problem, qr/mirror_takeover\(\)/, "$what: status says what can be done");
	like(log_since($offset), qr/mirror is not in order: \Q$problem\E/, "$what: and the log");
	my %new = new_key();
	my $receipt = receipt_of("apikey.revoke('$new{key_id}')");
	is(value($sql, "SELECT apikey.wait_mirrored('$receipt', '300 ms')"), 'f', "$what: nothing is mirrored");
	is_deeply([ map { $_->{epoch} } $mirror->metas ], [ map { $_->{epoch} } @before ], "$what: nothing is written");
	is($mirror->check($new{key_id}, 1, 100), 'unknown stale', "$what: and nodes are not told that all is well");
	value($sql, 'SELECT apikey.mirror_takeover()');
	$mirror->await_ready;
	$mirror->settle;
	is($mirror->check($new{key_id}, 1), 'revoked key', "$what: mirror_takeover(): it is this database's");
	is($mirror->check($old{key_id}, 1), 'revoked key', "$what: and what was withdrawn before stays");
	cmp_ok(scalar(rows($sql, "SELECT member FROM apikey.mirror_diff() WHERE key_id = '$old{key_id}'")), '==', 1, "$what: mirror_diff() lists it");
	is(($mirror->metas)[0]{gen} gt $before[0]{gen} ? 1 : 0, 1, "$what: as a newer writer");
}
$mirror->leave;
# Nothing of all that may have ended a worker.
unlike(slurp_file($node->logfile), qr/(?:background worker "apikey[^\n]*exited with exit code|terminated by signal|PANIC)/, 'no worker failed');
$node->stop;

done_testing();
