# apikey.databases names what is not there, or cannot be there: the log says so, once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

# With umlauts of two bytes, so that byte 63 is in the middle of one.
my $overlong = 'x' . "\xc3\xa4" x 32;
my $longest = 'y' x 63;
my $node = new_cluster(
	'database_names',
	conf => "fsync = off\napikey.databases = 'postgres, missing, Folded, template0, $longest, \"$overlong\"'\n");

sub log_of { return slurp_file($node->logfile); }

sub warnings_of
{
	my ($pattern) = @_;
	return scalar(() = log_of() =~ /WARNING:  $pattern/g);
}

sub workers_in
{
	my ($expected, $what) = @_;
	return ok(
		$node->poll_query_until(
			'postgres',
			"SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_stat_activity WHERE backend_type = 'apikey maintenance'",
			$expected),
		$what);
}

# The launcher has looked at the list again when a database that is new in it has its worker.
sub reload
{
	my ($databases, $workers, $what) = @_;
	value($node, 'ALTER SYSTEM SET apikey.databases = ' . literal($databases));
	value($node, 'SELECT pg_reload_conf()');
	return workers_in($workers, $what);
}

my $absent = 'database "%s" of apikey\.databases does not exist or takes no connections';
my $cut_off = qr/name "\Q$overlong\E" in apikey\.databases is longer than 63 bytes/;

workers_in('postgres', 'the database that is there has its worker');
ok($node->wait_for_log(qr/WARNING:  $cut_off/), 'a name of more than 63 bytes is warned of');
for my $name ('missing', 'folded', 'template0', $longest)
{
	my $pattern = sprintf($absent, $name);
	ok($node->wait_for_log(qr/WARNING:  $pattern/), "so is $name");
}
unlike(log_of(), qr/database "postgres" of apikey\.databases/, 'and no database that is there');

value($node, "CREATE DATABASE $_") for qw(one other);
my $names = "missing, Folded, template0, $longest, \"$overlong\"";
reload("postgres, one, $names", 'one postgres', 'the list is read again');
reload("postgres, one, other, $names", 'one other postgres', 'and again');
is(warnings_of(sprintf($absent, 'missing')), 1, 'each name is warned of once');
is(warnings_of(sprintf($absent, 'folded')), 1, 'in lower case, which is what it is without double quotes');
is(warnings_of($cut_off), 1, 'and the long one once');

value($node, 'CREATE DATABASE missing');
workers_in('missing one other postgres', 'a database that comes to be gets its worker');
value($node, 'DROP DATABASE missing WITH (FORCE)');
my $again = sprintf($absent, 'missing');
ok($node->wait_for_log(qr/(?:WARNING:  $again.*){2}/s), 'one that is gone again is warned of again');

$node->stop;
done_testing();
