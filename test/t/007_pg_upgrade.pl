# pg_upgrade carries tables over, but not the master key file: until that has been copied the answer is UNAVAILABLE, and then it is
# what it was.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_cluster('old');
my @databases = qw(postgres second);
value($old, 'CREATE DATABASE second TEMPLATE template0; CREATE ROLE app LOGIN');
value($old, "CREATE EXTENSION apikey; SELECT apikey.grant_access('app', 'application')", database => 'second');
my %token;
for my $database (@databases)
{
	my @at = (database => $database);
	my %issue = map { ($_ => { issue($old, name => $_, ttl => '1 hour', @at) }) } qw(eddsa previous revoked disabled);
	$issue{opaque} = { issue($old, format => 'opaque', @at) };
	value($old, "SELECT apikey.rotate_signing_key('HS256')", @at);
	$issue{hs256} = { issue($old, @at) };
	$issue{current} = { refresh($old, $issue{previous}{token}, @at) };
	value($old, "SELECT * FROM apikey.revoke('$issue{revoked}{key_id}', 'KEY_COMPROMISE')", @at);
	value($old, "SELECT apikey.disable('$issue{disabled}{key_id}')", @at);
	value($old, "UPDATE apikey.role SET description = 'edited' WHERE name = 'basic'", @at);
	$token{$database} = { map { ($_ => $issue{$_}{token}) } keys %issue };
}

sub codes
{
	my ($node, $database) = @_;
	return { map { ($_ => code($node, $token{$database}{$_}, database => $database)) } keys %{ $token{$database} } };
}

sub contents
{
	my ($node, $database) = @_;
	return {
		map { ($_ => value($node, "SELECT to_jsonb(t) FROM apikey.$_ t ORDER BY to_jsonb(t)::text COLLATE \"C\"", database => $database)) }
		  qw(role signing_key key revocation audit_event) };
}
my %expected = (
	(map { ($_ => 'VALID') } qw(eddsa opaque hs256 previous current)), revoked => 'REVOKED', disabled => 'DISABLED');
is_deeply(codes($old, $_), \%expected, "before: $_") for @databases;
# The denials among them are written down, by the worker of one of the databases, before the tables are looked at.
$old->poll_query_until('postgres', "SELECT count(*) = 2 FROM apikey.audit_event WHERE event = 'denied'") or die 'no denials';
my %contents = map { ($_ => contents($old, $_)) } @databases;
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nlog_statement = none\n");
my $bindir = $new->config_data('--bindir');
my $directory = PostgreSQL::Test::Utils::tempdir();
chdir $directory or die "could not enter $directory: $!";
command_ok(
	[ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir, '-s', $new->host,
		'-p', $old->port, '-P', $new->port ],
	'pg_upgrade');
$new->start;
# At once: what is refused below becomes audit events within a second or so.
my %upgraded = map { ($_ => contents($new, $_)) } @databases;

my $path = $new->data_dir . '/apikey_master.key';
ok(!-e $path, 'pg_upgrade leaves the master key file behind');
for my $database (@databases)
{
	is_deeply(codes($new, $database), { map { ($_ => 'UNAVAILABLE') } keys %expected }, "without it nothing can be told: $database");
	is(sqlstate($new, "SELECT apikey.issue('acme')", database => $database), 'PT503', "nor issued: $database");
}
ok(!-e $path, 'and no other one is made');

write_file($path, slurp_file($old->data_dir . '/apikey_master.key'), 0600);
for my $database (@databases)
{
	is_deeply($upgraded{$database}, $contents{$database}, "all tables are as they were: $database");
	is_deeply(codes($new, $database), \%expected, "with the file every verdict is as before: $database");
	my %issued = issue($new, database => $database);
	is(code($new, $issued{token}, database => $database), 'VALID', "keys are issued: $database");
	my %next = refresh($new, $token{$database}{eddsa}, database => $database);
	is(code($new, $next{token}, database => $database), 'VALID', "and refreshed: $database");
	value($new, "SELECT * FROM apikey.revoke('$issued{key_id}')", database => $database);
	is(code($new, $issued{token}, database => $database), 'REVOKED', "and revoked: $database");
}
is(code($new, $token{second}{opaque}, database => 'second', user => 'app'), 'VALID', 'access that was granted is kept');
is(sqlstate($new, "SELECT apikey.issue('acme')", database => 'second', user => 'app'), '42501', 'and no more than that');
value($new, 'DROP EXTENSION apikey; CREATE EXTENSION apikey');
is(code($new, $token{postgres}{eddsa}), 'NOT_FOUND', 'the extension is whole: it can be dropped and created');

done_testing();
