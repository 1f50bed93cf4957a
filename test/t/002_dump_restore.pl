# A dump carries everything to another database of the cluster, without an error, a loss or a doubled row, and no token.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('dump', extension => 0);
my @tables = qw(role signing_key key revocation audit_event audit_event_default);
my @users = qw(app issuer auditor boss);
my %kind_of = (app => 'application', issuer => 'issuer', auditor => 'auditor', boss => 'admin');
value($node, "CREATE ROLE $_ LOGIN") for @users;

# Whole tables, as text that does not depend on the order of rows.
sub contents
{
	my ($database) = @_;
	return map { ($_ => value($node, "SELECT to_jsonb(t) FROM apikey.$_ t ORDER BY to_jsonb(t)::text COLLATE \"C\"", database => $database)) } @tables;
}

sub privileges
{
	my ($database) = @_;
	return value(
		$node, <<~SQL, database => $database);
		SELECT x.object, a.grantee::regrole, a.privilege_type, a.is_grantable
		  FROM (SELECT p.oid::regprocedure::text AS object, p.proacl AS acl FROM pg_proc p WHERE p.pronamespace = 'apikey'::regnamespace
		        UNION ALL SELECT c.oid::regclass::text, c.relacl FROM pg_class c WHERE c.relnamespace = 'apikey'::regnamespace
		        UNION ALL SELECT c.oid::regclass || '.' || t.attname, t.attacl FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
		                   WHERE c.relnamespace = 'apikey'::regnamespace
		        UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'apikey') x,
		       aclexplode(x.acl) a
		 ORDER BY x.object COLLATE "C", a.grantee::regrole::text COLLATE "C", a.privilege_type
		SQL
}

# A dump and its restore must both be silent: no error, no warning, no notice.
sub is_silent
{
	my ($what, @command) = @_;
	my ($output, $errors) = ('', '');
	my $done = IPC::Run::run(\@command, '>', \$output, '2>', \$errors);
	ok($done, "$what ends well");
	# No database of this test has a worker, which CREATE EXTENSION says.
	$errors =~ s/^[^\n]*WARNING:  database "\w+" is not in apikey\.databases\nDETAIL:[^\n]*\nHINT:[^\n]*\n//mg;
	is($errors, '', "$what says nothing");
	return;
}

sub dump_of
{
	my ($database, $file, @options) = @_;
	is_silent("pg_dump @options of $database", 'pg_dump', @options, '-f', $file, '-d', $node->connstr($database));
	return;
}

sub psql_restore
{
	my ($database, $file, @options) = @_;
	is_silent(
		"psql @options into $database", 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @options, '-o', '/dev/null', '-f', $file,
		'-d', $node->connstr($database));
	return;
}

