# What the mirror worker tells Redis, and when; who may be told that it has; and what it says of itself. Its life is in 050_mirror_life.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $redis = RedisServer->start(name => 'first', port => 1);
my $url = 'redis://127.0.0.1:' . $redis->port;
my $node = new_cluster('mirror', conf => <<CONF);
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
sub eventually { my ($sub, $what) = @_; return ok(eval { wait_until($sub, $what) }, $what); }

# A key that can be refreshed at any time, unless it is asked for otherwise.
sub new_key { return issue($sql, ttl => '1 hour', @_); }
sub expiry { my ($key_id) = @_; return value($sql, "SELECT floor(extract(epoch FROM expires_at)) FROM apikey.key WHERE key_id = '$key_id'"); }
sub receipt_of { my ($statement) = @_; return value($sql, "SELECT receipt FROM $statement"); }

$mirror->is_exact('at first');
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
	is($wait->($receipt, $_), 't', "a timeout of $_, of what is there") for '0', '170000000 years';
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
	is($row{detail}{namespace}, $mirror->{namespace}, 'status: the namespace');
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

$mirror->leave;
# Nothing of all that may have ended a worker.
unlike(slurp_file($node->logfile), qr/(?:background worker "apikey[^\n]*exited with exit code|terminated by signal|PANIC)/, 'no worker failed');
$node->stop;

done_testing();
