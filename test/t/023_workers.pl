# The launcher and its workers: they come, go and come back as databases, extensions, settings and the server do.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_cluster('workers', extension => 0, conf => "fsync = off\napikey.usage_interval = '1s'\nmax_prepared_transactions = 2\nmax_worker_processes = 6\n");

sub eventually
{
	my ($query, $what, %options) = @_;
	return ok($node->poll_query_until('postgres', $query, $options{expected} // 't'), $what);
}

# The databases where a worker is, in alphabetical order.
my $workers = "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_stat_activity WHERE backend_type = 'apikey maintenance'";
sub workers_in { return eventually($workers, $_[1], expected => $_[0]); }
sub pid_in { return value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey maintenance' AND datname = '$_[0]'"); }

sub reload
{
	my ($databases) = @_;
	value($node, 'ALTER SYSTEM SET apikey.databases = ' . literal($databases));
	value($node, 'SELECT pg_reload_conf()');
	return;
}

sub state_of
{
	my ($component, %options) = @_;
	return value($node, "SELECT state FROM apikey.status() WHERE component = '$component'", %options);
}

sub log_since { return substr(slurp_file($node->logfile), $_[0]); }
sub log_size { return -s $node->logfile; }

# Where there is no extension, the worker waits for it.
workers_in('postgres', 'the default: a worker in database postgres');
is(value($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey launcher' AND datname IS NULL"), '1', 'and a launcher in none');
my (undef, $warning) = run_sql($node, 'CREATE EXTENSION apikey');
is($warning, '', 'CREATE EXTENSION in a database that is listed says nothing');
run_sql($node, "SELECT apikey.check_token('junk')");
my $junk = "SELECT coalesce(sum(coalesce((detail->>'count')::int, 1)), 0) FROM apikey.audit_event WHERE code = 'MALFORMED'";
eventually($junk, 'and the worker finds it', expected => '1');
is(state_of('launcher'), 'ok', 'status: the launcher');
is(state_of('maintenance'), 'ok', 'status: the worker');

# The list.
value($node, "CREATE DATABASE $_") for ('other', '"Quoted, ""name"""');
(undef, $warning) = run_sql($node, 'CREATE EXTENSION apikey', database => 'other');
like($warning, qr/WARNING:  database "other" is not in apikey\.databases/, 'CREATE EXTENSION in a database that is not listed warns');
is(state_of('maintenance', database => 'other'), 'unlisted', 'status: unlisted');
reload('postgres, other, POSTGRES, other,"Quoted, ""name""", later');
workers_in('Quoted, "name" other postgres', 'a reload starts workers: names as in SQL, each once');
is(state_of('maintenance', database => 'other'), 'ok', 'status: listed');
value($node, 'CREATE DATABASE later');
workers_in('Quoted, "name" later other postgres', 'a database that is created later gets its worker');
reload('postgres,other');
workers_in('other postgres', 'a reload stops workers');
is(sqlstate($node, "ALTER SYSTEM SET apikey.databases = 'a b'"), '22023', 'a list that is none is refused');
my $offset = log_size();
$node->append_conf('postgresql.auto.conf', 'apikey.databases = \'"unclosed\'');
value($node, 'SELECT pg_reload_conf()');
ok(eval { $node->wait_for_log(qr/invalid value for parameter "apikey.databases"/, $offset) }, 'in the file it is refused by the reload');
workers_in('other postgres', 'and the old list stays');
reload('postgres,other');

# Commands that want a database to themselves.
value($node, 'CREATE TABLESPACE elsewhere LOCATION ' . literal(PostgreSQL::Test::Utils::tempdir()));
my @commands = (
	'CREATE DATABASE copy TEMPLATE other', 'ALTER DATABASE other RENAME TO another', 'ALTER DATABASE another RENAME TO other',
	'ALTER DATABASE other SET TABLESPACE elsewhere', 'ALTER DATABASE other SET TABLESPACE pg_default', 'DROP DATABASE copy');
for my $command (@commands)
{
	my $took = seconds(sub { is(sqlstate($node, $command), '00000', $command) });
	cmp_ok($took, '<', 4, "$command: does not wait for long");
	workers_in($command =~ /TO another/ ? 'postgres' : 'other postgres', "$command: workers are where the list says");
}
is(value($node, 'SELECT count(*) FROM apikey.key', database => 'other'), '0', 'the extension is still there');

# One that fails, and one that is taken back, give the worker back; so does a session that is killed in the midst.
my $guest = session($node, database => 'other');
value($guest, 'SELECT 1');
is(sqlstate($node, 'ALTER DATABASE other RENAME TO another'), '55006', 'somebody else is connected: the command fails');
workers_in('other postgres', 'after a command that failed');
$guest->quit;
is(sqlstate($node, 'DROP DATABASE postgres'), '55006', 'a command that cannot succeed');
workers_in('other postgres', 'after a command that was refused');
my $session = session($node);
for my $end ('ROLLBACK', 'kill')
{
	value($session, 'BEGIN; ALTER DATABASE other RENAME TO another');
	workers_in('postgres', "$end: no worker while the transaction is open");
	if ($end eq 'kill')
	{
		my $pid = value($session, 'SELECT pg_backend_pid()');
		is(value($node, "SELECT pg_terminate_backend($pid, 5000)"), 't', 'the session is killed');
		eval { $session->quit };
	}
	else
	{
		value($session, 'ROLLBACK');
	}
	workers_in('other postgres', "$end: then it comes back");
}

# Not for everybody.
value($node, 'CREATE ROLE mallory LOGIN; CREATE ROLE maker LOGIN CREATEDB');
my $pid = pid_in('other');
is(sqlstate($node, $_, user => 'mallory'), '42501', "not by just anybody: $_") for ('DROP DATABASE other', 'ALTER DATABASE other RENAME TO mine', 'CREATE DATABASE mine TEMPLATE other', 'ALTER DATABASE other SET TABLESPACE elsewhere');
is(sqlstate($node, 'CREATE DATABASE mine TEMPLATE other', user => 'maker'), '42501', 'nor by somebody who may create databases, of one that is no template');
is(pid_in('other'), $pid, 'and the worker has not been disturbed');

# A command that is prepared holds the database locked. Who waits for it can be terminated, and the server be stopped.
$session = session($node);
value($session, "BEGIN; ALTER DATABASE other RENAME TO another; PREPARE TRANSACTION 'rename'");
my $waiting = "SELECT min(pid) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND NOT granted";
eventually("SELECT ($waiting) IS NOT NULL", 'the worker waits for a prepared command');
my $stuck = value($node, $waiting);
value($node, "SELECT pg_terminate_backend($stuck)");
eventually("SELECT ($waiting) IS DISTINCT FROM $stuck", 'it can be terminated');
eventually("SELECT ($waiting) IS NOT NULL", 'and another one waits');
$session->quit;
cmp_ok(seconds(sub { $node->stop('fast') }), '<', 10, 'which keeps no server from being shut down');
$node->start;
value($node, "ROLLBACK PREPARED 'rename'");
workers_in('other postgres', 'and it comes when there is nothing to wait for');

# DROP DATABASE WITH (FORCE); and again a database of that name.
is(sqlstate($node, 'DROP DATABASE other WITH (FORCE)'), '00000', 'DROP DATABASE WITH (FORCE)');
workers_in('postgres', 'its worker is gone');
value($node, 'CREATE DATABASE other');
value($node, 'CREATE EXTENSION apikey', database => 'other');
value($node, 'SELECT pg_reload_conf()');
workers_in('other postgres', 'a new one of the same name has one');

# A setting of the database does not stop it.
value($node, "ALTER DATABASE postgres SET default_transaction_read_only = on; ALTER DATABASE postgres SET lock_timeout = 0; ALTER DATABASE postgres SET session_replication_role = replica; ALTER DATABASE postgres SET search_path = public");
value($node, "SELECT pg_terminate_backend(" . pid_in('postgres') . ", 5000)");
workers_in('other postgres', 'with settings of the database in force');
run_sql($node, "SELECT apikey.check_token('junk')");
eventually($junk, 'the worker writes all the same', expected => '2');
value($node, "SET default_transaction_read_only = off; ALTER DATABASE postgres RESET ALL");

# An extension of another version.
$offset = log_size();
value($node, "UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'apikey'");
ok(eval { $node->wait_for_log(qr/WARNING:  apikey leaves this database alone: its extension is of another version/, $offset) }, 'another version: a warning');
run_sql($node, "SELECT apikey.check_token('junk')");
eventually("SELECT (detail->>'last_turn_at')::timestamptz > '" . value($node, 'SELECT clock_timestamp()') . "' FROM apikey.status() WHERE component = 'maintenance'", 'another version: a turn') for 1, 2;
is(value($node, $junk), '2', 'another version: nothing is written');
is(scalar(() = log_since($offset) =~ /leaves this database alone/g), 1, 'another version: the warning comes once');
value($node, "UPDATE pg_extension SET extversion = apikey.library_version() WHERE extname = 'apikey'");
eventually($junk, 'the right version again: written', expected => '3');

# DROP EXTENSION that takes its time: the worker does nothing, says nothing, and loses nothing.
$session = session($node);
$offset = log_size();
value($session, 'BEGIN; DROP EXTENSION apikey');
run_sql($node, "SELECT apikey.check_token('junk')");
my $past = value($node, "SELECT clock_timestamp() + '2.5 s'");
eventually("SELECT clock_timestamp() > '$past' AND state = 'idle' FROM pg_stat_activity WHERE pid = " . pid_in('postgres'), 'DROP EXTENSION is under way for some turns');
value($session, 'ROLLBACK');
$session->quit;
eventually($junk, 'what happened meanwhile is written afterwards', expected => '4');
unlike(log_since($offset), qr/apikey could not/, 'and the worker has not stood in the way');

# DROP EXTENSION under load, again and again: denials, uses, and keys that expire.
value($node, 'CREATE TABLE public.token (token text)');
value($node, <<~'SQL');
	CREATE PROCEDURE public.use_tokens() LANGUAGE plpgsql AS $$
	BEGIN
	    LOOP
	        BEGIN
	            PERFORM apikey.check_token(t.token), apikey.check_token('junk' || random(), NULL, ('10.0.' || trunc(random() * 100) || '.1')::inet) FROM public.token t;
	        EXCEPTION WHEN OTHERS THEN NULL;
	        END;
	        COMMIT;
	    END LOOP;
	END $$
	SQL
my $load = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', "SET statement_timeout = '2min'", '-c', 'CALL public.use_tokens()' ], '>', \my $loaded, '2>', \my $load_errors);
$offset = log_size();
my ($longest, @failed) = (0);
for my $round (1 .. 20)
{
	my $took = seconds(sub { push @failed, failure($node, 'DROP EXTENSION apikey') });
	$longest = $took if $took > $longest;
	value($node, 'CREATE EXTENSION apikey');
	value($node, "TRUNCATE public.token; INSERT INTO public.token SELECT (apikey.issue('load', name => n::text, format => 'opaque')).token FROM generate_series(1, 3) n");
	# Until the worker is at it, in every other round; in the others as soon as can be.
	next if $round % 2;
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM apikey.audit_event WHERE event = 'denied'", 't') or die 'the worker writes nothing';
}
is_deeply(\@failed, [], 'DROP EXTENSION under load, 20 times');
cmp_ok($longest, '<', 2, 'none took longer than two seconds');
value($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%use_tokens%' AND pid <> pg_backend_pid()");
eval { $load->finish };
unlike(log_since($offset), qr/PANIC|deadlock detected/, 'no deadlock');
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'maintenance'", 'the worker is still there');

# The launcher can be terminated; the next one knows the workers that are there.
$pid = pid_in('postgres');
my $launcher = value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey launcher'");
value($node, "SELECT pg_terminate_backend($launcher)");
eventually("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apikey launcher' AND pid <> $launcher", 'another launcher comes');
eventually("SELECT state = 'ok' FROM apikey.status() WHERE component = 'launcher'", 'and says so');
is(pid_in('postgres'), $pid, 'the workers of before go on');
my $ended = time;
value($node, "SELECT pg_terminate_backend($pid, 5000)");
workers_in('other postgres', 'and the new launcher replaces one that ends');
cmp_ok(time - $ended, '<', 6, 'without having to look for it');

# kill -9 restarts the server, and everything comes back.
for my $who ('apikey maintenance', 'apikey launcher')
{
	$pid = value($node, "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = '$who'");
	$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
	value($node, 'SELECT pg_reload_conf()');
	$offset = log_size();
	kill('KILL', $pid) or die "could not kill $pid: $!";
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset);
	$node->poll_query_until('postgres', 'SELECT 1', '1') or die 'the server did not come back';
	workers_in('other postgres', "$who: kill -9, and the workers are back");
}

# What a DROP DATABASE that was interrupted leaves behind cannot be connected to; nobody tries.
value($node, 'CREATE DATABASE broken');
value($node, "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'");
$offset = log_size();
reload('postgres,other,broken,template0');
value($node, 'CREATE DATABASE trigger_a_turn');
reload('postgres,trigger_a_turn,broken,template0');
workers_in('postgres trigger_a_turn', 'the launcher has read the list');
unlike(log_since($offset), qr/cannot connect|not currently accepting/, 'an invalid database, and one that allows no connections, get no worker');
value($node, "UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'broken'");
reload('postgres,other');
workers_in('other postgres', 'back to two');

# More databases than there are places, in shared memory or among the server's processes.
value($node, "CREATE DATABASE d$_") for 1 .. 3;
$node->append_conf('postgresql.conf', "apikey.max_databases = 3\nmax_worker_processes = 4\nmax_logical_replication_workers = 0\nmax_parallel_workers = 0\n");
reload('postgres,other,d1,d2,d3');
$offset = log_size();
$node->restart;
ok(eval { $node->wait_for_log(qr/WARNING:  apikey has no place for one more database/, $offset) }, 'too many databases: a warning');
eventually("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey maintenance'", 'and a worker for as many as there are places', expected => '3');
$node->append_conf('postgresql.conf', "apikey.max_databases = 8\nmax_worker_processes = 3\n");
reload('postgres,other,d1,d2');
$offset = log_size();
$node->restart;
ok(eval { $node->wait_for_log(qr/WARNING:  apikey found no place for the worker "apikey maintenance"/, $offset) }, 'too few processes: a warning');
eventually("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey maintenance'", 'and as many workers as there can be', expected => '2');
my ($with) = grep { pid_in($_) } qw(d1 d2 postgres other);
SKIP:
{
	my ($lacking) = grep { !pid_in($_) } qw(postgres other);
	skip 'both databases with the extension have their worker', 1 unless $lacking;
	is(state_of('maintenance', database => $lacking), 'failed', 'status: failed');
}
reload(join(',', grep { $_ ne $with } qw(postgres other d1 d2)));
eventually("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey maintenance' AND datname <> '$with'", 'when a place is free, the next try takes it', expected => '2');
cmp_ok(scalar(() = log_since($offset) =~ /found no place/g), '<=', 3, 'a warning for each, not for each try');
$node->append_conf('postgresql.conf', "max_worker_processes = 8\n");
reload('postgres,other,d1,d2');
$node->restart;
workers_in('d1 d2 other postgres', 'with enough of them, everybody has one');

# They do not delay a shutdown.
my $took = seconds(sub { $node->stop('fast') });
cmp_ok($took, '<', 5, 'a fast shutdown is not delayed');
$node->start;
workers_in('d1 d2 other postgres', 'and after it they are back');

done_testing();
