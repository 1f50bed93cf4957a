# Redis servers for the TAP tests, each in a directory of its own, with a client that needs no module from CPAN.
#
#   my $redis = RedisServer->start(port => 1, appendonly => 'yes');
#   $redis->command('SET', 'a', 1);                       dies of an error reply, as RedisServer::Error
#   my @replies = $redis->pipeline([ 'GET', 'a' ], [ 'FOO' ]);    errors among the replies are objects
#   $redis->kill9; $redis->restart;
#
# A unix socket is always there, for the test itself, whatever else a server listens on. Text is a string, an integer a number, nil
# undef, an array a reference. All servers end with the test.
package RedisServer;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Basename ();
use File::Temp ();
use IO::Socket::INET ();
use POSIX ();
use Time::HiRes ();

our @EXPORT_OK = qw(wait_until free_port certificates);

# Seconds, for whatever is waited for.
our $timeout = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;

my @started;
my $owner = $$;

# Starts a server and waits until it answers.
#   name => 'mirror'         for its log file
#   port => 1 | number       also listens on the loopback address; 1: a free port
#   password => '...'        of the default user
#   acl => [ 'user app on >secret ~app:* +get', ... ]   more users. Has a user 'default' among them no password, name one with
#   user => '...'            whom the test's own connection is to log in as, with "password"
#   tls => { ca, certificate, key [, auth_clients => 'yes' ] }      files, as from certificates(); a TLS port of its own: tls_port()
#   appendonly => 'yes', appendfsync => 'always', maxmemory => '10mb', maxmemory_policy => 'allkeys-lru', ...
#                            any other setting: in its name "-" is "_"; a reference to an array sets it several times
#   replicaof => $server     which has a port
#   conf => '...'            more lines of redis.conf
#   sentinel => 1            redis-sentinel; cluster_enabled => 'yes' makes a node of a cluster
sub start
{
	my ($class, %options) = @_;
	my $self = bless { name => 'redis', %options, user_options => \%options }, $class;
	$self->{directory} = File::Temp::tempdir('redis-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $test = File::Basename::basename($0, '.pl');
	$self->{log_file} = ($ENV{TESTLOGDIR} // $self->{directory}) . "/${test}_$self->{name}_" . @started . '.log';
	push @started, $self;
	# Somebody else may take a port that was free: then another.
	for my $attempt (1 .. 5)
	{
		# A cluster's bus has a port that is 10000 higher.
		my $highest = $options{cluster_enabled} ? 55535 : 65535;
		$self->{port} = free_port($highest) if ($options{port} // 0) eq 1;
		$self->{tls_port} = free_port($highest) if $options{tls};
		$self->_write_configuration;
		return $self if eval { $self->restart; 1 };
		die $@ if $attempt == 5 || $self->log !~ /Address already in use|Failed listening/;
	}
	return;
}

sub _write_configuration
{
	my ($self) = @_;
	my %options = %{ $self->{user_options} };
	my ($tls, $master, $acl, $password) = @options{qw(tls replicaof acl password)};
	my @lines = (
		"dir $self->{directory}", 'unixsocket ' . $self->socket_path, 'port ' . ($self->{port} // 0), 'daemonize no',
		'bind 127.0.0.1', "logfile $self->{log_file}");
	if (!$options{sentinel})
	{
		push @lines, 'save ""' unless exists $options{save};
		push @lines, 'repl-diskless-sync-delay 0' unless exists $options{repl_diskless_sync_delay};
	}
	if ($tls)
	{
		push @lines, "tls-port $self->{tls_port}", "tls-ca-cert-file $tls->{ca}", "tls-cert-file $tls->{certificate}",
		  "tls-key-file $tls->{key}", 'tls-auth-clients ' . ($tls->{auth_clients} // 'no');
	}
	if ($master)
	{
		push @lines, 'replicaof 127.0.0.1 ' . $master->port;
		push @lines, "masterauth $master->{password}" if defined $master->{password};
	}
	if ($acl)
	{
		my @users = @$acl;
		unshift @users, 'user default on ' . (defined $password ? ">$password" : 'nopass') . ' ~* &* +@all'
		  unless grep { /^user default / } @users;
		_write("$self->{directory}/users.acl", map { "$_\n" } @users);
		push @lines, "aclfile $self->{directory}/users.acl";
	}
	elsif (defined $password)
	{
		push @lines, "requirepass $password";
	}
	delete @options{qw(name port password acl user tls replicaof sentinel conf)};
	for my $option (sort keys %options)
	{
		my $name = $option =~ s/_/-/gr;
		push @lines, map { "$name $_" } ref $options{$option} ? @{ $options{$option} } : $options{$option};
	}
	push @lines, $self->{conf} if defined $self->{conf};
	_write($self->configuration_file, map { "$_\n" } @lines);
	return;
}

sub _write
{
	my ($path, @lines) = @_;
	open(my $file, '>', $path) or die "could not create $path: $!";
	print $file @lines;
	close $file or die "could not write $path: $!";
	return;
}

#
# What there is to know of it
#

sub pid { return $_[0]->{pid}; }                          # undef while it does not run
sub port { return $_[0]->{port} // die 'this server has no port'; }
sub tls_port { return $_[0]->{tls_port} // die 'this server has no TLS'; }
sub directory { return $_[0]->{directory}; }
sub socket_path { return "$_[0]->{directory}/socket"; }
sub configuration_file { return "$_[0]->{directory}/redis.conf"; }

# All that it has logged, from every start.
sub log
{
	my ($self) = @_;
	open(my $file, '<', $self->{log_file}) or return '';
	local $/ = undef;
	return scalar <$file> // '';
}

# A section of INFO as a hash: info('replication')->{role}. Without a name, all of the default ones.
sub info
{
	my ($self, @section) = @_;
	return { $self->command('INFO', @section) =~ /^([^#:\r\n][^:\r\n]*):(.*?)\r?$/mg };
}

#
# Its life
#

# Starts it again, with the data that it finds, and waits until it answers; it must not be running.
sub restart
{
	my ($self) = @_;
	die 'this server is running' if defined $self->{pid};
	unlink $self->socket_path;
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		# Nothing of Perl's own ending must happen here.
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $self->{log_file});
		open(STDERR, '>&', \*STDOUT);
		{
			no warnings 'exec';
			exec('redis-server', $self->configuration_file, $self->{sentinel} ? '--sentinel' : ());
		}
		POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	my $ready = eval {
		wait_until(
			sub {
				die "redis-server has ended:\n" . $self->log if waitpid($pid, POSIX::WNOHANG()) == $pid;
				return eval { $self->connection->command('PING') eq 'PONG' } || $self->_disconnect;
			},
			'redis-server answers');
	};
	if (!$ready)
	{
		my $error = $@;
		$self->_end('KILL');
		die $error;
	}
	return $self;
}

# As an administrator does.
sub stop { return $_[0]->_end('TERM'); }

sub kill9 { return $_[0]->_end('KILL'); }

# It is there, and does not answer, until resume().
sub pause { kill('STOP', $_[0]->{pid}) or die "could not stop it: $!"; return; }
sub resume { kill('CONT', $_[0]->{pid}) or die "could not continue it: $!"; return; }

sub _end
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} // return;
	$self->_disconnect;
	local ($?, $!);
	kill($signal, $pid);
	kill('CONT', $pid);
	# One that does not obey ends all the same.
	my $deadline = Time::HiRes::time() + ($signal eq 'KILL' ? $timeout : 10);
	while (waitpid($pid, POSIX::WNOHANG()) == 0)
	{
		if (Time::HiRes::time() > $deadline)
		{
			kill('KILL', $pid);
			waitpid($pid, 0);
			last;
		}
		_pause();
	}
	return;
}

END
{
	if ($$ == $owner)
	{
		local $?;
		$_->_end('KILL') for @started;
	}
}

#
# Commands
#

# The reply; dies of an error.
sub command
{
	my ($self, @words) = @_;
	return $self->connection->command(@words);
}

# The replies, of commands that are sent together.
sub pipeline
{
	my ($self, @commands) = @_;
	return $self->connection->pipeline(@commands);
}

# The text of the error that a command fails with, '' when it does not.
sub failure
{
	my ($self, @words) = @_;
	my ($reply) = $self->pipeline(\@words);
	return ref $reply && ref $reply ne 'ARRAY' ? "$reply" : '';
}

# The test's own connection, which lasts as long as the server does.
sub connection
{
	my ($self) = @_;
	# Not a parent's, whose replies it would take.
	if (!$self->{connection} || $self->{connection}{process} != $$)
	{
		$self->{connection} = $self->connect(user => $self->{user}, password => $self->{password});
	}
	return $self->{connection};
}

sub _disconnect
{
	my ($self) = @_;
	delete $self->{connection};
	return 0;
}

# One more: connect(user => 'app', password => 'secret'), through the port with port => 1. It has command() and pipeline(), too.
sub connect
{
	my ($self, %options) = @_;
	my $connection =
	  RedisServer::Connection->new($options{port} ? (PeerAddr => '127.0.0.1', PeerPort => $self->port) : (Peer => $self->socket_path));
	$connection->command('AUTH', $options{user} // (), $options{password}) if defined $options{password};
	return $connection;
}

#
# Functions
#

# What the sub returns, once that is true; it is asked again and again, and may die. Dies when time is up: wait_until(sub { … }, 'it is so')
sub wait_until
{
	my ($sub, $what) = @_;
	my $deadline = Time::HiRes::time() + $timeout;
	while (1)
	{
		my $result = $sub->();
		return $result if $result;
		die 'timed out waiting until ' . ($what // 'a condition holds') . "\n" if Time::HiRes::time() > $deadline;
		_pause();
	}
	return;
}

sub _pause
{
	select(undef, undef, undef, 0.01);
	return;
}

# A port of the loopback address that nobody listens on, and no higher than that.
sub free_port
{
	my ($highest) = @_;
	my @high;
	while (@high < 100)
	{
		my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 1)
		  or die "could not find a free port: $@";
		return $socket->sockport if $socket->sockport <= ($highest // 65535);
		# Kept, so that it is not offered again.
		push @high, $socket;
	}
	die 'could not find a free port';
}

# A certificate for localhost and 127.0.0.1, and the authority that signed it, made with openssl: ( ca, certificate, key ), files in the
# directory. Each call makes another authority.
sub certificates
{
	my ($directory) = @_;
	my %file = (ca => "$directory/ca.pem", certificate => "$directory/server.pem", key => "$directory/server.key");
	my @new = ('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes');
	_write("$directory/server.ext", "subjectAltName = DNS:localhost, IP:127.0.0.1\n");
	for my $arguments (
		[ @new, '-x509', '-days', '30', '-subj', '/CN=test authority', '-keyout', "$directory/ca.key", '-out', $file{ca} ],
		[ @new, '-subj', '/CN=localhost', '-keyout', $file{key}, '-out', "$directory/server.csr" ],
		[ 'x509', '-req', '-days', '30', '-in', "$directory/server.csr", '-CA', $file{ca}, '-CAkey', "$directory/ca.key", '-CAcreateserial',
			'-extfile', "$directory/server.ext", '-out', $file{certificate} ])
	{
		# openssl talks even when all is well.
		open(my $openssl, '-|', 'sh', '-c', 'exec openssl "$@" 2>&1', 'openssl', @$arguments) or die "could not run openssl: $!";
		my $said = do { local $/ = undef; <$openssl> };
		close $openssl or die "openssl $arguments->[0] failed:\n$said";
	}
	return %file;
}

# An error that Redis answered: its text when it is printed.
package RedisServer::Error;

use overload '""' => sub { return $_[0]->{text}; }, fallback => 1;

sub new
{
	my ($class, $text) = @_;
	return bless { text => $text }, $class;
}

# A connection that speaks RESP2. It dies when the connection ends, or when no reply comes in time.
package RedisServer::Connection;

use IO::Select ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Scalar::Util ();
use Socket qw(SOCK_STREAM);

sub new
{
	my ($class, %where) = @_;
	my $socket = $where{Peer} ? IO::Socket::UNIX->new(Type => SOCK_STREAM, %where) : IO::Socket::INET->new(Proto => 'tcp', %where);
	die 'could not connect: ' . ($@ || $!) . "\n" unless $socket;
	$socket->autoflush(1);
	$socket->blocking(0);
	return bless { socket => $socket, select => IO::Select->new($socket), received => '', at => 0, process => $$ }, $class;
}

sub command
{
	my ($self, @words) = @_;
	$self->send(\@words);
	my $reply = $self->receive;
	die $reply if Scalar::Util::blessed($reply);
	return $reply;
}

sub pipeline
{
	my ($self, @commands) = @_;
	$self->send(@commands);
	return map { $self->receive } @commands;
}

# Only sends; receive() must be called as often as there were commands.
sub send
{
	my ($self, @commands) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $bytes = '';
	for my $words (@commands)
	{
		$bytes .= '*' . @$words . "\r\n";
		for my $word (@$words)
		{
			my $copy = "$word";
			utf8::encode($copy) if utf8::is_utf8($copy);
			$bytes .= '$' . length($copy) . "\r\n$copy\r\n";
		}
	}
	my $sent = 0;
	while ($sent < length $bytes)
	{
		my $n = syswrite($self->{socket}, $bytes, 65536, $sent);
		if (defined $n)
		{
			$sent += $n;
			next;
		}
		die "connection lost: $!\n" unless $!{EAGAIN} || $!{EINTR};
		# Redis stops reading while it cannot write: take what it has to say.
		my ($readable) = IO::Select::select($self->{select}, $self->{select}, undef, $RedisServer::timeout);
		die "no progress\n" unless defined $readable;
		$self->_read if @$readable;
	}
	return;
}

# The next reply.
sub receive
{
	my ($self) = @_;
	my $reply = $self->_reply;
	if ($self->{at} > 65536 || $self->{at} == length $self->{received})
	{
		substr($self->{received}, 0, $self->{at}, '');
		$self->{at} = 0;
	}
	return $reply;
}

sub _reply
{
	my ($self) = @_;
	my ($type, $rest) = $self->_line =~ /^([-+:\$*])(.*)$/s or die "not RESP2\n";
	return $rest if $type eq '+';
	return RedisServer::Error->new($rest) if $type eq '-';
	return 0 + $rest if $type eq ':';
	return undef if $rest < 0;    ## no critic (ProhibitExplicitReturnUndef): an element of an array
	return [ map { $self->_reply } 1 .. $rest ] if $type eq '*';
	$self->_await($rest + 2);
	my $text = substr($self->{received}, $self->{at}, $rest);
	$self->{at} += $rest + 2;
	return $text;
}

sub _line
{
	my ($self) = @_;
	my $end;
	$self->_read_more while ($end = index($self->{received}, "\r\n", $self->{at})) < 0;
	my $line = substr($self->{received}, $self->{at}, $end - $self->{at});
	$self->{at} = $end + 2;
	return $line;
}

sub _await
{
	my ($self, $length) = @_;
	$self->_read_more while length($self->{received}) - $self->{at} < $length;
	return;
}

sub _read_more
{
	my ($self) = @_;
	die "no reply within $RedisServer::timeout s\n" unless $self->{select}->can_read($RedisServer::timeout);
	$self->_read;
	return;
}

sub _read
{
	my ($self) = @_;
	my $n = sysread($self->{socket}, $self->{received}, 65536, length $self->{received});
	die "connection closed\n" if defined $n && $n == 0;
	die "connection lost: $!\n" unless defined $n || $!{EAGAIN} || $!{EINTR};
	return;
}

1;
