# The library's own lines in the server log stand alone: the statement that a session runs meanwhile, which may hold a token, and the
# functions that it is in are not beside them.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('log_lines', conf => "log_error_verbosity = verbose\nlog_min_error_statement = debug5\nlog_min_messages = warning\napikey.max_databases = 1\n");
my %key = issue($node, ttl => '1 hour');
my $master_key = $node->data_dir . '/apikey_master.key';
my $piece = substr($key{token}, -40);

# The library's lines from there on, and whether the log holds the token.
sub lines_from
{
	my ($start) = @_;
	my $log = slurp_file($node->logfile, $start);
	# An entry: a line, and what is indented or named as belonging to it.
	my @entries = grep { /(?:LOG|WARNING):\s+\S+:\s+apikey/ } split(/\n(?=\d{4}-\d\d-\d\d [^\n]* (?:LOG|WARNING|ERROR|FATAL|DEBUG\d?):)/, $log);
	return ($log, @entries);
}

sub stands_alone
{
	my ($what, $start, $expected, %options) = @_;
	my ($log, @entries) = lines_from($start);
	my @ours = grep { $_ =~ $expected } @entries;
	cmp_ok(scalar(@ours), '>=', 1, "$what: is logged");
	is(scalar(grep { /STATEMENT:|CONTEXT:/ } @ours), 0, "$what: without statement and context");
	is(index($log, $piece), -1, "$what: no token in the log") unless $options{error};
	return;
}

# In a function that calls it, where PostgreSQL would add a context too.
value($node, q{CREATE FUNCTION verdict_of(token text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (apikey.validate(token)).code; END $$});

my $start = -s $node->logfile;
chmod(0644, $master_key) or die "could not chmod: $!";
is(value($node, 'SELECT verdict_of(' . literal($key{token}) . ')'), 'UNAVAILABLE', 'a master key file with another mode');
stands_alone('a master key file with another mode', $start, qr/has mode 0644, and the server's user owns it/);

$start = -s $node->logfile;
rename($master_key, "$master_key.kept") or die "could not rename: $!";
is(value($node, 'SELECT code FROM apikey.validate(' . literal($key{token}) . ')'), 'UNAVAILABLE', 'no master key file');
stands_alone('no master key file', $start, qr/does not exist/);

$start = -s $node->logfile;
write_file($master_key, 'x' x 32, 0600);
is(sqlstate($node, 'SELECT apikey.issue(owner => ' . literal($piece) . ')'), 'PT503', 'another master key');
# The error itself has the statement: that line is PostgreSQL's.
stands_alone('another master key', $start, qr/is not the one that keys of this database were made under/, error => 1);
unlink($master_key);
rename("$master_key.kept", $master_key) or die "could not rename: $!";
chmod(0600, $master_key);

# A database that has no place in shared memory, and in which a master key file is made.
$start = -s $node->logfile;
value($node, 'CREATE DATABASE other');
value($node, 'CREATE EXTENSION apikey', database => 'other');
my ($output, $errors) = run_sql($node, 'SELECT code FROM apikey.validate(' . literal($key{token}) . ')', database => 'other');
like($errors, qr/WARNING:.*keeps no counters/, 'the client is warned');
stands_alone('a database without a place', $start, qr/keeps no counters/);

$start = -s $node->logfile;
$node->append_conf('postgresql.conf', "apikey.master_key_file = 'other.key'");
$node->restart;
value($node, 'CREATE DATABASE third');
value($node, 'CREATE EXTENSION apikey', database => 'third');
value($node, 'SELECT generation FROM apikey.issue(owner => ' . literal($piece) . ')', database => 'third');
stands_alone('a new master key file', $start, qr/created master key file/);

# What would have been there: PostgreSQL logs the statement beside the line of anybody else.
$start = -s $node->logfile;
value($node, q{DO $$ BEGIN RAISE LOG 'apikey is not alone'; END $$ /* } . $piece . ' */');
my ($log, @entries) = lines_from($start);
is(scalar(grep { /STATEMENT:/ } @entries), 1, 'a line that is not the library\'s has the statement');
cmp_ok(index($log, $piece), '>=', 0, 'and the token in it');

$node->stop;
done_testing();
