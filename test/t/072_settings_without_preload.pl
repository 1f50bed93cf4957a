# Until the library is loaded its parameters are placeholders, and what a client sets of them when it connects takes the place of
# postgresql.conf. So without shared_preload_libraries whatever depends on a parameter refuses, and with it no client sets any.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use Test::More;

# A value of each parameter that would be of use to an attacker, or at least another one than the server's.
my %parameters = (
	pbkdf2_iterations => '20000', master_key_file => '/tmp/mine.key', databases => 'other', usage_interval => '20', usage_retention => '1d',
	audit_retention => '1d', refresh_grace => '86400', revoke_wait => '5s', issuer => 'me', audience => 'you', environments => 'staging',
	redis_url => 'redis://localhost', redis_password_file => 'mine', redis_sentinel_user => 'mine', redis_sentinel_password_file => 'mine', redis_masters => '127.0.0.1:6379', redis_namespace => 'mine', redis_ca_file => 'ca.pem',
	redis_certificate_file => 'client.pem', redis_key_file => 'client.key', redis_connect_timeout => '2s', redis_timeout => '3s',
	rate_namespace => 'ours', rate_sync_interval => '300ms', rate_on_stale => 'local', free_tier => 'on', free_tier_on_failure => 'on');

my $node = new_cluster('placeholders', conf => "apikey.environments = 'live'\n");
value($node, "CREATE ROLE app LOGIN; SELECT apikey.grant_access('app', 'admin')");
my %key = issue($node, ttl => '1 hour');
my %staging = do
{
	value($node, "SET apikey.environments = 'staging'; CREATE TABLE kept AS SELECT * FROM apikey.issue('acme', environment => 'staging')");
	row($node, 'SELECT * FROM kept');
};
is(code($node, $staging{token}), 'FORBIDDEN', 'the server accepts one environment');

# Each is asked of every one that was defined, so that a new one is not forgotten.
is_deeply(
	[ sort map { $_->{name} } rows($node, "SELECT name FROM pg_settings WHERE name LIKE 'apikey.%' AND context <> 'postmaster'") ],
	[ sort map { "apikey.$_" } keys %parameters ],
	'these are the parameters');

# Preloaded: the connection is refused, or warned and nothing comes of it.
for my $name (sort keys %parameters)
{
	local $ENV{PGOPTIONS} = "-c apikey.$name=$parameters{$name}";
	my ($output, $errors) = run_sql($node, 'SELECT code FROM apikey.validate(' . literal($staging{token}) . ')', user => 'app');
	like($errors, qr/"apikey\.$name"/, "preloaded: a client's $name is refused");
	ok($output eq '' || $output eq 'FORBIDDEN', "preloaded: a client's $name has no effect");
}

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;

my $token = literal($key{token});
my %depends = (
	'validate()' => "SELECT apikey.validate($token)",
	'validate() without a token' => 'SELECT apikey.validate(NULL)',
	'check_token()' => "SELECT apikey.check_token($token)",
	'require()' => "SELECT apikey.require($token)",
	'issue()' => "SELECT apikey.issue('acme')",
	'refresh()' => "SELECT apikey.refresh($token)",
	'revoke_token()' => "SELECT apikey.revoke_token($token)",
	'revoke() of a token' => "SELECT apikey.revoke($token)",
	'disable() of a token' => "SELECT apikey.disable($token)",
	'enable() of a token' => "SELECT apikey.enable($token)",
	'rotate_signing_key()' => 'SELECT apikey.rotate_signing_key()',
	'stage_signing_key()' => 'SELECT apikey.stage_signing_key()',
	'adopt_master_key()' => 'SELECT apikey.adopt_master_key()',
	'wait_mirrored()' => "SELECT apikey.wait_mirrored('1')",
	'mirror_resync()' => 'SELECT apikey.mirror_resync()',
	'mirror_takeover()' => 'SELECT apikey.mirror_takeover()');

sub refuses
{
	my ($what, $sql) = @_;
	my %failure = failure($node, $sql, user => 'app');
	is($failure{sqlstate}, '55000', "not preloaded: $what is refused");
	like($failure{hint}, qr/shared_preload_libraries/, "not preloaded: $what says what to do");
	return;
}
refuses($_, $depends{$_}) for sort keys %depends;
for my $name (sort keys %parameters)
{
	local $ENV{PGOPTIONS} = "-c apikey.$name=$parameters{$name}";
	refuses("validate(), with a client's $name,", 'SELECT apikey.validate(' . literal($staging{token}) . ')');
}
refuses('validate(), with a SET of the session,', "SET apikey.environments = 'staging'; SELECT apikey.validate(" . literal($staging{token}) . ')');
value($node, "ALTER ROLE app SET apikey.free_tier = on");
refuses("validate(), with the user's own ALTER ROLE,", 'SELECT apikey.validate(NULL)');

# What takes no parameter works: nothing keeps anybody from revoking.
my $id = literal($key{key_id});
value($node, "SELECT apikey.disable($id); SELECT apikey.enable($id); SELECT * FROM apikey.revoke($id); SELECT apikey.revoke_owner('acme')", user => 'app');
is(value($node, "SELECT state FROM apikey.key WHERE key_id = $id"), 'revoked', 'not preloaded: a key is revoked by its id');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'preload'"), 'missing', 'not preloaded: status() says so');
{
	local $ENV{PGOPTIONS} = '-c apikey.master_key_file=/tmp/mine.key -c apikey.redis_url=redis://localhost';
	is(value($node, "SELECT state FROM apikey.status() WHERE component = 'master_key'", user => 'app'), 'unknown', 'not preloaded: and nothing of the master key');
	is(value($node, "SELECT state FROM apikey.status() WHERE component = 'mirror'", user => 'app'), 'off', 'not preloaded: there is no mirror');
}

$node->stop;
done_testing();
