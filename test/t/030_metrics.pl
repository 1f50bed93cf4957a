# Debian's postgres_exporter with the configuration from docs/examples/monitoring: every metric of the view comes through, with its value,
# type and help. And what takes a server of its own: full tables and rings, a lost master key, a restart, no preloading.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use HTTP::Tiny;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $exporter = 'prometheus-postgres-exporter';
my $has_exporter = eval { IPC::Run::run([ $exporter, '--version' ], '>', \my $version, '2>', \my $errors) };
die "$exporter is needed in CI" if $ENV{CI} && !$has_exporter;
# Its own metrics are another set in each version.
my @collectors;
if ($has_exporter)
{
	IPC::Run::run([ $exporter, '--help' ], '>', \my $help, '2>&1');
	@collectors = $help =~ /^\s+--(?:\[no-\])?collector\.(\w+)(?=\s|$)/mg;
}

# Not in database postgres: whatever works there in the background would change what is counted.
my $node = new_cluster(
	'metrics',
	extension => 0,
	streaming => 1,
	conf => "fsync = off\napikey.cache_entries = 1024\napikey.rate_entries = 1024\napikey.event_entries = 64\n");
my @app = (database => 'app');
value($node, 'CREATE DATABASE app');
value($node, 'CREATE EXTENSION apikey', @app);
value($node, "CREATE ROLE monitor LOGIN; SELECT apikey.grant_access('monitor', 'auditor')", @app);

# The rows of the view as the lines of a scrape: apikey_keys{role=basic,state=active} => 1.
sub series
{
	my ($name, %labels) = @_;
	$labels{le} += 0 if defined $labels{le} && $labels{le} ne '+Inf';
	return "$name\{" . join(',', map { "$_=$labels{$_}" } sort keys %labels) . '}';
}

# An age is another one each time it is looked at.
sub number
{
	my ($name, $value) = @_;
	return $name =~ /_age_seconds$/ ? $value >= 0 : 0 + $value;
}

sub metrics
{
	my ($where, %options) = @_;
	return map { (series($_->{name}, %{ $_->{labels} }) => number($_->{name}, $_->{value})) } rows($where, 'SELECT * FROM apikey.metrics', @app, %options);
}

# What has changed, but for durations.
sub difference
{
	my ($before, $after) = @_;
	return { map { ($_ => $after->{$_} - $before->{$_}) } grep { !/_duration_/ && $after->{$_} != $before->{$_} } keys %$after };
}