sub create_database
{
	my ($database, $template) = @_;
	value($node, "CREATE DATABASE $database TEMPLATE " . ($template // 'template0'));
	return $database;
}

local %ENV = $node->_get_env();
my $directory = PostgreSQL::Test::Utils::tempdir();

# A database with everything that can be dumped: keys in each state, roles in each state, signing keys in each state.
create_database('source');
my @at = (database => 'source');
value($node, 'CREATE EXTENSION apikey', @at);
value($node, "SELECT apikey.grant_access('$_', '$kind_of{$_}')", @at) for @users;
value($node, "SELECT apikey.$_", @at) for ("grant_access('app', 'auditor')", "revoke_access('app')", "grant_access('app', 'application')");

value($node, "UPDATE apikey.role SET permissions = '{chat:*,dataset:read}', rate_limit = 17, description = 'edited' WHERE name = 'contributor'", @at);
value($node, "UPDATE apikey.role SET rate_limit = NULL, rate_window = NULL WHERE name = 'free'", @at);
value($node, "UPDATE apikey.role SET description = '$_' WHERE name = 'admin'", @at) for ('edited', 'Everything');
value($node, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window, format, issuable_by)"
	  . " VALUES ('team_lead', '1 month 2 days 03:04:05.678', '{team:*}', '1 day', 'opaque', '{issuer}')", @at);

my %token;
my $new = sub {
	my ($kind, %arguments) = @_;
	my %issued = issue($node, owner => 'acme', name => $kind, %arguments, @at);
	$token{$kind} = $issued{token};
	return %issued;
};
my %doomed = $new->('retired');
my $doomed_kid = value($node, 'SELECT kid FROM apikey.signing_key', @at);
value($node, "SELECT apikey.rotate_signing_key('HS256')", @at);
$new->('hs256');
value($node, "SELECT apikey.rotate_signing_key('ES256')", @at);
$new->('es256');
value($node, "SELECT apikey.rotate_signing_key()", @at);
value($node, "SELECT apikey.stage_signing_key()", @at);
value($node, "SELECT * FROM apikey.retire_signing_key('$doomed_kid', true)", @at);
$new->('eddsa', role => 'contributor', permissions => '{chat:read,dataset:read}', allowed_cidrs => '{10.0.0.0/8,::1/128}',
	metadata => '{"quote": "\'\\\\", "snow": "☃"}', owner => "O'Neill \\ Söhne");
$new->('opaque', role => 'team_lead');
$new->('again', idempotency_key => 'order 66');
my %key_of = map { ($_ => { $new->($_) }) } qw(revoked updated disabled deleted reenabled);
value($node, "SELECT * FROM apikey.revoke('$key_of{revoked}{key_id}', 'KEY_COMPROMISE')", @at);
value($node, "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$key_of{updated}{key_id}'", @at);
value($node, "SELECT apikey.disable('$key_of{disabled}{key_id}', 'unpaid')", @at);
value($node, "DELETE FROM apikey.key WHERE key_id = '$key_of{deleted}{key_id}'", @at);
value($node, "SELECT apikey.disable('$key_of{reenabled}{key_id}'); SELECT apikey.enable('$key_of{reenabled}{key_id}')", @at);
for my $kind (qw(previous superseded older))
{
	$new->($kind, ttl => '1 hour');
	value($node, 'SET apikey.refresh_grace = 0', @at);
	my $grace = $kind eq 'previous' ? '12h' : '0';
	$token{"next_$kind"} = value($node, "SET apikey.refresh_grace = '$grace'; SELECT token FROM apikey.refresh(" . literal($token{$kind}) . ')', @at);
}
$token{last_older} = { refresh($node, $token{next_older}, @at) }->{token};

my %expected = (
	(map { ($_ => 'VALID') } qw(hs256 es256 opaque again reenabled previous next_previous next_superseded last_older)),
	(map { ($_ => 'REVOKED') } qw(retired revoked updated)),
	(map { ($_ => 'SUPERSEDED') } qw(superseded older)),
	next_older => 'VALID', disabled => 'DISABLED', deleted => 'NOT_FOUND', eddsa => 'FORBIDDEN');
my $verdicts_of = sub {
	my ($database) = @_;
	my %verdicts = map { ($_ => { verdict($node, $token{$_}, database => $database) }) } keys %token;
	# How much is left of the minute, and in it, is none of the key's doing: another one may begin at any time.
	delete @$_{qw(rate_reset rate_remaining)} for values %verdicts;
	return \%verdicts;
};
my $source_verdicts = $verdicts_of->('source');
is_deeply({ map { ($_ => $source_verdicts->{$_}{code}) } keys %token }, \%expected, 'the verdicts to be kept are those expected');
is(code($node, $token{eddsa}, client => '10.1.2.3', @at), 'VALID', 'a key with addresses');
my %source = contents('source');
my $source_privileges = privileges('source');
isnt($source{$_}, '', "there is something to dump in $_") for @tables;
is($source{audit_event}, $source{audit_event_default}, 'all audit events are in the default partition');

# restored DATABASE: everything about it is as it was.
sub is_same
{
	my ($database, %options) = @_;
	my %there = contents($database);
	is($there{$_}, $source{$_}, "$database: table $_ is the same, row by row") for @tables;
	is(privileges($database), $source_privileges, "$database: privileges are the same") unless $options{data_only};
	is_deeply($verdicts_of->($database), $source_verdicts, "$database: the verdicts are the same");
	is(code($node, $token{eddsa}, client => '10.1.2.3', database => $database), 'VALID', "$database: a key with addresses");
	return;
}

# Plain SQL, then a dump of what was restored.
my $plain = "$directory/plain.sql";
dump_of('source', $plain);
psql_restore(create_database('restored'), $plain);
is_same('restored');
dump_of('restored', "$directory/second.sql");
psql_restore(create_database('restored_twice'), "$directory/second.sql");
is_same('restored_twice');

# The other ways.
psql_restore(create_database('in_one_transaction'), $plain, '-1');
is_same('in_one_transaction');
dump_of('source', "$directory/inserts.sql", '--inserts');
psql_restore(create_database('inserts'), "$directory/inserts.sql");
is_same('inserts');
dump_of('source', "$directory/custom.dump", '-Fc');
is_silent('pg_restore', 'pg_restore', '--exit-on-error', '-d', $node->connstr(create_database('custom')), "$directory/custom.dump");
is_same('custom');
# In parallel the tables come in any order.
for my $round (1 .. 3)
{
	my $parallel = create_database("parallel_$round");
	is_silent("pg_restore -j4, round $round", 'pg_restore', '--exit-on-error', '-j4', '-d', $node->connstr($parallel), "$directory/custom.dump");
	is_same($parallel);
}
dump_of('source', "$directory/data.sql", '--data-only');
value($node, 'CREATE EXTENSION apikey', database => create_database('data_only'));
psql_restore('data_only', "$directory/data.sql");
is_same('data_only', data_only => 1);

# The extension of one superuser, restored by another.
value($node, 'CREATE ROLE dba SUPERUSER LOGIN');
value($node, 'CREATE EXTENSION apikey', database => create_database('by_dba'), user => 'dba');
my %by_dba = issue($node, owner => 'dba', database => 'by_dba');
dump_of('by_dba', "$directory/by_dba.sql");
psql_restore(create_database('by_postgres'), "$directory/by_dba.sql");
is(code($node, $by_dba{token}, database => 'by_postgres'), 'VALID', 'restored by another superuser than the one who installed it');

# Where template1 has the extension, every database is born with the same seed roles, to the microsecond.
value($node, 'CREATE EXTENSION apikey', database => create_database('mold'));
create_database('cast_source', 'mold');
create_database('cast_restored', 'mold');
value($node, "UPDATE apikey.role SET description = 'edited' WHERE name = 'basic'", database => 'cast_source');
dump_of('cast_source', "$directory/cast.sql", '--data-only');
psql_restore('cast_restored', "$directory/cast.sql");
my ($cast_source, $cast_restored) = map { +{ contents($_) } } qw(cast_source cast_restored);
is($cast_restored->{$_}, $cast_source->{$_}, "restored over a template's extension: table $_ is the same, row by row") for @tables;

# No dump contains anything that validates.
my $master_key = unpack('H*', slurp_file($node->data_dir . '/apikey_master.key'));
for my $file (glob "$directory/*.sql")
{
	my $text = slurp_file($file);
	my ($name) = $file =~ m{([^/]+)$};
	like($text, qr/\Q$doomed{key_id}\E/, "$name: key ids are in it") unless $name =~ /^(cast|by_dba)\.sql$/;
	is_deeply([ grep { index($text, $token{$_}) >= 0 } sort keys %token ], [], "$name: no token is in it");
	# A JWT's signature; an opaque token's last 49 characters, which are its secret and the checksum.
	my %secret = map { ($_ => $token{$_} =~ /\.([^.]+)$/ ? $1 : substr($token{$_}, -49)) } keys %token;
	is_deeply([ grep { index($text, $secret{$_}) >= 0 } sort keys %secret ], [], "$name: nor the secret part of one");
	unlike($text, qr/\Q$master_key\E/i, "$name: nor the master key");
}

# What was restored lives on, and on its own.
my @there = (database => 'restored');
my %issued = issue($node, owner => 'later', @there);
is(code($node, $issued{token}, @there), 'VALID', 'a restored database issues');
is(code($node, $issued{token}, @at), 'NOT_FOUND', 'for itself');
my %successor = refresh($node, $token{next_previous}, @there);
is($successor{generation}, 3, 'a restored database refreshes');
is(code($node, $successor{token}, @there), 'VALID', 'and validates what it refreshed');
is(code($node, $token{previous}, @there), 'SUPERSEDED', 'the grace of the generation before that is over');
is(code($node, $token{previous}, @at), 'VALID', 'there, not where the dump came from');
my %again = issue($node, owner => 'acme', name => 'again', idempotency_key => 'order 66', @there);
is($again{token}, $token{again}, 'an idempotency key gives the same token after a restore');
value($node, 'SELECT * FROM apikey.revoke_token(' . literal($token{es256}) . ')', @there);
is(code($node, $token{es256}, @there), 'REVOKED', 'a restored database revokes');

# Access that was granted before is good after.
is(code($node, $token{hs256}, @there, user => 'app'), 'VALID', 'an application validates in a restored database');
is(sqlstate($node, "SELECT apikey.issue('acme')", @there, user => 'app'), '42501', 'and does not issue there');
is(sqlstate($node, "SELECT apikey.issue('acme', 'team_lead')", @there, user => 'issuer'), '00000', 'an issuer named by issuable_by issues there');
is(sqlstate($node, "SELECT apikey.issue('acme', 'admin')", @there, user => 'issuer'), '42501', 'but not admin keys');
is(sqlstate($node, 'SELECT count(*) FROM apikey.audit_event', @there, user => 'auditor'), '00000', 'an auditor reads there');
is(sqlstate($node, 'SELECT token_hash FROM apikey.key', @there, user => 'boss'), '42501', 'an admin does not see hashes there');

done_testing();
