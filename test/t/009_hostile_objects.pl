# Whoever can create objects and chooses the search_path can put his own operators, functions, types and tables in front of
# PostgreSQL's and the extension's. None of them is ever used.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

# In schema public, and raising an error when used: PostgreSQL's functions and binary operators, and what bears names of ours.
my $hostile = <<~'SQL';
	SET search_path = pg_catalog;
	SET check_function_bodies = off;
	CREATE FUNCTION public.attempt(command text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE command;
		RETURN true;
	EXCEPTION WHEN OTHERS THEN
		RETURN false;  -- pseudo-types and the like
	END
	$$;
	CREATE TABLE public.made AS
	SELECT public.attempt(format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN RAISE EXCEPTION ''hijacked''; END$f$',
			proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid))) AS done
	  FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
	   AND proname ~ '^(now|clock_timestamp|format|jsonb_|to_jsonb|current_setting|isfinite|cardinality|octet_length|num_|array_|string_to|btrim|'
	               'lower|concat|pg_get_user|pg_is_in|inet_|text|uuid|int4|bytea|timestamptz|interval)'
	UNION ALL
	SELECT public.attempt(format('CREATE FUNCTION public.hijack_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN RAISE EXCEPTION ''hijacked''; END$f$',
			oprresult::oid, oprleft::regtype, oprright::regtype, oprresult::regtype))
	  FROM (SELECT DISTINCT oprresult, oprleft, oprright FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b') o;
	INSERT INTO public.made
	SELECT public.attempt(format('CREATE OPERATOR public.%s (FUNCTION = public.hijack_%s, LEFTARG = %s, RIGHTARG = %s)',
			oprname, oprresult::oid, oprleft::regtype, oprright::regtype))
	  FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b';
	SQL
$hostile .= "CREATE DOMAIN public.$_ AS pg_catalog.int4 CHECK (false);\n" for qw(text uuid jsonb timestamptz bytea verdict issued);
$hostile .= "CREATE TABLE public.$_ (wrong pg_catalog.int4);\n"
  for qw(role key signing_key revocation audit_event audit_event_default keys pg_roles pg_namespace pg_extension pg_class);
$hostile .= "CREATE FUNCTION public.$_ RETURNS pg_catalog.bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';\n"
  for ('is_label(pg_catalog.text)', 'is_role_name(pg_catalog.text)', 'is_grant_list(pg_catalog.text[])', 'is_environment(pg_catalog.text)',
	'validate(pg_catalog.text)', 'uuid_v7()', 'acting_user()', 'force_sync_commit()', 'library_version()', 'access_privileges(pg_catalog.text)');

# A session in front of which all of that stands, and temporary tables.
sub hostile_session
{
	my ($node, $database) = @_;
	my $session = session($node, database => $database);
	value($session, "CREATE TEMPORARY TABLE $_ (wrong pg_catalog.int4)") for qw(role key signing_key revocation audit_event pg_class pg_proc);
	value($session, 'SET search_path = pg_temp, public, pg_catalog');
	is({ failure($session, $_) }->{message}, 'hijacked', "$database: the trap works: $_")
	  for ("SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text", 'SELECT now()', 'SELECT pg_catalog.now() > pg_catalog.now()',
		"SELECT '{}'::pg_catalog.jsonb ->> 'a'::pg_catalog.text", 'SELECT 1 + 1', 'SELECT is_label(\'x\'::pg_catalog.text)');
	is(sqlstate($session, 'SELECT key_id FROM key'), '42703', "$database: the trap works: a temporary table");
	return $session;
}

# Everything that can be done with keys. The statements themselves use no operator or function but ours, or name it in full.
sub is_unmoved
{
	my ($session, $what) = @_;
	my $first = sub { return (split(/[|\n]/, value($session, $_[0])))[0]; };
	my $code = sub { return $first->("SELECT code FROM apikey.validate('$_[0]', 'chat:read & !node:write', '10.1.2.3')"); };
	my $issue = "apikey.issue('acme', 'Node-Operator', ttl => '1 hour', permissions => '{chat:read}', allowed_cidrs => '{10.0.0.0/8}',"
	  . " metadata => '{\"a\": 1}', idempotency_key => 'once')";
	my $token = $first->("SELECT token FROM $issue");
	is($first->("SELECT token FROM $issue"), $token, "$what: issue(), twice with one idempotency key");
	is($code->($token), 'VALID', "$what: validate()");
	is($first->("SELECT apikey.check_token('$token', 'chat:write', '10.1.2.3')"), 'f', "$what: check_token()");
	is($first->("SELECT (apikey.require('$token', NULL, '10.1.2.3')).owner"), 'acme', "$what: require()");
	my $next = $first->("SELECT token FROM apikey.refresh('$token')");
	is($code->($_), 'VALID', "$what: refresh()") for ($token, $next);
	value($session, "SELECT apikey.disable('$token', 'why')");
	is($code->($next), 'DISABLED', "$what: disable()");
	value($session, "SELECT apikey.enable('$token')");
	is($code->($next), 'VALID', "$what: enable()");
	is($first->("SELECT already FROM apikey.revoke_token('$token')"), 'f', "$what: revoke_token()");
	is($code->($next), 'REVOKED', "$what: a revoked key");
	my $opaque = $first->("SELECT token FROM apikey.issue('somebody', format => 'opaque')");
	is($first->("SELECT apikey.revoke_owner('somebody')"), '1', "$what: revoke_owner()");
	is($first->("SELECT already FROM apikey.revoke('$opaque')"), 't', "$what: revoke()");

	# Plain SQL, with the triggers and constraints behind it.
	my ($id, $plain) = split(/\|/, value($session, "SELECT key_id, token FROM apikey.issue('plain')"));
	my $where = "WHERE key_id OPERATOR(pg_catalog.=) '$id'";
	value($session, "UPDATE apikey.key SET permissions = '{chat:read}', expires_at = pg_catalog.now() OPERATOR(pg_catalog.+) '1 hour' $where");
	value($session, "UPDATE apikey.key SET state = 'revoked' $where");
	is($code->($plain), 'REVOKED', "$what: UPDATE");
	value($session, "DELETE FROM apikey.key $where");
	is($code->($plain), 'NOT_FOUND', "$what: DELETE");
	value($session, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('new_role', '1 day', '{x:y}', '1 hour')");
	value($session, "UPDATE apikey.role SET rate_limit = 5 WHERE name OPERATOR(pg_catalog.=) 'new_role'");
	value($session, "DELETE FROM apikey.role WHERE name OPERATOR(pg_catalog.=) 'new_role'");
	is(sqlstate($session, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('Bad', '1 day', '{x:y}', '1 hour')"),
		'23514', "$what: a constraint");

	# Signing keys and administration.
	my $old_kid = $first->('SELECT kid FROM apikey.signing_key');
	my $kid = $first->("SELECT apikey.stage_signing_key('ES256')");
	is($first->("SELECT apikey.rotate_signing_key('ES256')"), $kid, "$what: stage_signing_key() and rotate_signing_key()");
	is(sqlstate($session, "SELECT * FROM apikey.retire_signing_key('$old_kid', true)"), '00000', "$what: retire_signing_key()");
	like($first->('SELECT apikey.jwks()'), qr/\Q$kid\E/, "$what: jwks()");
	is($first->('SELECT state FROM apikey.status()'), 'ok', "$what: status()");
	is($first->("SELECT apikey.normalize_role(' ADMIN ')"), 'admin', "$what: normalize_role()");
	is(sqlstate($session, 'SELECT * FROM apikey.keys'), '00000', "$what: view keys");
	is(sqlstate($session, "SELECT apikey.$_"), '00000', "$what: $_")
	  for ("grant_access('app', 'issuer')", "revoke_access('app')", "grant_access('app', 'application')");
	return;
}

my $node = new_cluster('hostile');
value($node, 'CREATE ROLE app LOGIN; CREATE DATABASE created_among_them TEMPLATE template0');

# The extension was there first; or it is created by a session that has all of this in front of it.
value($node, $hostile, database => $_) for qw(postgres created_among_them);
cmp_ok(value($node, 'SELECT count(*) FROM public.made WHERE done'), '>', 1000, 'many traps');
my $session = hostile_session($node, 'postgres');
is_unmoved($session, 'the extension came first');
my $other = hostile_session($node, 'created_among_them');
is(sqlstate($other, 'CREATE EXTENSION apikey'), '00000', 'CREATE EXTENSION among them');
is_unmoved($other, 'the extension came last');

# An application's session, where it has chosen the search_path.
my %issued = issue($node);
value($node, 'GRANT CREATE ON SCHEMA public TO app');
my $app = session($node, user => 'app');
value($app, 'SET search_path = pg_temp, public, pg_catalog');
is(code($app, $issued{token}), 'VALID', 'an application validates');
is(sqlstate($app, 'SELECT apikey.issue(\'acme\')'), '42501', 'and gains nothing');
$_->quit for $session, $other, $app;

done_testing();