# The exporter's, without the label that it adds: (values, types, helps) of everything that is ours.
sub scrape
{
	my ($port) = @_;
	my $response = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
	die "$response->{status} $response->{reason}: $response->{content}" unless $response->{success};
	my (%values, %types, %helps);
	for my $line (grep { /\bapikey_/ } split(/\n/, $response->{content}))
	{
		if ($line =~ /^# (TYPE|HELP) (\w+) (.*)$/)
		{
			($1 eq 'TYPE' ? \%types : \%helps)->{$2} = $3;
			next;
		}
		my ($name, $labels, $value) = $line =~ /^(\w+)(?:\{(.*)\})? (\S+)$/ or die "not understood: $line";
		my %labels = ($labels // '') =~ /(\w+)="([^"]*)"/g;
		delete $labels{server};
		my $series = series($name, %labels);
		die "twice: $series" if exists $values{$series};
		$values{$series} = number($name, $value);
	}
	return (\%values, \%types, \%helps);
}

my $running;

sub start_exporter
{
	my ($port) = @_;
	local $ENV{DATA_SOURCE_NAME} = "user=monitor dbname=app host='" . $node->host . "' port=" . $node->port . ' sslmode=disable';
	my $log = '';
	$running = IPC::Run::start(
		[ $exporter, "--web.listen-address=127.0.0.1:$port", "--extend.query-path=$FindBin::RealBin/../../docs/examples/monitoring/postgres_exporter.yaml",
			qw(--disable-default-metrics --disable-settings-metrics), map { "--no-collector.$_" } @collectors ],
		'<', \'', '>', \$log, '2>&1',
		my $timer = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$running->pump until $log =~ /Listening on/ || !$running->pumpable;
	die "$exporter did not start:\n$log" unless $log =~ /Listening on/;
	$timer->reset;
	return;
}

# Also when the test dies.
sub stop_exporter
{
	$running->kill_kill if $running;
	$running = undef;
	return;
}
END { local $?; stop_exporter() }

# A little of everything, from several sessions, one of which is still there.
my $session = session($node, @app);
my %key = issue($session, ttl => '1 hour');
issue($node, role => 'contributor', @app) for 1 .. 2;
my %next = refresh($node, $key{token}, @app);
is(code($session, $key{token}), 'VALID', 'a token validates') for 1 .. 3;
is(code($session, 'nonsense'), 'MALFORMED', 'another one does not');
is(sqlstate($node, 'SELECT apikey.refresh(' . literal($next{token} . 'A') . ')', @app), 'PT401', 'nor can it be refreshed');
my %first = metrics($node);
is($first{'apikey_keys_issued_total{}'}, 3, 'what sessions have counted that are gone, and what those have that are not');
is($first{'apikey_validations_total{code=VALID,traffic=key}'}, 3, 'is all there');

SKIP:
{
	skip "$exporter is not installed", 1 unless $has_exporter;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	start_exporter($port);
	my ($values, $types, $helps) = scrape($port);
	my %view = metrics($node);
	is_deeply($values, \%view, 'the exporter shows every metric of the view, with its labels and its value, and nothing else');
	# But for what there is only with a mirror.
	my @types = grep { $_->{name} !~ /^apikey_(?:mirror_watermark_age_seconds|rate_exchange_age_seconds|rate_nodes)$/ }
	  rows($node, 'SELECT * FROM apikey.metric_types', @app);
	is_deeply($types, { map { ($_->{name} => $_->{type}) } @types }, 'their types');
	is_deeply($helps, { map { ($_->{name} => $_->{help}) } @types }, 'their help');

	is(code($session, $key{token}), 'VALID', 'one more validation');
	my ($later) = scrape($port);
	is_deeply(
		difference($values, $later),
		{ 'apikey_validations_total{code=VALID,traffic=key}' => 1, 'apikey_proof_cache_hits_total{}' => 1 },
		'shows in the next scrape, and nothing else does');
	stop_exporter();
}

# More tokens than there is room for proofs, windows and events: nothing gets lost without being counted.
$session->quit;
my %before = metrics($node);
my $many = 1200;
value($node, "CREATE TABLE token AS SELECT (apikey.issue('many', format => 'opaque')).token FROM generate_series(1, $many)", @app);
is(value($node, 'SELECT count(*) FROM token WHERE apikey.check_token(token)', @app), $many, "$many tokens validate");
my %after = metrics($node);
my $risen = difference(\%before, \%after);
is($risen->{'apikey_proof_cache_misses_total{}'}, $many, 'each had to prove itself');
cmp_ok($risen->{'apikey_proof_cache_evictions_total{}'}, '>=', $many - 1024, 'proofs made room');
is($risen->{'apikey_proof_cache_entries{}'} + $risen->{'apikey_proof_cache_evictions_total{}'}, $many, 'and what did not is still there');
cmp_ok($risen->{'apikey_rate_limit_evictions_total{}'}, '>=', $many - 1024, 'rate windows made room');
is($after{'apikey_event_ring_size{}'}, 64, 'the ring is full of their use counts');
is($risen->{'apikey_events_dropped_total{kind=use}'} // 0, $risen->{'apikey_rate_limit_evictions_total{}'} - $risen->{'apikey_event_ring_size{}'},
	'what did not fit was dropped');
is($risen->{'apikey_events_dropped_total{kind=denial}'}, undef, 'none of them a denial');
is(code($node, 'nonsense', @app), 'MALFORMED', 'a denial');
is_deeply(
	difference(\%after, { metrics($node) }),
	{
		'apikey_validations_total{code=MALFORMED,traffic=key}' => 1, 'apikey_jwt_decode_failures_total{}' => 1,
		'apikey_proof_cache_misses_total{}' => 1, 'apikey_events_dropped_total{kind=denial}' => 1
	},
	'that does not fit any more is dropped, and counted');

# Without the master key nothing can be decided about a token, nor a new one made for one that is remembered.
my %unproven = issue($node, ttl => '1 hour', format => 'opaque', @app);
my %remembered = issue($node, ttl => '1 hour', @app);
is(code($node, $remembered{token}, @app), 'VALID', 'a token is remembered');
my $master_key = $node->data_dir . '/apikey_master.key';
rename($master_key, "$master_key.lost") or die "could not rename $master_key: $!";
%before = metrics($node);
is(code($node, $unproven{token}, @app), 'UNAVAILABLE', 'without the master key another one cannot be proven');
is(sqlstate($node, 'SELECT apikey.refresh(' . literal($_->{token}) . ')', @app), 'PT503', 'nor refreshed, nor can the first')
  for (\%unproven, \%remembered);
%after = metrics($node);
rename("$master_key.lost", $master_key) or die "could not rename it back: $!";
$risen = difference(\%before, \%after);
is($risen->{'apikey_validations_total{code=UNAVAILABLE,traffic=key}'}, 1, 'a validation that cannot be made is counted as UNAVAILABLE');
is($risen->{'apikey_refreshes_refused_total{code=UNAVAILABLE}'}, 2, 'and refreshes, of a token that cannot prove itself and of one that has');

# A standby counts for itself, and sees the same keys.
%before = metrics($node);
my $standby = new_standby('standby', $node);
is(code($standby, $remembered{token}, @app), 'VALID', 'a standby validates');
my %there = metrics($standby);
is($there{'apikey_validations_total{code=VALID,traffic=key}'}, 1, 'and counts that');
is_deeply(difference(\%before, { metrics($node) }), {}, 'the primary does not');
is($there{'apikey_in_recovery{}'} - $before{'apikey_in_recovery{}'}, 1, 'it says that it is one');
is_deeply(
	{ map { ($_ => $there{$_}) } grep { /^apikey_keys(?!_issued)/ } keys %there },
	{ map { ($_ => $before{$_}) } grep { /^apikey_keys(?!_issued)/ } keys %before },
	'both see the same keys');
$standby->stop;

# A restart begins anew, but for the keys.
$node->restart;
my %restarted = metrics($node);
is_deeply(
	[ grep { /_total|_duration_|_entries|_size/ && $restarted{$_} != 0 } sort keys %restarted ], [],
	'after a restart every counter is zero');
cmp_ok($restarted{'apikey_start_time_seconds{}'}, '>=', $first{'apikey_start_time_seconds{}'}, 'since a later time');
is($restarted{'apikey_keys{role=basic,state=active}'}, $after{'apikey_keys{role=basic,state=active}'}, 'keys are counted as before');

# Without preloading there is what tables say.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my %bare = metrics($node, user => 'monitor');
is_deeply(
	\%bare, { map { ($_ => $restarted{$_}) } grep { /^apikey_(?:build_info|in_recovery|mirror_outbox|audit_months|keys(?!_issued))/ } keys %restarted },
	'without preloading the view shows what tables say, and the version');
my %failure = failure($node, 'SELECT * FROM apikey.latency_histogram()', @app);
is($failure{sqlstate}, '55000', 'the histogram says what it needs');
like($failure{hint}, qr/shared_preload_libraries/, 'and how to get it');
SKIP:
{
	skip "$exporter is not installed", 1 unless $has_exporter;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	start_exporter($port);
	my ($values) = scrape($port);
	is_deeply($values, \%bare, 'so does the exporter');
	stop_exporter();
}

done_testing();
