# kill -9 of the mirror worker, and of backends, which makes the server start again: at random, in the midst of changes. Nothing that was
# withdrawn is lost, nothing that was enabled again stays withdrawn.
#
# APIKEY_MIRROR_ROUNDS says how many kills there are, APIKEY_MIRROR_SEED which.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use MirrorReader;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{APIKEY_MIRROR_ROUNDS} // 100;
my $seed = $ENV{APIKEY_MIRROR_SEED} // int(rand(1_000_000));
srand($seed);

my $redis = RedisServer->start(name => 'kills', port => 1);
my $node = new_cluster('kills', conf => <<CONF);
fsync = off
restart_after_crash = on
apikey.redis_url = 'unix://${\$redis->socket_path}'
CONF
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;

sub figure { my ($name, $value) = @_; note("$name: $value"); return; }
sub log_size { return -s $node->logfile; }
sub log_since { return substr(slurp_file($node->logfile), $_[0]); }

# A psql that runs these statements by itself.
sub start_psql
{
	my (@statements) = @_;
	my $output = '';
	my $process = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), map { ('-c', $_) } @statements ],
		'<', \undef, '>', \$output, '2>', \$output, IPC::Run::timeout($RedisServer::timeout));
	return { process => $process, output => \$output };
}

my @old = $mirror->make_keys('old', 200);
value($mirror->sql, "SELECT apikey.revoke_owner('old')");
$mirror->settle;

{
	my $per_round = 60;
	my $began = time;
	# Which state each key is to have in the end is in its name; each goes through others on its way, in transactions of its own.
	my $script = sub {
		my ($round, $part) = @_;
		return (<<"CHANGE", <<"AGAIN");
DO \$\$
DECLARE k record;
BEGIN
    FOR k IN SELECT key_id, name FROM apikey.key WHERE owner = 'round $round' AND name LIKE '% $part' AND state::text <> split_part(name, ' ', 1) ORDER BY random() LOOP
        IF split_part(k.name, ' ', 1) = 'revoked' THEN
            PERFORM apikey.revoke(k.key_id::text);
        ELSE
            PERFORM apikey.disable(k.key_id::text);
        END IF;
        COMMIT;
    END LOOP;
    FOR k IN SELECT key_id FROM apikey.key WHERE owner = 'round $round' AND name LIKE 'active % $part' AND state = 'disabled' ORDER BY random() LOOP
        PERFORM apikey.enable(k.key_id::text);
        COMMIT;
    END LOOP;
END \$\$;
CHANGE
DO \$\$
DECLARE k record;
BEGIN
    FOR k IN SELECT key_id FROM apikey.key WHERE owner = 'round $round' AND name LIKE 'active % $part' ORDER BY random() LOOP
        PERFORM apikey.disable(k.key_id::text);
        COMMIT;
        PERFORM apikey.enable(k.key_id::text);
        COMMIT;
    END LOOP;
END \$\$;
AGAIN
	};
	my %killed = (worker => 0, backend => 0);
	my $retries = 0;
	$mirror->leave;
	my $reader = MirrorReader->start($mirror, @old);
	for my $round (1 .. $rounds)
	{
		$mirror->make_keys("round $round", $per_round);
		value($node, "UPDATE apikey.key k SET name = (ARRAY['active', 'revoked', 'disabled'])[1 + n % 3] || ' ' || n || ' ' || n % 2 FROM "
			  . "(SELECT key_id, row_number() OVER () AS n FROM apikey.key WHERE owner = 'round $round') i WHERE i.key_id = k.key_id");
		# Sometimes the worker has only begun.
		my $victim = rand() < 0.6 ? 'worker' : 'backend';
		my $after = int(rand($per_round));
		my @writers = map { start_psql("SET application_name = 'writer $_'", $script->($round, $_)) } 0, 1;
		my $offset = log_size();
		my $query = $victim eq 'worker' ? "backend_type = 'apikey mirror'" : "application_name LIKE 'writer%'";
		my $pid = 0;
		wait_until(
			sub {
				my ($done, $found) = split(/\|/, value($node, "SELECT (SELECT count(*) FROM apikey.key WHERE owner = 'round $round' AND state <> 'active'), "
					  . "(SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE $query)"));
				$pid = $found;
				# Writers may have finished before.
				return $done >= $after / 2 && $pid > 0 || ($victim eq 'backend' && $done >= $per_round / 2);
			},
			"somebody to kill in round $round");
		if ($pid > 0 && kill('KILL', $pid))
		{
			# Unless it was just about to end by itself: then nothing follows.
			wait_until(
				sub {
					return 1 if log_since($offset) =~ /database system is ready to accept connections/;
					my $gone = !kill(0, $pid);
					# psql may end before it has read the query, which is an exception.
					my $answers = eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 };
					return $gone && $answers && log_since($offset) !~ /terminated by signal 9/;
				},
				"the server is there again in round $round");
			$killed{$victim}++ if log_since($offset) =~ /terminated by signal 9/;
		}
		eval { $_->{process}->finish } for @writers;
		# They come again until all is done.
		for my $part (0, 1)
		{
			wait_until(
				sub {
					$retries++;
					my (undef, $errors) = eval { run_sql($node, join('', $script->($round, $part))) };
					return defined $errors && $errors !~ /ERROR|FATAL|PANIC|could not connect|connection to server/;
				},
				"the changes of round $round are made");
		}
	}
	my $took = time - $began;
	my $sql = $mirror->sql;
	$mirror->await_ready;
	$mirror->settle;
	figure('seed', $seed);
	figure('rounds', $rounds);
	figure('of the worker', $killed{worker});
	figure('of a backend', $killed{backend});
	figure('changed keys', $rounds * $per_round);
	figure('took, s', int($took));
	my ($lost, $revived, $left) = (0, 0, 0);
	my $members = $mirror->members;
	for my $row (rows($sql, "SELECT key_id, state, split_part(name, ' ', 1) AS goal FROM apikey.key WHERE owner LIKE 'round %'"))
	{
		die "$row->{key_id} is $row->{state} and should be $row->{goal}" if $row->{state} ne $row->{goal};
		$lost++ if $row->{state} ne 'active' && !exists $members->{ $row->{key_id} };
		$left++ if $row->{state} eq 'active' && exists $members->{ $row->{key_id} };
	}
	is($lost, 0, 'no withdrawal is lost');
	is($left, 0, 'no key that was enabled again is withdrawn');
	figure('lost', $lost);
	figure('enabled, but still withdrawn', $left);
	$mirror->is_exact('after the kills');
	$reader->never_ok('after the kills');
	is(value($sql, 'SELECT count(*) FROM apikey.outbox'), 0, 'nothing waits');
}

# Workers end by being killed, and in no other way.
unlike(slurp_file($node->logfile), qr/background worker "apikey[^\n]*exited with exit code [13-9]|PANIC/, 'no worker failed');
$mirror->leave;
$node->stop;

done_testing();
