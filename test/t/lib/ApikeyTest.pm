# What the TAP tests of apikey share: a cluster with the extension, and SQL that answers in Perl's terms.
#
# Where a function takes $where, that is a PostgreSQL::Test::Cluster (each call its own connection, to "database", as "user") or a
# session() of one.
package ApikeyTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(new_cluster new_standby session run_sql value rows row failure sqlstate literal arguments issue refresh verdict code
  await_code code_and_source create_told metric write_file mode_of avoid_month_end restart_maintenance seconds);

# A running cluster, reached through its unix socket only, where database postgres has the extension.
#   preload => 0      not in shared_preload_libraries
#   extension => 0    no CREATE EXTENSION
#   streaming => 1    standbys can follow it
#   conf => '...'     more of postgresql.conf
sub new_cluster
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(
		allows_streaming => $options{streaming} // 0,
		extra => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', "log_statement = none\nautovacuum = off\n");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\n") if $options{preload} // 1;
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION apikey') if $options{extension} // 1;
	return $node;
}

# A running standby of a cluster that was made with streaming => 1.
#   conf => '...'     more of postgresql.conf
#   before_start => sub { my ($standby) = @_; ... }
sub new_standby
{
	my ($name, $primary, %options) = @_;
	$primary->backup($name);
	my $standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($primary, $name, has_streaming => 1);
	# pg_basebackup keeps the mode of a file, but init_from_backup copies what it made once more, and does not.
	my $master_key = $standby->data_dir . '/apikey_master.key';
	chmod(0600, $master_key) or die "could not chmod $master_key: $!" if -e $master_key;
	$standby->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$options{before_start}->($standby) if defined $options{before_start};
	$standby->start;
	return $standby;
}

# For a test that must end in the month (of UTC) in which it begins: if the month is about to end, waits for the next one.
sub avoid_month_end
{
	my ($node) = @_;
	my $month = "date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC' + %s)";
	my $same = sprintf("SELECT $month = $month", "interval '0'", "interval '150 seconds'");
	$node->poll_query_until('postgres', $same, 't') or die 'the month does not end';
	return;
}

# How long something takes.
sub seconds
{
	my ($code) = @_;
	my $start = Time::HiRes::time();
	$code->();
	return Time::HiRes::time() - $start;
}

