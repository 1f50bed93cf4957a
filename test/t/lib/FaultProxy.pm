# test/bin/fault_proxy for the TAP tests: a proxy that breaks what passes through it.
#
#   my $proxy = FaultProxy->start(to => $redis->socket_path);      listen => path of a socket; otherwise a port of 127.0.0.1
#   $proxy->set('latency 50');     $proxy->status->{connections}     $proxy->address, $proxy->port
#
# What it can do is what test/bin/fault_proxy --help says. It ends with the test.
package FaultProxy;

use strict;
use warnings FATAL => 'all';

use File::Temp ();
use FindBin;
use IO::Socket::UNIX ();
use Socket qw(SOCK_STREAM);

my @started;
my $owner = $$;

sub start
{
	my ($class, %options) = @_;
	my $directory = File::Temp::tempdir('proxy-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $control = "$directory/control";
	my @command = (
		"$FindBin::RealBin/../bin/fault_proxy", '--listen', $options{listen} // '127.0.0.1:0', '--to', $options{to}, '--control', $control);
	my $pid = open(my $output, '-|', @command) // die "could not run fault_proxy: $!";
	my $self = bless { pid => $pid, output => $output, control => $control }, $class;
	push @started, $self;
	my $line = <$output> // die 'fault_proxy ended';
	($self->{address}) = $line =~ /^ready (\S+)$/ or die "fault_proxy said $line";
	return $self;
}

sub address { return $_[0]->{address}; }

sub port { return $_[0]->{address} =~ /:(\d+)$/ ? $1 : die 'it listens on no port'; }

# One of its commands; dies of an error.
sub set
{
	my ($self, $command) = @_;
	my $reply = $self->_say($command);
	die "fault_proxy: $command: $reply" if $reply ne 'ok';
	return;
}

# A hash: mode, connections, accepted, sent, received.
sub status
{
	my ($self) = @_;
	return { map { split(/=/, $_, 2) } split(/ /, $self->_say('status')) };
}

sub _say
{
	my ($self, $command) = @_;
	my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $self->{control}) // die "could not reach fault_proxy: $@";
	print $socket "$command\n";
	$socket->flush;
	my $reply = <$socket> // die 'fault_proxy does not answer';
	chomp $reply;
	return $reply;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	local ($?, $!);
	kill('TERM', $pid);
	close $self->{output};
	return;
}

END
{
	if ($$ == $owner)
	{
		local $?;
		$_->stop for @started;
	}
}

1;
