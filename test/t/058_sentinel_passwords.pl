# Whoever answers for a sentinel never gets the password of the data servers: not when it asks for one, and not by naming itself as the
# master where apikey.redis_masters says who may be one.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IO::Socket::INET ();
use MirrorTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use RedisLink;
use RedisServer qw(wait_until free_port);
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $password = 'data-password';
my $watch = 'sentinel-password';
write_file("$directory/password", "$password\n", 0600);
write_file("$directory/watch", "$watch\n", 0600);

my $node = new_link_cluster('sentinel_passwords', conf => "fsync = off\n");
my $session = session($node);
my %passwords = (password_file => "$directory/password", sentinel_password_file => "$directory/watch");
sub opening { my (%options) = @_; return 'SELECT link_open(' . arguments(%passwords, %options) . ')'; }

#
# Somebody who answers in the place of a sentinel, keeps what he is sent, and says to everything what the sub returns for its first word.
#

my @children;

sub impostor
{
	my ($name, $answer) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 5, ReuseAddr => 1) or die "listen: $@";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$SIG{TERM} = 'DEFAULT';
		while (my $client = $listener->accept)
		{
			$client->autoflush(1);
			while (defined(my $count = <$client>))
			{
				my @words;
				for (1 .. substr($count, 1))
				{
					my ($length) = (<$client> // last) =~ /^\$(\d+)/ or last;
					read($client, my $word, $length + 2) == $length + 2 or last;
					push @words, substr($word, 0, -2);
				}
				last unless @words;
				open(my $file, '>>', "$directory/$name") or die "open: $!";
				print $file "@words\n";
				close $file;
				print $client $answer->($listener->sockport, @words);
			}
		}
		POSIX::_exit(0);
	}
	push @children, $pid;
	my $port = $listener->sockport;
	close $listener;
	return $port;
}
sub said_to { my ($name) = @_; return -e "$directory/$name" ? slurp_file("$directory/$name") : ''; }

END
{
	local $?;
	kill('KILL', @children) if @children;
	waitpid($_, 0) for @children;
}

my $greedy = impostor('greedy', sub { return "-NOAUTH Authentication required.\r\n" });
my $sentinels = "sentinel://app\@127.0.0.1:$greedy/mymaster";
is_refused($session, opening(url => $sentinels, sentinel_password_file => ''),
	qr/^Redis at 127\.0\.0\.1:$greedy: this sentinel wants a password: apikey\.redis_sentinel_password_file$/, 'a sentinel that wants a password, and there is none for it');
is(said_to('greedy'), "SENTINEL get-master-addr-by-name mymaster\n", 'is sent none');
is_refused($session, opening(url => $sentinels, sentinel_user => 'watcher'), qr/^Redis at 127\.0\.0\.1:$greedy: .*NOAUTH/, 'a sentinel that wants a password');
like(said_to('greedy'), qr/^AUTH watcher \Q$watch\E$/m, 'is sent that for sentinels');
unlike(said_to('greedy'), qr/\Q$password\E|app/, 'and not user or password of the data servers');

my $liar = impostor(
	'liar',
	sub {
		my ($port, $command) = @_;
		return "*2\r\n\$9\r\n127.0.0.1\r\n\$" . length($port) . "\r\n$port\r\n" if $command eq 'SENTINEL';
		return "*1\r\n\$6\r\nmaster\r\n" if $command eq 'ROLE';
		return "+OK\r\n";
	});
my $redis = RedisServer->start(name => 'master', port => 1, password => $password);
my $master = '127.0.0.1:' . $redis->port;
for my $masters ($master, '10.0.0.0/8', 'redis.example', "127.0.0.1:$greedy")
{
	is_refused($session, opening(url => "sentinel://127.0.0.1:$liar/mymaster", masters => $masters),
		qr/^Redis at 127\.0\.0\.1:$liar: it is named as a master, but is not among apikey\.redis_masters$/, "a sentinel that names itself, where the masters are $masters");
}
is(said_to('liar'), "SENTINEL get-master-addr-by-name mymaster\n" x 4, 'is sent nothing but the question');

# The same of a cluster: of its nodes, those in the URL are named by nobody else.
my $seed = impostor(
	'seed',
	sub {
		my ($port, $command) = @_;
		return "+OK\r\n" unless $command eq 'CLUSTER';
		return "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n\$9\r\n127.0.0.1\r\n:$liar\r\n";
	});
my $cluster = opening(url => "cluster://127.0.0.1:$seed", masters => $master, routing_keys => '{a}');
is_refused($session, $cluster, qr/^Redis at 127\.0\.0\.1:$liar: it is named as a master, but is not among apikey\.redis_masters$/, 'a node of a cluster that names somebody else');
is(said_to('liar'), "SENTINEL get-master-addr-by-name mymaster\n" x 4, 'who is sent nothing');

#
# A sentinel with a user and a password of its own, and the mirror
#

my $sentinel = RedisServer->start(
	name => 'sentinel', sentinel => 1, port => 1, user => 'admin', password => 'admin',
	acl => [ 'user default off', 'user admin on >admin ~* &* +@all', "user watcher on >$watch resetchannels -\@all +sentinel|get-master-addr-by-name" ],
	conf => join("\n", 'sentinel monitor mymaster 127.0.0.1 ' . $redis->port . ' 1', "sentinel auth-pass mymaster $password"));
my $url = 'sentinel://127.0.0.1:' . $sentinel->port . '/mymaster';
open_link($session, $url, %passwords, sentinel_user => 'watcher', masters => "127.0.0.0/8, $master");
is(value($session, "SELECT link_send('PING')"), 'PONG', 'a sentinel whose user may ask for the master, and nothing else');
is_refused($session, opening(url => $url, sentinel_user => 'watcher', sentinel_password_file => "$directory/password"), qr/WRONGPASS/, 'with another password');
$session->quit;
$node->stop;

my $server = new_cluster('sentinel_mirror', conf => <<"CONF");
fsync = off
apikey.redis_url = '$url'
apikey.redis_password_file = '$directory/password'
apikey.redis_sentinel_user = 'watcher'
apikey.redis_sentinel_password_file = '$directory/watch'
apikey.redis_masters = '$master'
CONF
my $mirror = MirrorTest->new($server, $redis);
is($mirror->await_state('ready'), 'ready', 'the mirror, by its settings');
# A change of them is a new connection.
$server->append_conf('postgresql.conf', "apikey.redis_masters = '10.0.0.0/8'\n");
$server->reload;
is($mirror->await_state('connecting'), 'connecting', 'another list of masters');
wait_until(sub { ($mirror->detail->{problem} // '') =~ /is not among apikey\.redis_masters/ }, 'says why');
$server->append_conf('postgresql.conf', "apikey.redis_masters = ''\n");
$server->reload;
is($mirror->await_state('ready'), 'ready', 'and none: whatever the sentinel names');
my %refusal = failure($server, "ALTER SYSTEM SET apikey.redis_masters = 'a b'");
is("$refusal{sqlstate} $refusal{detail}", '22023 A host is a name, an IPv4 address, or an IPv6 address in brackets, and a port may follow after a colon.', 'what is no list of masters');
$mirror->leave;
$server->stop;
done_testing();
