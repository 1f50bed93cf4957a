# Without shared_preload_libraries the library comes with a session's first call, and everything works that depends on no parameter; the
# rest says that it does. With it or without, nobody but a superuser can change a parameter.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Each parameter: its context, and a value that it does not have.
my %parameters = (
	'apikey.pbkdf2_iterations' => [ 'sighup', '20000' ],
	'apikey.master_key_file' => [ 'sighup', 'mine.key' ],
	'apikey.databases' => [ 'sighup', 'other' ],
	'apikey.usage_interval' => [ 'sighup', '20' ],
	'apikey.usage_retention' => [ 'sighup', '1d' ],
	'apikey.audit_retention' => [ 'sighup', '1d' ],
	'apikey.refresh_grace' => [ 'superuser', '0' ],
	'apikey.revoke_wait' => [ 'sighup', '5s' ],
	'apikey.issuer' => [ 'superuser', 'me' ],
	'apikey.audience' => [ 'superuser', 'you' ],
	'apikey.environments' => [ 'superuser', 'test' ],
	'apikey.redis_url' => [ 'sighup', 'redis://localhost' ],
	'apikey.redis_password_file' => [ 'sighup', 'redis.password' ],
	'apikey.redis_sentinel_user' => [ 'sighup', 'watcher' ],
	'apikey.redis_sentinel_password_file' => [ 'sighup', 'sentinel.password' ],
	'apikey.redis_masters' => [ 'sighup', '10.1.0.0/16, redis.example:6380' ],
	'apikey.redis_namespace' => [ 'sighup', 'mine' ],
	'apikey.redis_ca_file' => [ 'sighup', 'ca.pem' ],
	'apikey.redis_certificate_file' => [ 'sighup', 'client.pem' ],
	'apikey.redis_key_file' => [ 'sighup', 'client.key' ],
	'apikey.redis_connect_timeout' => [ 'sighup', '2s' ],
	'apikey.redis_timeout' => [ 'sighup', '3s' ],
	'apikey.rate_namespace' => [ 'sighup', 'ours' ],
	'apikey.rate_sync_interval' => [ 'sighup', '300ms' ],
	'apikey.rate_on_stale' => [ 'sighup', 'deny' ],
	'apikey.free_tier' => [ 'superuser', 'on' ],
	'apikey.free_tier_on_failure' => [ 'superuser', 'on' ]);
# The sizes of what is in shared memory exist only where there is any.
my %sizes = map { ("apikey.$_" => [ 'postmaster', '2048' ]) } qw(cache_entries rate_entries event_entries);
$sizes{'apikey.max_databases'} = [ 'postmaster', '9' ];

# How SET is refused to a superuser, and to anybody else.
my %refusal_of = (
	superuser => [ '00000', '42501', 'permission denied to set parameter "%s"' ],
	sighup => [ '55P02', '55P02', 'parameter "%s" cannot be changed now' ],
	postmaster => [ '55P02', '55P02', 'parameter "%s" cannot be changed without restarting the server' ]);

# The parameters of a server, in sessions that have the library: $load sees to it.
sub check_parameters
{
	my ($node, $what, $load, %expected) = @_;
	my @shown = split(/\n/, value($node, "$load SELECT name || '=' || context FROM pg_settings WHERE name LIKE 'apikey.%'"));
	is_deeply([ sort @shown ], [ map { "$_=$expected{$_}[0]" } sort keys %expected ], "$what: parameters and their contexts");
	for my $name (sort keys %expected)
	{
		my ($context, $new) = @{ $expected{$name} };
		my ($to_superuser, $to_others, $message) = @{ $refusal_of{$context} };
		my %attempts = (
			SET => "SET $name = '$new'",
			'set_config()' => "SELECT set_config('$name', '$new', true)",
			'a function' => "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql SET $name = '$new' AS 'SELECT 1'; SELECT pg_temp.f()");
		for my $way (sort keys %attempts)
		{
			my %failure = failure($node, "$load $attempts{$way}", user => 'app');
			is_deeply([ @failure{qw(sqlstate message)} ], [ $to_others, sprintf($message, $name) ], "$what: $name: refused to an ordinary user: $way");
		}
		is(sqlstate($node, "$load SET $name = '$new'"), $to_superuser, "$what: $name: SET by a superuser");
	}
	is(sqlstate($node, "$load SHOW apikey.master_key_file", user => 'app'), '42501', "$what: an ordinary user does not see where the master key is");
	is(sqlstate($node, "$load SET apikey.no_such_parameter = 1"), '42602', "$what: an unknown parameter is an error");
	is(sqlstate($node, "$load SET apikey.environments = 'Live'"), '22023', "$what: a wrong environment is an error");
	is(sqlstate($node, "$load SET apikey.refresh_grace = '25h'"), '22023', "$what: a grace of more than a day is an error");
	is(sqlstate($node, "$load SET apikey.issuer = ''"), '22023', "$what: an empty issuer is an error");
	my %refusal = failure($node, "$load ALTER SYSTEM SET apikey.redis_url = 'redis://user:s3cret\@host'");
	is("$refusal{sqlstate} $refusal{message}", '22023 invalid value for parameter "apikey.redis_url"', "$what: a password in the URL is an error, which does not quote it");
	like($refusal{detail}, qr/apikey\.redis_password_file/, "$what: and says where it belongs");
	is(sqlstate($node, "$load ALTER SYSTEM SET apikey.redis_namespace = 'a b'"), '22023', "$what: a wrong namespace is an error");
	return;
}

