# The master key file: who makes it and when, what is refused, and that a missing or wrong one never turns into a false verdict.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('master_key', streaming => 1);
my $path = $node->data_dir . '/apikey_master.key';

sub state_of { return value($_[0] // $node, "SELECT state FROM apikey.status() WHERE component = 'master_key'"); }
sub detail_of { return value($_[0] // $node, "SELECT detail ->> 'detail' FROM apikey.status() WHERE component = 'master_key'"); }

# Nothing that only looks makes the file.
ok(!-e $path, 'CREATE EXTENSION makes no master key');
is(code($node, 'nonsense'), 'MALFORMED', 'a made-up token');
is(sqlstate($node, "SELECT apikey.refresh('nonsense')"), 'PT401', 'a made-up token is not refreshed');
is(value($node, "SELECT apikey.revoke_owner('nobody')"), '0', 'revoking the keys of nobody');
is(sqlstate($node, "SELECT apikey.revoke('00000000-0000-7000-8000-000000000000')"), 'PT404', 'revoking a key that does not exist');
is(value($node, "SELECT apikey.jwks()"), '{"keys": []}', 'the key set is empty');
is(sqlstate($node, "SELECT apikey.issue('acme', 'no_such_role')"), '22023', 'issuing with a wrong argument');
is(state_of(), 'missing', 'status() says that it is missing');
like(detail_of(), qr/"apikey_master\.key" does not exist/, 'and what');
ok(!-e $path, 'none of them makes a master key');

# Waiting for a verdict takes many a validation.
value($node, "UPDATE apikey.role SET rate_limit = NULL WHERE name = 'basic'");

# The first issue does.
my $offset = -s $node->logfile;
my %eddsa = issue($node);
is(mode_of($path), '0600', 'the first issue makes it, for the server only');
is(-s $path, 32, 'with 32 bytes');
$node->wait_for_log(qr/LOG:  apikey: created master key file "apikey_master\.key"/, $offset);
is_deeply([ glob($node->data_dir . '/apikey_master*') ], [$path], 'and leaves nothing else behind');
is(state_of(), 'ok', 'status() says ok');
my $right = slurp_file($path);
isnt($right, "\0" x 32, 'it is not empty');
my %opaque = issue($node, format => 'opaque');
value($node, "SELECT apikey.rotate_signing_key('HS256')");
my %hs256 = issue($node);
my %previous = issue($node, ttl => '1 hour');
my %current = refresh($node, $previous{token});
is(slurp_file($path), $right, 'it is made once');
my %ghost = issue($node);
value($node, "DELETE FROM apikey.key WHERE key_id = '$ghost{key_id}'");
my %token = (eddsa => $eddsa{token}, opaque => $opaque{token}, hs256 => $hs256{token}, previous => $previous{token}, current => $current{token});

# What a session says while the file is wrong, in a session that had used it before and in a new one; and that it recovers.
my $long = session($node);
is(code($long, $token{$_}), 'VALID', "to begin with: $_") for sort keys %token;

sub is_unavailable
{
	my ($what, $log, $state, $break) = @_;
	my $from = -s $node->logfile;
	unlink $path or die "could not remove $path: $!";
	$break->();
	# A session looks at the file again within a second.
	await_code($long, $token{eddsa}, 'UNAVAILABLE');
	for ([ 'a session that had read it', $long ], [ 'a new session', $node ])
	{
		my ($who, $where) = @$_;
		my %verdicts = map { ($_ => { verdict($where, $token{$_}) }) } sort keys %token;
		is_deeply([ map { $verdicts{$_}{code} } sort keys %token ], [ ('UNAVAILABLE') x keys %token ], "$what: UNAVAILABLE to $who");
		is_deeply([ map { $verdicts{$_}{http_status} } sort keys %token ], [ (503) x keys %token ], "$what: 503 to $who");
		ok(!(grep { $_->{valid} } values %verdicts), "$what: nothing is valid to $who");
		is(code($where, $ghost{token}), 'NOT_FOUND', "$what: a key that is gone is gone to $who");
		is(value($where, 'SELECT apikey.check_token(' . literal($token{eddsa}) . ')'), 'f', "$what: check_token() to $who");
		is(sqlstate($where, 'SELECT apikey.require(' . literal($token{eddsa}) . ')'), 'PT503', "$what: require() to $who");
		is(sqlstate($where, 'SELECT apikey.refresh(' . literal($token{current}) . ')'), 'PT503', "$what: refresh() to $who");
		is(sqlstate($where, "SELECT apikey.issue('acme')"), 'PT503', "$what: issue() to $who");
		is(sqlstate($where, "SELECT apikey.issue('acme', format => 'opaque')"), 'PT503', "$what: issue() of an opaque token to $who");
		is(sqlstate($where, 'SELECT apikey.rotate_signing_key()'), 'PT503', "$what: rotate_signing_key() to $who");
		is(state_of($where), $state, "$what: status() to $who");
		like(detail_of($where), $log, "$what: status() says why to $who");
	}
	$node->wait_for_log(qr/LOG:  apikey: .*$log/, $from);
	pass("$what: the log says why");
	return;
}

sub is_right_again
{
	my ($what) = @_;
	-d $path && !-l $path ? rmdir($path) : unlink($path);
	write_file($path, $right, 0600);
	is_deeply([ map { code($long, $token{$_}) } sort keys %token ], [ ('VALID') x keys %token ], "after $what: VALID again, in the same session");
	return;
}

is_unavailable('no file', qr/master key file "apikey_master\.key" does not exist/, 'missing', sub { });
ok(!-e $path, 'a database that holds keys never makes a new file');
my ($said, $told) = run_sql($node, 'SET client_min_messages = log; SELECT code FROM apikey.validate(' . literal($token{eddsa}) . ')');
like($said, qr/UNAVAILABLE/, 'a client that asks for log messages');
unlike($told, qr/master/, 'is not told where the file should be');
# What needs no proof still works: revoking must always be possible.
my %victim = row($node, 'SELECT key_id FROM apikey.keys ORDER BY created_at LIMIT 1');
is(value($node, "BEGIN; SELECT already FROM apikey.revoke('$victim{key_id}'); ROLLBACK"), 'f', 'a key can be revoked by its id meanwhile');
is_right_again('no file');

for my $mode (0640, 0620, 0610, 0604, 0602, 0601, 0666)
{
	my $shown = sprintf('mode %04o', $mode);
	is_unavailable($shown, qr/has \Q$shown\E, and the server's user owns it; it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does/, 'refused', sub { write_file($path, $right, $mode) });
	is_right_again($shown);
}
for my $size (0, 31, 33, 64)
{
	is_unavailable(
		"$size bytes", qr/must hold exactly 32 bytes, but holds $size/, 'refused',
		sub { write_file($path, substr($right x 2, 0, $size), 0600) });
	is(-s $path, $size, "a file of $size bytes is left as it is");
	is_right_again("$size bytes");
}
is_unavailable('a directory', qr/is not a regular file/, 'refused', sub { mkdir $path, 0700 });
is_right_again('a directory');
is_unavailable('a fifo', qr/is not a regular file/, 'refused', sub { system_or_bail('mkfifo', '-m', '0600', $path) });
is_right_again('a fifo');
is_unavailable('a file that cannot be read', qr/cannot be opened: Permission denied/, 'refused', sub { write_file($path, $right, 0000) });
is_right_again('a file that cannot be read');
write_file($path, $right, 0400);
is(code($long, $token{eddsa}), 'VALID', 'mode 0400 is as good as 0600');
write_file($path, $right, 0600);

# Another place, by apikey.master_key_file and a reload.
my $outside = PostgreSQL::Test::Utils::tempdir() . '/outside.key';
rename($path, $outside) or die "could not move $path: $!";
is(await_code($long, $token{eddsa}, 'UNAVAILABLE'), 'UNAVAILABLE', 'the file has moved away');
$node->append_conf('postgresql.conf', "apikey.master_key_file = '$outside'");
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT apikey.check_token(' . literal($token{eddsa}) . ')'), 'a new session finds it after a reload');
await_code($long, $token{eddsa}, 'VALID');
is_deeply([ map { code($long, $token{$_}) } sort keys %token ], [ ('VALID') x keys %token ], 'and so does an older one');
ok(!-e $path, 'nothing is made in the old place');
my %outside = issue($node);
is(code($node, $outside{token}), 'VALID', 'keys are issued with the file outside the data directory');
$node->append_conf('postgresql.conf', "apikey.master_key_file = 'apikey_master.key'");
rename($outside, $path) or die "could not move $outside: $!";
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT apikey.check_token(' . literal($token{eddsa}) . ')'), 'and back');

# Another database of the cluster shares the file.
value($node, 'CREATE DATABASE other TEMPLATE template0');
value($node, 'CREATE EXTENSION apikey', database => 'other');
my %neighbour = issue($node, database => 'other');
is(code($node, $neighbour{token}, database => 'other'), 'VALID', 'a second database issues and validates');
is(code($node, $neighbour{token}), 'NOT_FOUND', 'for itself');
is(slurp_file($path), $right, 'under the same master key');
is_deeply(
	[ map { value($node, 'SELECT DISTINCT master_key_fingerprint FROM apikey.key', database => $_) } qw(postgres other) ],
	[ (value($node, 'SELECT master_key_fingerprint FROM apikey.key LIMIT 1')) x 2 ],
	'both say so');

# A base backup has the file, as it is; a standby without it makes none.
$node->backup('base');
my $copy = $node->backup_dir . '/base/apikey_master.key';
is(slurp_file($copy), $right, 'pg_basebackup copies the file');
is(mode_of($copy), '0600', 'with its mode');
my $standby = new_standby('bare', $node, before_start => sub { unlink $_[0]->data_dir . '/apikey_master.key' or die $! });
is(code($standby, $token{eddsa}), 'UNAVAILABLE', 'a standby without the file cannot tell');
is(sqlstate($standby, "SELECT apikey.issue('acme')"), '25006', 'and issues nothing');
is(state_of($standby), 'missing', 'and says so');
ok(!-e $standby->data_dir . '/apikey_master.key', 'and makes no file');
write_file($standby->data_dir . '/apikey_master.key', $right, 0600);
is(code($standby, $token{eddsa}), 'VALID', 'with the file it can');

# Another key in the file: nothing is validated, made or altered with it.
my $other = join('', map { chr(ord($_) ^ 0xff) } split(//, $right));
is_unavailable('another key', qr/is not the one that keys of this database were made under/, 'mismatch', sub { write_file($path, $other, 0600) });
is(slurp_file($path), $other, 'the wrong file is left as it is');
is_right_again('another key');
is(value($node, "SELECT count(DISTINCT master_key_fingerprint) FROM (SELECT master_key_fingerprint FROM apikey.key UNION ALL"
	  . " SELECT master_key_fingerprint FROM apikey.signing_key) f"), '1', 'nothing was made under another key');
is_deeply([ map { code($node, $token{$_}) } sort keys %token ], [ ('VALID') x keys %token ], 'nothing was lost');
$long->quit;
$_->stop for $standby, $node;

# Where it cannot be made.
$node = new_cluster('nowhere', conf => "apikey.master_key_file = 'no/such/directory/master.key'\n");
my $since = -s $node->logfile;
my %failure = failure($node, "SELECT apikey.issue('acme')");
is($failure{sqlstate}, '58030', 'a file that cannot be made is an error');
unlike(join(' ', values %failure), qr{no/such}, 'which does not tell the client where it should be');
$node->wait_for_log(qr{LOG:  apikey: could not create master key file "no/such/directory/master\.key": No such file or directory}, $since);
pass('but the log says where and why');
is(value($node, 'SELECT count(*) FROM apikey.key'), '0', 'and no key is issued');
$node->stop;

# The first keys of two databases, issued by many sessions at once: there is one file, and every token validates under it.
$node = new_cluster('first_issue');
$path = $node->data_dir . '/apikey_master.key';
my $sessions_each = 3;
my @old_tokens;

for my $round (1 .. 3)
{
	my @databases = map { "round_${round}_$_" } qw(a b);
	my (@holders, @issuers);
	for my $database (@databases)
	{
		value($node, "CREATE DATABASE $database TEMPLATE template0");
		value($node, 'CREATE EXTENSION apikey', database => $database);
	}
	ok(!-e $path, "round $round: there is no master key yet");
	is(code($node, $_, database => $databases[0]), 'NOT_FOUND', "round $round: a token of another database") for @old_tokens;
	ok(!-e $path, "round $round: which makes no master key");

	# All of them come as far as the roles, and are then let go at once.
	for my $database (@databases)
	{
		my $holder = session($node, database => $database);
		value($holder, 'BEGIN; LOCK TABLE apikey.role IN ACCESS EXCLUSIVE MODE');
		push @holders, $holder;
		for my $number (1 .. $sessions_each)
		{
			my $format = $number % 2 ? 'jwt' : 'opaque';
			my $session = session($node, database => $database);
			$session->query_until(qr/issuing/, "\\echo issuing\nSELECT token FROM apikey.issue('acme', format => '$format');\n");
			push @issuers, [ $database, $session ];
		}
	}
	my $all = @databases * $sessions_each;
	ok( $node->poll_query_until(
			'postgres', "SELECT count(*) = $all FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT token%'"),
		"round $round: all sessions wait");
	$_->{stdin} .= "COMMIT;\n" for @holders;
	$_->{run}->pump_nb for @holders;

	my @codes;
	@old_tokens = ();
	for (@issuers)
	{
		my ($database, $session) = @$_;
		my $output = $session->query_until(qr/^issued\n/m, "\\echo issued\n");
		my ($token) = $output =~ /^(\S+)\nissued\n/m or die "no token: $output $session->{stderr}";
		push @old_tokens, $token;
		push @codes, code($session, $token), code($node, $token, database => $database);
	}
	is_deeply(\@codes, [ ('VALID') x (2 * $all) ], "round $round: all tokens are valid, to their session and to a new one");
	is_deeply([ glob($node->data_dir . '/apikey_master*') ], [$path], "round $round: there is one file");
	is(-s $path, 32, "round $round: of 32 bytes");
	is( value($node, "SELECT count(*) FROM apikey.signing_key WHERE state = 'active'", database => $_),
		'1', "round $round: $_ has one signing key")
	  for @databases;
	$_->quit for @holders, map { $_->[1] } @issuers;
	unlink $path or die "could not remove $path: $!";
}

done_testing();