# Ends the maintenance worker of a database and waits for the next one, which looks for missing months when it starts.
sub restart_maintenance
{
	my ($node, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $running = "SELECT detail->>'pid' FROM apikey.status() WHERE component = 'maintenance' AND state = 'ok'";
	$node->poll_query_until($database, "SELECT EXISTS ($running)", 't') or die "$database has no maintenance worker";
	my $pid = value($node, $running, database => $database);
	value($node, "SELECT pg_terminate_backend($pid, 5000)");
	return ok($node->poll_query_until($database, "SELECT EXISTS ($running AND detail->>'pid' <> '$pid')", 't'), "$database: another worker");
}

# A psql that stays connected, and goes on after errors.
sub session
{
	my ($node, %options) = @_;
	my $session = $node->background_psql(
		$options{database} // 'postgres',
		on_error_stop => 0,
		extra_params => [ _user(%options) ]);
	$session->set_query_timer_restart;
	return $session;
}

sub _user
{
	my (%options) = @_;
	return defined $options{user} ? ('-U', $options{user}) : ();
}

# Output and error output, whatever happens.
sub run_sql
{
	my ($where, $sql, %options) = @_;
	if ($where->isa('PostgreSQL::Test::BackgroundPsql'))
	{
		# The error output is kept from one query to the next.
		$where->{stderr} = '';
		my $output = $where->query($sql);
		my $errors = $where->{stderr};
		$where->{stderr} = '';
		return ($output, $errors);
	}
	my (undef, $output, $errors) = $where->psql(
		$options{database} // 'postgres', $sql,
		on_error_stop => 0,
		extra_params => [ _user(%options) ]);
	return ($output, $errors);
}

# The verdict's code, and whether the token was "remembered" or had to be "proven". While nobody else validates.
sub code_and_source
{
	my ($where, $token, %options) = @_;
	my %at = defined $options{database} ? (database => $options{database}) : ();
	my @hits = (metric($where, 'apikey_proof_cache_hits_total', %at));
	my $code = code($where, $token, %options);
	push @hits, metric($where, 'apikey_proof_cache_hits_total', %at);
	return $code . ($hits[1] > $hits[0] ? ' remembered' : ' proven');
}

# The SQL function told(n): does a session hold the advisory lock n? Taking it is no transaction and makes nobody read anything again,
# so that a writer can say with it that a change is committed.
sub create_told
{
	my ($where) = @_;
	value($where, <<~'SQL');
	CREATE FUNCTION told(n integer) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
	    IF pg_try_advisory_lock_shared(n) THEN
	        PERFORM pg_advisory_unlock_shared(n);
	        RETURN false;
	    END IF;
	    RETURN true;
	END
	$$
	SQL
	return;
}

# A metric that has no labels.
sub metric
{
	my ($where, $name, %options) = @_;
	return value($where, 'SELECT value FROM apikey.metrics WHERE name = ' . literal($name), %options);
}

# The verdict's code, once it is the expected one, or what it is when time is up.
sub await_code
{
	my ($where, $token, $expected, %options) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $code = '';
	do { $code = code($where, $token, %options) } until $code eq $expected || time > $deadline;
	return $code;
}

# What psql prints; dies of an error.
sub value
{
	my ($where, $sql, %options) = @_;
	my ($output, $errors) = run_sql($where, $sql, %options);
	die "$errors\nin: $sql" if $errors =~ /\b(?:ERROR|FATAL|PANIC):/;
	return $output;
}

# The rows of a query, a hash each.
sub rows
{
	my ($where, $query, %options) = @_;
	my $json = value($where, "SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM ($query) q", %options);
	return @{ JSON::PP::decode_json($json) };
}

# The one row of a query.
sub row
{
	my @rows = rows(@_);
	die 'expected one row, got ' . scalar(@rows) if @rows != 1;
	return %{ $rows[0] };
}

# How a statement fails: hash of sqlstate, message, detail, hint; empty when it does not. In a session the transaction is then
# aborted, as anywhere.
sub failure
{
	my ($where, $sql, %options) = @_;
	my (undef, $errors) = run_sql($where, "\\set VERBOSITY verbose\n$sql\n;\n\\set VERBOSITY default", %options);
	return () unless $errors =~ /\b(?:ERROR|FATAL|PANIC):  (\w{5}): (.*)/;
	my %failure = (sqlstate => $1, message => $2, detail => '', hint => '');
	$failure{detail} = $1 if $errors =~ /^DETAIL:  (.*)/m;
	$failure{hint} = $1 if $errors =~ /^HINT:  (.*)/m;
	return %failure;
}

# 00000 when the statement succeeds.
sub sqlstate
{
	my %failure = failure(@_);
	return $failure{sqlstate} // '00000';
}

# A string constant of SQL.
sub literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	$text =~ s/\\/\\\\/g;
	return "E'$text'";
}

# Arguments by name: owner => 'acme' becomes owner => E'acme'. The options of this module are left out.
sub arguments
{
	my (%arguments) = @_;
	delete @arguments{qw(database user)};
	return join(', ', map { "$_ => " . literal($arguments{$_}) } sort keys %arguments);
}

# The row that apikey.issue() returns: issue($node, owner => 'acme', role => 'basic', format => 'opaque', database => 'other').
sub issue
{
	my ($where, %arguments) = @_;
	$arguments{owner} //= 'acme';
	return row($where, 'SELECT * FROM apikey.issue(' . arguments(%arguments) . ')', %arguments);
}

# The row that apikey.refresh() returns.
sub refresh
{
	my ($where, $token, %options) = @_;
	return row($where, 'SELECT * FROM apikey.refresh(' . literal($token) . ')', %options);
}

# The row that apikey.validate() returns: verdict($node, $token, permission => 'chat:read', database => 'other').
sub verdict
{
	my ($where, $token, %arguments) = @_;
	return row($where, 'SELECT * FROM apikey.validate(' . arguments(token => $token, %arguments) . ')', %arguments);
}

# The verdict's code.
sub code
{
	my ($where, $token, %arguments) = @_;
	return value($where, 'SELECT code FROM apikey.validate(' . arguments(token => $token, %arguments) . ')', %arguments);
}

# write_file($path, $bytes, $mode)
sub write_file
{
	my ($path, $bytes, $mode) = @_;
	unlink $path;
	open(my $file, '>:raw', $path) or die "could not create $path: $!";
	print $file $bytes;
	close $file or die "could not write $path: $!";
	chmod($mode, $path) or die "could not chmod $path: $!";
	return;
}

# Permission bits of a file, as in '0600'.
sub mode_of
{
	my ($path) = @_;
	return sprintf('%04o', (stat $path)[2] & 07777);
}

1;