my $node = new_cluster('loaded_late');
my %live = issue($node, ttl => '1 hour');
my $live = literal($live{token});
my %key = issue($node, ttl => '1 hour');
my %other = issue($node, owner => 'other', format => 'opaque');
my %plain = issue($node);
my $staged = value($node, "SELECT apikey.rotate_signing_key('ES256')");
value($node, "CREATE ROLE app LOGIN; SELECT apikey.grant_access('app', 'application')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(value($node, 'SHOW shared_preload_libraries'), '', 'the library is not preloaded');

# Each call is the first in its connection. What depends on parameters refuses: 072_settings_without_preload has all of it.
my %refusal = failure($node, "SELECT apikey.validate($live)");
is("$refusal{sqlstate} $refusal{message}", '55000 apikey.validate() depends on settings, and apikey was not preloaded', 'validate()');
is($refusal{hint}, 'Add apikey to shared_preload_libraries and restart the server.', 'and says what to do');

# The state of a key, as a validation would find it.
sub state_of { return value($node, "SELECT state FROM apikey.key WHERE key_id = '$_[0]{key_id}'"); }
value($node, "SELECT apikey.disable('$key{key_id}')");
is(state_of(\%key), 'disabled', 'disable()');
value($node, "SELECT apikey.enable('$key{key_id}')");
is(state_of(\%key), 'active', 'enable()');
value($node, "SELECT * FROM apikey.revoke('$key{key_id}')");
is(state_of(\%key), 'revoked', 'revoke()');
is(value($node, "SELECT apikey.revoke_owner('other')"), '1', 'revoke_owner()');
is(state_of(\%other), 'revoked', 'of its key');
value($node, "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$plain{key_id}'");
is(value($node, "SELECT count(*) FROM apikey.revocation WHERE key_id = '$plain{key_id}'"), '1', 'plain SQL');
like(value($node, 'SELECT apikey.jwks()'), qr/\Q$staged\E/, 'jwks()');
is(value($node, "SELECT apikey.normalize_role('Node-Operator')"), 'node_operator', 'normalize_role()');
is(sqlstate($node, "UPDATE apikey.role SET permissions = '{Bad!}' WHERE name = 'basic'"), '23514', 'constraints');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'preload'"), 'missing', 'status() says that it is not preloaded');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'master_key'"), 'unknown', 'and does not look at a master key');
is(value($node, "SELECT count(*) FROM apikey.status() WHERE state NOT IN ('ok', 'missing', 'primary') AND component NOT IN ('mirror', 'master_key')"),
	'0', 'and that the rest is well');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'mirror'"), 'off', 'without a mirror');

check_parameters($node, 'loaded by the first call', "SELECT apikey.is_role_name('basic') \\g /dev/null\n", %parameters);

# Before that call, a session may write down anything under these names. None of it comes into force with the library.
my (undef, $warning) = run_sql($node, "SET apikey.environments = 'test'; SELECT apikey.is_role_name('basic')", user => 'app');
like($warning, qr/WARNING:.*permission denied to set parameter "apikey\.environments"/, 'what an ordinary user sets is refused when the library comes');
(undef, $warning) = run_sql($node, "SET apikey.no_such_parameter = 1; SELECT apikey.is_role_name('basic')");
like($warning, qr/WARNING:.*"apikey\.no_such_parameter"/, 'an unknown parameter is warned of when the library comes');
$node->stop;

# Preloaded: the same parameters and some more, and the names are known from the start.
$node->append_conf('postgresql.conf', "apikey.environments = ''\nshared_preload_libraries = 'apikey'");
$node->start;
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'preload'"), 'ok', 'status() says that it is preloaded');
value($node, "UPDATE apikey.role SET rate_limit = NULL WHERE name = 'basic'");
is(code($node, $live{token}), 'VALID', 'a key that was issued before validates');
is(code($node, $key{token}), 'REVOKED', 'and what was revoked meanwhile is');
value($node, "ALTER ROLE app SET apikey.environments = 'test'");
is(code($node, $live{token}, user => 'app'), 'FORBIDDEN', 'what a superuser sets for a role comes into force');
value($node, 'ALTER ROLE app RESET ALL');
check_parameters($node, 'preloaded', '', %parameters, %sizes);
value($node, "UPDATE apikey.key SET rate_limit = 10 WHERE key_id = '$live{key_id}'");
is(value($node, 'SELECT rate_remaining FROM apikey.validate(' . literal($live{token}) . ')'), 9, 'a limit works');
is(value($node, 'SET apikey.free_tier = on; SELECT role FROM apikey.validate(NULL)'), 'free', 'and so does the free tier');
is(sqlstate($node, "ALTER ROLE app SET apikey.environments = 'test'", user => 'app'), '42501', 'an ordinary user cannot set it for himself');
{
	local $ENV{PGOPTIONS} = '-c apikey.refresh_grace=86400';
	my (undef, $errors) = run_sql($node, 'SELECT 1', user => 'app');
	like($errors, qr/permission denied to set parameter "apikey\.refresh_grace"/, 'nor when he connects');
}

done_testing();
