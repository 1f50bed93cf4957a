# The service of docs/examples/node in a process of its own, to be asked over HTTP.
#
#   my $service = NodeService->start(AK_NAMESPACE => 'shop', ...);     its settings, as the README of the example has them
#   $service->ask($token);                                             1: let through; 0: not, for the sake of a limit; undef: 503
#   $service->log_lines;                                               what it has logged, a hash each
package NodeService;

use strict;
use warnings FATAL => 'all';

use FindBin;
use HTTP::Tiny ();
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);

my $example = "$FindBin::RealBin/../../docs/examples/node";
my @running;

sub is_installed
{
	return -d "$example/node_modules/ioredis" && eval { IPC::Run::run([ 'node', '--version' ], '>', \my $output, '2>', \my $errors) };
}

sub start
{
	my ($class, %settings) = @_;
	my $log = PostgreSQL::Test::Utils::tempdir() . '/service.log';
	local %ENV = (%ENV, AK_LISTEN => '127.0.0.1:0', %settings);
	my $process = IPC::Run::start([ 'node', "$example/service.mjs" ], '<', \undef, '>', $log, '2>', "$log.errors");
	my $self = bless { log => $log, process => $process, http => HTTP::Tiny->new(timeout => 60) }, $class;
	push @running, $process;
	wait_until(
		sub {
			die slurp_file("$log.errors") unless $process->pumpable;
			my ($line) = slurp_file($log) =~ /^(\{.*"listening".*\})$/m;
			$self->{url} = 'http://127.0.0.1:' . JSON::PP::decode_json($line)->{port} if $line;
			return defined $line;
		},
		'the service listens');
	return $self;
}

sub ask
{
	my ($self, $token) = @_;
	my $response = $self->{http}->get("$self->{url}/v1/whoami", { headers => { authorization => "Bearer $token" } });
	my %meaning = (200 => 1, 429 => 0, 503 => undef);
	die "$response->{status}: $response->{content}" unless exists $meaning{ $response->{status} };
	return $meaning{ $response->{status} };
}

sub log_lines
{
	my ($self) = @_;
	return map { JSON::PP::decode_json($_) } slurp_file($self->{log}) =~ /^(\{.*\})$/mg;
}

sub stop
{
	my ($self) = @_;
	$self->{process}->signal('TERM');
	eval { $self->{process}->finish };
	@running = grep { $_ != $self->{process} } @running;
	return;
}

END
{
	my $status = $?;
	eval { $_->kill_kill } for @running;
	$? = $status;
}

1;
