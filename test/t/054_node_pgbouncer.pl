# The Node.js example behind PgBouncer, in transaction mode: PostgreSQL decides as without it, each statement has its time-out, and
# nothing of a node's stays in a server connection that others use next. And what its log says when PostgreSQL refuses it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use NodeService;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;

unless (NodeService::is_installed() && eval { IPC::Run::run([ 'pgbouncer', '--version' ], '>', \my $output, '2>', \my $errors) })
{
	die 'node, pgbouncer and the packages of docs/examples/node are needed in CI' if $ENV{CI};
	plan skip_all => 'node, pgbouncer, or the packages of docs/examples/node are not installed';
}

my $node = new_cluster('node_pgbouncer', conf => "fsync = off\n");
value($node, "CREATE ROLE gateway LOGIN; SELECT apikey.grant_access('gateway', 'application')");

# One server connection, so that whoever comes next has the one of before.
my $directory = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
write_file("$directory/users", "\"gateway\" \"\"\n", 0600);
write_file("$directory/pgbouncer.ini", <<INI, 0600);
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]} dbname=postgres
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $directory
auth_type = trust
auth_file = $directory/users
pool_mode = transaction
default_pool_size = 1
INI
my $pgbouncer = IPC::Run::start([ 'pgbouncer', "$directory/pgbouncer.ini" ], '<', \undef, '>', "$directory/log", '2>&1');
END
{
	my $status = $?;
	eval { $pgbouncer->kill_kill } if $pgbouncer;
	$? = $status;
}
wait_until(
	sub {
		die slurp_file("$directory/log") unless $pgbouncer->pumpable;
		return -S "$directory/.s.PGSQL.$port";
	},
	'PgBouncer listens');
my $through = "host=$directory port=$port user=gateway dbname=postgres";

sub service
{
	my (%settings) = @_;
	return NodeService->start(
		AK_NAMESPACE => 'none',
		AK_REDIS_URL => 'unix:///nonexistent/redis.sock',
		PGUSER => 'gateway',
		PGDATABASE => 'postgres',
		%settings);
}

my $service = service(PGHOST => $directory, PGPORT => $port, AK_PG_TIMEOUT_MS => 30_000);
my %key = issue($node, role => 'basic');
my %opaque = issue($node, role => 'basic', format => 'opaque');
# More than one server connection and one prepared statement could explain.
is_deeply([ map { $service->ask($_) } ($key{token}, $opaque{token}) x 5 ], [ (1) x 10 ], 'behind PgBouncer PostgreSQL decides');
my @requests;
wait_until(sub { return 10 == (@requests = grep { $_->{event} eq 'request' } $service->log_lines) }, 'each request is in the log');
is_deeply([ map { $_->{by} } @requests ], [ ('postgres') x 10 ], 'each time');
is(scalar(grep { $_->{event} =~ /unavailable|failure/ } $service->log_lines), 0, 'and the log has no complaint');
is($node->safe_psql('postgres', 'SHOW statement_timeout', connstr => $through), '0', 'nothing stays set in the server connection');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_statements', connstr => $through), '0', 'nor prepared');
$service->stop;

# The server's own time-out ends what waits for a lock: PgBouncer would wait for it for ever.
my $impatient = service(PGHOST => $directory, PGPORT => $port, AK_PG_TIMEOUT_MS => 3000);
# Not a token that the session knows, which needs no lock.
my %unknown = issue($node, role => 'basic');
my $holder = session($node);
value($holder, 'BEGIN; LOCK TABLE apikey.key IN ACCESS EXCLUSIVE MODE');
my $offset = -s $node->logfile;
is($impatient->ask($unknown{token}), undef, 'no answer in time is 503');
ok($node->wait_for_log(qr/canceling statement due to statement timeout/, $offset), 'the server gives the statement up');
value($holder, 'ROLLBACK');
$holder->quit;
is($impatient->ask($unknown{token}), 1, 'and decides again when it can');
$impatient->stop;

# A password that is wanted and not there.
value($node, "CREATE ROLE locked LOGIN PASSWORD 'hunter2'; SELECT apikey.grant_access('locked', 'application')");
my $hba = $node->data_dir . '/pg_hba.conf';
write_file($hba, "local all locked scram-sha-256\n" . slurp_file($hba), 0600);
$node->reload;
my $locked = service(PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'locked', PGPASSFILE => '/nonexistent', AK_PG_TIMEOUT_MS => 30_000);
is($locked->ask($key{token}), undef, 'who may not connect answers 503');
my ($line) = grep { $_->{event} eq 'postgres_unavailable' } $locked->log_lines;
like($line->{message}, qr/password/, 'and its log says why');
$locked->stop;

# Nor does a host name with several addresses, none of which answers, fail without a word.
my $nowhere = service(PGHOST => 'localhost', PGPORT => PostgreSQL::Test::Cluster::get_free_port(), AK_PG_TIMEOUT_MS => 30_000);
is($nowhere->ask($key{token}), undef, 'no server is 503');
($line) = grep { $_->{event} eq 'postgres_unavailable' } $nowhere->log_lines;
like("$line->{error} $line->{message}", qr/^ECONNREFUSED connect ECONNREFUSED /, 'with the reason');
$nowhere->stop;

$node->stop;
done_testing();
