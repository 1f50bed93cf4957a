# Without shared_preload_libraries the library comes with a session's first call, and everything works that needs no shared memory: a
# rate limit and the free tier say that they do. With it or without, nobody but a superuser can change a parameter.

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

# Each call is the first in its connection.
my $node = new_cluster('loaded_late', preload => 0);
is(value($node, 'SHOW shared_preload_libraries'), '', 'the library is not preloaded');

# What is counted needs shared memory: whoever cannot be counted is not let through.
my %limited = issue($node, name => 'limited');
my %open = issue($node, name => 'with a limit of its own, later');
my @limit_refusal = ('55000', 'a rate limit needs shared memory, and apikey was not preloaded',
	'Add apikey to shared_preload_libraries and restart the server.');
my @free_tier_refusal = @limit_refusal;
$free_tier_refusal[1] = 'the free tier needs shared memory, and apikey was not preloaded';
sub refusal { return [ @{ { failure($node, $_[0]) } }{qw(sqlstate message hint)} ]; }
for my $function (qw(validate check_token require))
{
	is_deeply(refusal("SELECT apikey.$function(" . literal($limited{token}) . ')'), \@limit_refusal, "$function(): a role with a limit");
	is_deeply(
		refusal("SET apikey.free_tier = on; SELECT apikey.$function(NULL)"), \@free_tier_refusal, "$function(): the free tier");
	is_deeply(
		refusal("SET apikey.free_tier_on_failure = on; SELECT apikey.$function('nonsense')"),
		\@free_tier_refusal, "$function(): the free tier for a token that fails");
}
is(code($node, $limited{token}, permission => 'admin:all'), 'INSUFFICIENT_PERMISSIONS', 'what is denied before its limit is looked at is denied');
is(code($node, undef), 'MISSING', 'without the free tier a missing token is');
value($node, "UPDATE apikey.role SET rate_limit = NULL WHERE name = 'basic'");
value($node, "UPDATE apikey.key SET rate_limit = 10 WHERE key_id = '$open{key_id}'");
is(code($node, $limited{token}), 'VALID', 'a role without a limit');
is_deeply(refusal('SELECT apikey.validate(' . literal($open{token}) . ')'), \@limit_refusal, "a key's own limit");

my %key = issue($node, ttl => '1 hour');
is(code($node, $key{token}), 'VALID', 'issue and validate');
is(value($node, 'SELECT apikey.check_token(' . literal($key{token}) . ')'), 't', 'check_token()');
is(value($node, 'SELECT (apikey.require(' . literal($key{token}) . ')).owner'), 'acme', 'require()');
is(sqlstate($node, "SELECT apikey.require('nonsense')"), 'PT401', 'require() of a bad token');
my %next = refresh($node, $key{token});
is(code($node, $_->{token}), 'VALID', "refresh: generation $_->{generation}") for (\%key, \%next);
value($node, "SELECT apikey.disable('$key{key_id}')");
is(code($node, $next{token}), 'DISABLED', 'disable()');
value($node, "SELECT apikey.enable('$key{key_id}')");
is(code($node, $next{token}), 'VALID', 'enable()');
value($node, 'SELECT * FROM apikey.revoke_token(' . literal($next{token}) . ')');
is(code($node, $next{token}), 'REVOKED', 'revoke_token()');
my %opaque = issue($node, owner => 'other', format => 'opaque');
is(value($node, "SELECT apikey.revoke_owner('other')"), '1', 'revoke_owner()');
is(code($node, $opaque{token}), 'REVOKED', 'of an opaque token');
my %plain = issue($node);
value($node, "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$plain{key_id}'");
is(code($node, $plain{token}), 'REVOKED', 'plain SQL');
my $kid = value($node, 'SELECT kid FROM apikey.signing_key');
my $staged = value($node, "SELECT apikey.stage_signing_key('ES256')");
is(value($node, "SELECT apikey.rotate_signing_key('ES256')"), $staged, 'stage_signing_key() and rotate_signing_key()');
value($node, "SELECT * FROM apikey.retire_signing_key('$kid', true)");
like(value($node, 'SELECT apikey.jwks()'), qr/\Q$staged\E/, 'jwks()');
is(value($node, "SELECT apikey.normalize_role('Node-Operator')"), 'node_operator', 'normalize_role()');
is(sqlstate($node, "UPDATE apikey.role SET permissions = '{Bad!}' WHERE name = 'basic'"), '23514', 'constraints');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'preload'"), 'missing', 'status() says that it is not preloaded');
is(value($node, "SELECT count(*) FROM apikey.status() WHERE state NOT IN ('ok', 'missing', 'primary') AND component <> 'mirror'"), '0', 'and that the rest is well');
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'mirror'"), 'off', 'without a mirror');

value($node, "CREATE ROLE app LOGIN; SELECT apikey.grant_access('app', 'application')");
check_parameters($node, 'loaded by the first call', "SELECT apikey.check_token('') \\g /dev/null\n", %parameters);

# Before that call, a session may write down anything under these names. None of it may come into force with the library.
my %live = issue($node, ttl => '1 hour');
my $live = literal($live{token});
my @attempts = ("SET apikey.environments = 'test'", "SELECT set_config('apikey.environments', 'test', false)");
for my $attempt (@attempts)
{
	my ($output) = run_sql($node, "$attempt; SELECT code FROM apikey.validate($live); SHOW apikey.environments", user => 'app');
	like($output, qr/^VALID\n$/m, "without effect before the first call: $attempt");
}
my (undef, $warning) = run_sql($node, "SET apikey.environments = 'test'; SELECT code FROM apikey.validate($live)", user => 'app');
like($warning, qr/WARNING:.*permission denied to set parameter "apikey\.environments"/, 'and with a warning');
is(value($node, "SET apikey.environments = 'test'; SELECT code FROM apikey.validate($live)"), 'FORBIDDEN', 'what a superuser sets comes into force');
(undef, $warning) = run_sql($node, "SET apikey.no_such_parameter = 1; SELECT apikey.check_token($live)");
like($warning, qr/WARNING:.*"apikey\.no_such_parameter"/, 'an unknown parameter is warned of when the library comes');
{
	local $ENV{PGOPTIONS} = '-c apikey.refresh_grace=86400';
	value($node, "SELECT generation FROM apikey.refresh($live)", user => 'app');
}
is(value($node, "SELECT previous_valid_until < now() + interval '10 minutes' FROM apikey.key WHERE key_id = '$live{key_id}'"),
	't', 'nor does what a client asks for when it connects');
value($node, "ALTER ROLE app SET apikey.environments = 'test'");
is(code($node, $live{token}, user => 'app'), 'FORBIDDEN', 'what a superuser sets for a role comes into force');
value($node, 'ALTER ROLE app RESET ALL');
$node->append_conf('postgresql.conf', "apikey.environments = 'test'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT code = 'FORBIDDEN' FROM apikey.validate($live)"), 'and so does what postgresql.conf says');
$node->stop;

# Preloaded: the same parameters and some more, and the names are known from the start.
$node->append_conf('postgresql.conf', "apikey.environments = ''\nshared_preload_libraries = 'apikey'");
$node->start;
is(value($node, "SELECT state FROM apikey.status() WHERE component = 'preload'"), 'ok', 'status() says that it is preloaded');
is(code($node, $live{token}), 'VALID', 'a key that was issued before validates');
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
