# The example of a Node.js service (docs/examples/node): its own tests, with the packages that its lock file names, a Redis that they start
# and fill as the mirror does, and a server for what the service asks PostgreSQL; and last with that server's own mirror.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

my $example = "$FindBin::RealBin/../../docs/examples/node";

sub runs
{
	my (@command) = @_;
	return eval { IPC::Run::run(\@command, '>', \my $output, '2>', \my $errors) };
}

unless (runs('node', '--version') && runs('redis-server', '--version') && -d "$example/node_modules/ioredis")
{
	die 'node, redis-server and the packages of docs/examples/node are needed in CI' if $ENV{CI};
	plan skip_all => 'node, redis-server, or the packages of docs/examples/node are not installed';
}

my $redis = RedisServer->start;
my $node = new_cluster(
	'node_service',
	conf => "fsync = off\napikey.issuer = 'https://keys.example'\napikey.audience = 'api.example'\n"
	  . "apikey.redis_url = 'unix://" . $redis->socket_path . "'\napikey.redis_namespace = 'end-to-end'\n");
local $ENV{AK_TEST_PG_HOST} = $node->host;
local $ENV{AK_TEST_PG_PORT} = $node->port;
local $ENV{AK_TEST_PG_USER} = value($node, 'SELECT current_user');

local $ENV{AK_REDIS_URL} = 'unix://' . $redis->socket_path;
local $ENV{AK_NAMESPACE} = 'end-to-end';
local $ENV{AK_TEST_REDIS_PID} = $redis->pid;

# Each test of a file counts as one here. The last one kills that Redis.
for my $name (qw(parts alone service rate faults client postgres end_to_end))
{
	my $timeout = IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default);
	my ($output, $errors) = ('', '');
	my $succeeded = eval {
		IPC::Run::run([ 'node', '--test-reporter=tap', "$example/test/$name.test.mjs" ], '>', \$output, '2>', \$errors, $timeout);
	};
	my @results = $output =~ /^((?:not )?ok \d+ - .*)$/mg;
	for my $result (@results)
	{
		my ($not, $what) = $result =~ /^(not )?ok \d+ - (.*)$/;
		ok(!$not, "$name: $what");
	}
	ok($succeeded && @results > 0, "$name: the tests come to their end");
	diag("$output\n$errors") unless $succeeded;
}

$node->stop;
done_testing();
