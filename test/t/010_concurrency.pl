# Many sessions that want the same thing at once: they are lined up behind a lock, and let go together.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('concurrency', conf => "max_connections = 130\nfsync = off\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE answer (kind text, sqlstate text, message text, detail jsonb, key_id uuid, generation integer, token text);
CREATE FUNCTION try_refresh(kind text, token text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    explanation text;
BEGIN
    INSERT INTO answer SELECT try_refresh.kind, '00000', NULL, NULL, r.key_id, r.generation, r.token FROM apikey.refresh(try_refresh.token) r;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS explanation = PG_EXCEPTION_DETAIL;
    INSERT INTO answer VALUES (try_refresh.kind, SQLSTATE, SQLERRM, nullif(explanation, '')::jsonb);
END
$$;
CREATE FUNCTION try_issue(kind text, format text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO answer SELECT try_issue.kind, '00000', NULL, NULL, i.key_id, i.generation, i.token
      FROM apikey.issue('racers', format => try_issue.format, idempotency_key => try_issue.kind) i
$$;
SQL

# Runs $sql in $clients sessions at once. $gate holds, in a transaction of its own, what they all wait for, until every one does.
sub race
{
	my ($clients, $gate, $sql, %variables) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/race.sql';
	write_file($script, "$sql;\n", 0644);

	my $keeper = session($node);
	value($keeper, "BEGIN; $gate");
	my ($output, $errors) = ('', '');
	local $ENV{PGAPPNAME} = 'racer';
	my $racers = IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-M', 'prepared', '-c', $clients, '-j', 1, '-t', 1, '-f', $script,
			(map { ('-D', "$_=$variables{$_}") } sort keys %variables), 'postgres' ],
		'>', \$output, '2>', \$errors);
	my $waiting = "SELECT count(*) = $clients FROM pg_stat_activity WHERE application_name = 'racer' AND wait_event_type = 'Lock'";
	my $lined_up = $node->poll_query_until('postgres', $waiting);
	value($keeper, 'ROLLBACK');
	my $finished = $racers->finish;
	$keeper->quit;
	ok($lined_up && $finished, "$clients sessions at once: $sql") or diag($errors);
	return;
}

# One key, 100 sessions, one token.
for my $format (qw(jwt opaque))
{
	my %key = issue($node, owner => 'racers', ttl => '1 hour', format => $format);
	my $id = literal($key{key_id});
	race(100, "SELECT FROM apikey.key WHERE key_id = $id FOR UPDATE", 'SELECT try_refresh(:kind, :token)', kind => $format, token => $key{token});

	my %stored = row($node, "SELECT generation, state FROM apikey.key WHERE key_id = $id");
	is_deeply(\%stored, { generation => 2, state => 'active' }, "$format: exactly one generation is added");
	is(value($node, "SELECT count(*) FROM apikey.audit_event WHERE event = 'refreshed' AND key_id = $id"), 1, "$format: one audit event");
	is(value($node, "SELECT count(*) FROM apikey.revocation WHERE key_id = $id"), 1, "$format: one withdrawal");
	is(code($node, $key{token}), 'VALID', "$format: the old token validates during the grace");

	my @winners = rows($node, "SELECT DISTINCT key_id, generation, token FROM answer WHERE kind = '$format' AND sqlstate = '00000'");
	is(scalar(@winners), 1, "$format: one successor");
	is_deeply([ @{ $winners[0] }{qw(key_id generation)} ], [ $key{key_id}, 2 ], "$format: of the same key, one generation up");
	is(code($node, $winners[0]{token}), 'VALID', "$format: and it is valid");
}
is(value($node, "SELECT count(*) FROM answer WHERE kind = 'jwt' AND sqlstate = '00000'"), 100, 'jwt: all 100 sessions get it');
is(value($node, "SELECT count(*) FROM answer WHERE kind = 'opaque' AND sqlstate = '00000'"), 1, 'opaque: one session gets it');
is( value(
		$node, "SELECT count(*) FROM answer WHERE kind = 'opaque' AND sqlstate = 'PT409' AND message = 'ALREADY_REFRESHED'"
		  . " AND detail ->> 'generation_in_force' = '2'"),
	99,
	'opaque: the others are told which generation is in force');

# One idempotency key, 20 sessions.
for my $format (qw(jwt opaque))
{
	race(
		20,
		"SELECT apikey.issue('racers', format => '$format', idempotency_key => 'order-$format')",
		'SELECT try_issue(:kind, :format)', kind => "order-$format", format => $format);
	my %answers = row($node, 'SELECT count(*) AS answers, count(DISTINCT key_id) AS keys, count(token) AS tokens, count(DISTINCT token) AS distinct_tokens'
		  . " FROM answer WHERE kind = 'order-$format'");
	is_deeply(
		\%answers,
		{ answers => 20, keys => 1, tokens => $format eq 'jwt' ? 20 : 1, distinct_tokens => 1 },
		"$format: 20 sessions with one idempotency key get one key, and " . ($format eq 'jwt' ? 'all its token' : 'one of them its token'));
	is(value($node, "SELECT count(*) FROM apikey.key WHERE idempotency_key = 'order-$format'"), 1, "$format: one key is stored");
	is(value($node, "SELECT count(*) FROM apikey.audit_event a JOIN apikey.key k USING (key_id) WHERE k.idempotency_key = 'order-$format'"),
		1, "$format: one audit event");
	is(code($node, value($node, "SELECT token FROM answer WHERE kind = 'order-$format' AND token IS NOT NULL LIMIT 1")), 'VALID', "$format: and its token is valid");
}

$node->stop;
done_testing();
