# A crash takes back nothing that was answered: a revocation is on disk when its COMMIT returns, whatever synchronous_commit says.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

# A commit that does not wait for its WAL leaves it in memory for seconds, where a crash destroys it.
my $node = new_cluster(
	'crash',
	conf => <<~CONF);
		restart_after_crash = on
		synchronous_commit = off
		wal_writer_delay = 10s
		full_page_writes = off
		CONF
value($node, 'CREATE TABLE control (attempt integer)');

sub new_key { return issue($node, owner => $_[0], ttl => '1 hour'); }

sub wait_for_recovery
{
	my ($offset) = @_;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT 1', '1') or die 'the server did not come back';
	return;
}

# Each way to withdraw a token, in a transaction of its own, with the crash right behind it.
my @withdrawals = (
	[ 'revoke() by id', 'REVOKED', sub { "SELECT * FROM apikey.revoke('$_[0]{key_id}')" } ],
	[ 'revoke_token()', 'REVOKED', sub { 'SELECT * FROM apikey.revoke_token(' . literal($_[0]{token}) . ')' } ],
	[ 'revoke_owner()', 'REVOKED', sub { "SELECT apikey.revoke_owner('$_[0]{owner}')" } ],
	[ 'plain UPDATE', 'REVOKED', sub { "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]{key_id}'" } ],
	[ 'plain DELETE', 'NOT_FOUND', sub { "DELETE FROM apikey.key WHERE key_id = '$_[0]{key_id}'" } ],
	[ 'disable()', 'DISABLED', sub { "SELECT apikey.disable('$_[0]{key_id}')" } ],
	[ 'an earlier expiry', 'EXPIRED', sub { "UPDATE apikey.key SET expires_at = now() WHERE key_id = '$_[0]{key_id}'" } ],
	[ 'refresh without grace', 'SUPERSEDED',
		sub { 'SET apikey.refresh_grace = 0; SELECT generation FROM apikey.refresh(' . literal($_[0]{token}) . ')' } ]);
my $attempt = 0;
for (@withdrawals)
{
	my ($what, $expected, $statement) = @$_;
	$attempt++;
	my %key = new_key("owner $attempt");
	# Everything so far is on disk.
	value($node, 'SET synchronous_commit = on; INSERT INTO control VALUES (0)');
	my $session = session($node);
	my $pid = value($session, 'SELECT pg_backend_pid()');
	is(code($session, $key{token}), 'VALID', "$what: valid before");
	my $offset = -s $node->logfile;
	value($session, $statement->(\%key));
	value($session, "INSERT INTO control VALUES ($attempt)");
	kill('KILL', $pid) or die "could not kill $pid: $!";
	wait_for_recovery($offset);
	is(code($node, $key{token}), $expected, "$what: $expected after the crash that followed at once");
	$session->quit;
}
# Or else the crashes above were none.
cmp_ok(value($node, 'SELECT count(*) FROM control WHERE attempt > 0'), '<', scalar(@withdrawals), 'other commits were lost in these crashes');

# Many revocations in a row, from two connections, when a third one crashes the server or it is stopped at once.
my %crash = (
	'kill -9 of a backend' => sub {
		my ($bystander) = @_;
		my $offset = -s $node->logfile;
		kill('KILL', $bystander) or die "could not kill $bystander: $!";
		return sub { wait_for_recovery($offset) };
	},
	'immediate stop' => sub {
		$node->stop('immediate');
		return sub { $node->start };
	});
for my $what (sort keys %crash)
{
	my $count = 300;
	value($node, "SELECT count((apikey.issue('$what', 'basic', n::text, format => 'opaque')).token) FROM generate_series(1, $count) n");
	my %kept = new_key("$what, kept");
	my %disabled = new_key("$what, disabled");
	value($node, "SELECT apikey.disable('$disabled{key_id}')");
	value($node, 'SET synchronous_commit = on; INSERT INTO control VALUES (0)');
	my @ids = split(/\n/, value($node, "SELECT key_id FROM apikey.key WHERE owner = '$what'"));
	is(scalar(@ids), $count, "$what: keys to revoke");

	# The third connection keeps the other two from ending before the crash.
	my $bystander = session($node);
	my $pid = value($bystander, 'SELECT pg_backend_pid()');
	value($bystander, 'BEGIN; LOCK TABLE control IN ACCESS EXCLUSIVE MODE');
	my @output = ('', '');
	my @errors = ('', '');
	my @clients;
	for my $half (0, 1)
	{
		my $script = join('', map { "SELECT key_id FROM apikey.revoke('$ids[$_]');\n" } grep { $_ % 2 == $half } 0 .. $#ids);
		$script .= "SELECT count(*) FROM control;\n";
		push @clients, '&' if @clients;
		push @clients, [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ],
		  '<', \$script, '>', \$output[$half], '2>', \$errors[$half];
	}
	my $clients = IPC::Run::start(@clients, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	my $answered = sub { return map { /^([0-9a-f-]{36})\n/mg } @output };
	while ((my @so_far = $answered->()) < 40)
	{
		$clients->pumpable or die "no answers: @errors";
		$clients->pump;
	}
	my $recovered = $crash{$what}->($pid);
	$clients->finish;
	$recovered->();
	$bystander->quit;

	my @answered = $answered->();
	like($_, qr/server closed the connection unexpectedly|connection to server was lost|terminating connection/, "$what: came upon a client at work") for @errors;
	my $list = join(',', map { "'$_'" } @answered);
	is( value($node, "SELECT count(*) FROM apikey.key WHERE key_id IN ($list) AND state = 'revoked'"),
		scalar(@answered), "$what: every revocation that was answered has stayed");
	is( value($node, "SELECT count(*) FROM apikey.revocation WHERE key_id IN ($list) AND generation IS NULL AND kind = 'withdrawn'"),
		scalar(@answered), "$what: with its withdrawal");
	is( value($node, "SELECT count(*) FROM apikey.audit_event WHERE key_id IN ($list) AND event = 'revoked'"),
		scalar(@answered), "$what: and its audit event");
	is( value($node, "SELECT count(*) FROM apikey.key k WHERE owner = '$what' AND (state = 'revoked') <>"
			  . ' EXISTS (SELECT FROM apikey.revocation r WHERE r.key_id = k.key_id)'),
		'0', "$what: those that were not answered are revoked wholly or not at all");
	is(code($node, $kept{token}), 'VALID', "$what: a key that was issued before validates");
	is(code($node, $disabled{token}), 'DISABLED', "$what: a disabled one stays disabled");
	my %new = new_key("$what, after");
	is(code($node, $new{token}), 'VALID', "$what: keys are issued afterwards");
}

done_testing();
