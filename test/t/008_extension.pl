# CREATE EXTENSION, DROP EXTENSION and the databases around it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('extension', extension => 0);
value($node, 'CREATE ROLE mallory LOGIN; CREATE ROLE owner LOGIN CREATEDB; CREATE ROLE group_of_mallory ROLE mallory');

# A schema that somebody else can put objects into is not made ours.
my $create = 'CREATE EXTENSION apikey';
sub is_refused
{
	my ($what) = @_;
	my %failure = failure($node, $create);
	is($failure{sqlstate}, '42501', "refused: $what");
	like($failure{message}, qr/schema "apikey" already exists/, "with the reason: $what");
	is(value($node, "SELECT count(*) FROM pg_extension WHERE extname = 'apikey'"), '0', "no extension: $what");
	is(value($node, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'apikey'::regnamespace"), '0', "nothing left behind: $what");
	return;
}
value($node, 'CREATE SCHEMA apikey AUTHORIZATION mallory');
is_refused('another role owns the schema');
value($node, 'ALTER SCHEMA apikey OWNER TO postgres; GRANT CREATE ON SCHEMA apikey TO mallory');
is_refused('another role may create in it');
value($node, 'REVOKE CREATE ON SCHEMA apikey FROM mallory; GRANT ALL ON SCHEMA apikey TO group_of_mallory');
is_refused('a group may create in it');
value($node, 'REVOKE ALL ON SCHEMA apikey FROM group_of_mallory; GRANT CREATE ON SCHEMA apikey TO PUBLIC');
is_refused('everybody may create in it');
value($node, 'REVOKE CREATE ON SCHEMA apikey FROM PUBLIC; GRANT USAGE ON SCHEMA apikey TO mallory');
is(sqlstate($node, "$create; DROP EXTENSION apikey"), '00000', 'a schema of our own is taken, whoever may use it');
value($node, 'DROP SCHEMA apikey');

# Nor one that is ours by now, but where somebody has left a function that a call would find before the extension's: many drivers
# bind strings as varchar.
value($node, 'CREATE SCHEMA apikey AUTHORIZATION mallory');
value($node, "CREATE FUNCTION apikey.check_token(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'", user => 'mallory');
value($node, 'ALTER SCHEMA apikey OWNER TO postgres');
is(sqlstate($node, $create), '42501', 'refused: the schema holds what another role made');
is(value($node, "SELECT count(*) FROM pg_extension WHERE extname = 'apikey'"), '0', 'no extension: the schema holds what another role made');
value($node, 'DROP EXTENSION IF EXISTS apikey');
value($node, 'DROP SCHEMA apikey CASCADE');

is(sqlstate($node, "$create SCHEMA public"), '0A000', 'it goes into its own schema only');

# What the installer gives away by default is not given away here.
value($node, "ALTER DEFAULT PRIVILEGES GRANT $_ TO mallory, PUBLIC") for ('ALL ON TABLES', 'ALL ON FUNCTIONS', 'USAGE ON SCHEMAS');
value($node, "$create");
is(value($node, "SELECT count(*) FROM pg_class c WHERE relnamespace = 'apikey'::regnamespace AND relkind IN ('r', 'p', 'v')"
	  . " AND (has_table_privilege('mallory', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'))"), '0', 'default privileges open no table');
is(value($node, "SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_proc p WHERE pronamespace = 'apikey'::regnamespace"
	  . " AND has_function_privilege('mallory', p.oid, 'EXECUTE')"),
	'acting_user is_environment is_grant_list is_label is_revocation_reason is_role_name uuid_v7', 'and no function but the harmless ones');
is(value($node, "SELECT has_schema_privilege('mallory', 'apikey', 'USAGE, CREATE')"), 'f', 'and not the schema');
value($node, 'DROP EXTENSION apikey; DROP SCHEMA IF EXISTS apikey');
value($node, "ALTER DEFAULT PRIVILEGES REVOKE ALL ON $_ FROM mallory, PUBLIC") for qw(TABLES SCHEMAS);
value($node, 'ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM mallory');

value($node, 'CREATE DATABASE owned OWNER owner');
is(sqlstate($node, $create, database => 'owned', user => 'owner'), '42501', 'the owner of a database cannot create it');
is(sqlstate($node, $create), '00000', 'a superuser can');
is(sqlstate($node, 'ALTER EXTENSION apikey SET SCHEMA public'), '0A000', 'and nobody moves it');

# DROP and CREATE while sessions have used it, with its plans and prepared statements cached.
my @sessions = map { session($node) } 1 .. 2;
my %first = issue($sessions[0], owner => 'first', ttl => '1 hour');
my %refreshed = refresh($sessions[0], $first{token});
for (@sessions)
{
	value($_, 'PREPARE verdict AS SELECT code FROM apikey.validate($1); PREPARE issue AS SELECT token FROM apikey.issue($1)');
	is(value($_, 'EXECUTE verdict(' . literal($refreshed{token}) . ')'), 'VALID', 'before DROP EXTENSION');
	like(value($_, "EXECUTE issue('first')"), qr/^ey/, 'a key is issued');
	value($_, "SELECT apikey.disable('$first{key_id}'); SELECT apikey.enable('$first{key_id}'); SELECT * FROM apikey.status()");
}
value($node, 'CREATE VIEW public.mine AS SELECT owner FROM apikey.keys');
is(sqlstate($node, 'DROP EXTENSION apikey'), '2BP01', 'DROP EXTENSION spares what others made of it');
value($node, 'DROP VIEW public.mine; DROP EXTENSION apikey');
is(sqlstate($_, 'EXECUTE verdict(' . literal($refreshed{token}) . ')'), '42883', 'after DROP EXTENSION there is no function') for @sessions;
is(value($node, "SELECT count(*) FROM pg_class WHERE relnamespace = 'apikey'::regnamespace"), '0', 'nor any table');
is(value($node, "SELECT count(*) FROM pg_type WHERE typnamespace = 'apikey'::regnamespace"), '0', 'nor any type');
value($node, $create);
for my $round (1, 2)
{
	for my $number (0, 1)
	{
		my $session = $sessions[$number];
		is(value($session, 'EXECUTE verdict(' . literal($refreshed{token}) . ')'), 'NOT_FOUND', "created again ($round): a key of before is unknown");
		my %issued = issue($session, owner => 'second', ttl => '1 hour', idempotency_key => "$round of $number");
		my %next = refresh($session, $issued{token});
		is_deeply(
			[ map { code($_, $issued{token}), code($_, $next{token}) } $node, @sessions ],
			[ ('VALID') x 6 ], "created again ($round): a new one is good in every session, and after its refresh");
		value($session, "SELECT apikey.disable('$issued{key_id}')");
		is(code($session, $next{token}), 'DISABLED', "created again ($round): disabled");
		value($session, "SELECT apikey.enable('$issued{key_id}'); SELECT * FROM apikey.revoke('$issued{key_id}')");
		is_deeply([ map { code($_, $next{token}) } $node, @sessions ], [ ('REVOKED') x 3 ], "created again ($round): revoked in every session");
		my $kid = value($session, "SELECT apikey.rotate_signing_key('ES256')");
		like(value($session, 'SELECT apikey.jwks()'), qr/\Q$kid\E/, "created again ($round): rotated");
		is(value($session, "SELECT apikey.revoke_owner('second')"), '0', "created again ($round): nothing is left to revoke");
	}
	# The second time by one of the sessions themselves, in one transaction.
	value($sessions[0], "BEGIN; DROP EXTENSION apikey; $create; COMMIT") if $round == 1;
}
is(value($node, 'SELECT count(*) FROM apikey.key'), '2', 'the keys of one life of the extension are not in the next');

# A transaction that is rolled back.
my %kept = issue($node);
value($sessions[1], 'BEGIN; DROP EXTENSION apikey; ROLLBACK');
is_deeply([ map { code($_, $kept{token}) } $node, @sessions ], [ ('VALID') x 3 ], 'DROP EXTENSION that is rolled back');

# Databases.
value($node, 'CREATE DATABASE second TEMPLATE template0');
value($node, $create, database => 'second');
my %second = issue($node, owner => 'second', database => 'second');
is(code($node, $second{token}, database => 'second'), 'VALID', 'a second database has keys of its own');
is(code($node, $second{token}), 'NOT_FOUND', 'which the first does not know');
is(code($node, $kept{token}, database => 'second'), 'NOT_FOUND', 'nor the other way round');
value($node, 'CREATE DATABASE copy TEMPLATE second');
is(code($node, $second{token}, database => 'copy'), 'VALID', 'a copy of a database has its keys');
value($node, "SELECT * FROM apikey.revoke('$second{key_id}')", database => 'copy');
is(code($node, $second{token}, database => 'copy'), 'REVOKED', 'a revocation in the copy');
is(code($node, $second{token}, database => 'second'), 'VALID', 'is no revocation in the original');
value($node, 'ALTER DATABASE copy RENAME TO renamed');
is(code($node, $second{token}, database => 'renamed'), 'REVOKED', 'a database can be renamed');
my $guest = session($node, database => 'renamed');
is(code($guest, $second{token}), 'REVOKED', 'somebody is at work there');
is(sqlstate($node, 'DROP DATABASE second'), '00000', 'DROP DATABASE');
is(sqlstate($node, 'DROP DATABASE renamed'), '55006', 'DROP DATABASE waits for nobody');
is(sqlstate($node, 'DROP DATABASE renamed WITH (FORCE)'), '00000', 'DROP DATABASE WITH (FORCE)');
is(code($node, $kept{token}), 'VALID', 'and the rest goes on');

# Since 18 a library says what it is.
if ($node->pg_version >= 18)
{
	is( value($node, "SELECT module_name || ' ' || version FROM pg_get_loaded_modules() WHERE module_name = 'apikey'"),
		'apikey ' . value($node, "SELECT default_version FROM pg_available_extensions WHERE name = 'apikey'"),
		'pg_get_loaded_modules() shows the library and its version');
}
$_->quit for @sessions;

done_testing();
