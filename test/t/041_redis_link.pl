# The link to Redis: what it says to one server, and what becomes of it when the network, or the server, is not what it should be.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use Digest::SHA ();
use FaultProxy;
use PostgreSQL::Test::Utils;
use RedisLink;
use RedisServer qw(wait_until certificates);
use Test::More;
use Time::HiRes qw(time);

my $node = new_link_cluster('link', conf => "fsync = off\n");
my $redis = RedisServer->start(name => 'link', port => 1, databases => 4,
	acl => [ 'user default on nopass ~* &* +@all', 'user app on >s3cret:%x ~* &* +@all', 'user limited on >limited ~* &* -@all +ping +role +select' ]);
my $socket = $redis->socket_path;
my $session = session($node);
my $pid = value($session, 'SELECT pg_backend_pid()');

sub send_command { return value($session, 'SELECT link_send(' . literal($_[0]) . ($_[1] ? ", $_[1]" : '') . ')'); }

# A file with a password in it, or whatever else.
my $files = PostgreSQL::Test::Utils::tempdir();
sub file_with
{
	my ($content, $mode) = @_;
	my $path = "$files/" . Digest::SHA::sha1_hex($content . $mode);
	write_file($path, $content, $mode);
	return $path;
}

#
# Replies, arguments, routes to one server
#

open_link($session, "unix://$socket");
is(value($session, 'SELECT link_connected()'), 't', 'a unix socket');
is(send_command("SET a 1\nGET a\nINCR a\nGET no:such\nLRANGE no:such 0 1\nFOO a\nLPUSH l x y\nLRANGE l 0 1"),
	"OK\n1\n2\nnil\n[]\nerror: ERR unknown command 'FOO', with args beginning with: 'a' \n2\n[y x]", 'each sort of reply, in order');
my ($address, $role, $version, $maxmemory, $policy, $evicted, $run_id, $replication_id) = split(/ /, value($session, 'SELECT link_servers()'));
is_deeply([ $address, $role, $maxmemory, $policy, $evicted ], [ $socket, 'master', 0, 'noeviction', 0 ], 'what is known of the server');
like("$run_id $replication_id", qr/^[0-9a-f]{40} [0-9a-f]{40}$/, 'and its names');
is($version, $redis->info('server')->{redis_version}, 'and its version');

open_link($session, 'redis://127.0.0.1:' . $redis->port . '/2');
is(send_command('SET where two'), 'OK', 'an IPv4 address');
is($redis->command('GET', 'where'), undef, 'a database is chosen by its number ...');
$redis->command('SELECT', 2);
is($redis->command('GET', 'where'), 'two', '... and that is where it went');
$redis->command('SELECT', 0);
open_link($session, 'redis://localhost:' . $redis->port);
is(send_command('PING'), 'PONG', 'a host name');
SKIP:
{
	skip 'there is no IPv6 here', 1 unless eval { $redis->command('CONFIG', 'SET', 'bind', '127.0.0.1 ::1') };
	open_link($session, 'redis://[::1]:' . $redis->port);
	is(send_command('PING'), 'PONG', 'an IPv6 address');
}
is_refused($session, "SELECT link_open('unix://$socket?db=99')", qr/^Redis at \Q$socket\E: ERR DB index is out of range$/, 'a database that is not there');
is_refused($session, "SELECT link_open('unix:///no/such/socket')", qr{^Redis at /no/such/socket: No such file or directory$}, 'a socket that is not there');
is_refused($session, "SELECT link_open('redis://a..b')", qr/^Redis at a\.\.b:6379: the name could not be looked up: /, 'a name that is none');

#
# Users and passwords
#

my $password_file = file_with("s3cret:%x\n", 0600);
open_link($session, "unix://app\@$socket", password_file => $password_file);
is(send_command('ACL WHOAMI'), 'app', 'a user of the ACL and his password');
my $wrong = file_with("wrong password\n", 0600);
is_refused($session, "SELECT link_open('unix://app\@$socket', '$wrong')",
	qr/^Redis at \Q$socket\E: it does not take this user and password: WRONGPASS /, 'a wrong password');
is_refused($session, "SELECT link_open('unix://nobody\@$socket', '$password_file')", qr/WRONGPASS/, 'a user that is not there');
my $limited = file_with('limited', 0400);
open_link($session, "unix://limited\@$socket", password_file => $limited);
is_refused($session, "SELECT link_send('GET a')", qr/its access control list refuses this user a command or key: NOPERM /, 'a command that the user may not use');
for my $case (
	[ file_with("s3cret:%x\n", 0640), "has mode 0640, and the server's user owns it; it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does" ],
	[ file_with("s3cret:%x\n", 0604), "has mode 0604, and the server's user owns it; it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does" ],
	[ file_with("\n", 0600), 'is empty' ],
	[ file_with('x' x 5000, 0600), 'does not hold a password in one line' ],
	[ $files, 'is not a regular file' ],
	[ "$files/none", 'does not exist' ])
{
	my ($path, $why) = @$case;
	my ($message) = refusal($session, "SELECT link_open('unix://$socket', '$path')");
	is($message, qq(the file with the password for Redis, "$path", $why), "a password file that $why");
}
$redis->command('ACL', 'SETUSER', 'default', 'resetpass', '>all of us');
is_refused($session, "SELECT link_open('unix://$socket')", qr/it wants a password: NOAUTH /, 'no password where one is wanted');
open_link($session, "unix://$socket", password_file => file_with("all of us\r\n", 0600));
is(send_command('ACL WHOAMI'), 'default', 'a password without a user');
$redis->command('ACL', 'SETUSER', 'default', 'nopass');

#
# Scripts
#

open_link($session, "unix://$socket");
my $script = 'return {KEYS[1], ARGV[1], #ARGV, {1, false, {redis.call("INCR", "calls")}}}';
is(link_eval($session, $script, [ 'k' ], [ 'x', '' ]), '[k x 2 [1 nil [1]]]', 'a script that Redis does not have yet');
is(link_eval($session, $script, [ 'k' ], ['x']), '[k x 1 [1 nil [2]]]', 'and has now');
is(value($session, 'SELECT reloads FROM link_counters()'), '0', 'it was sent once');
$redis->command('SCRIPT', 'FLUSH');
is(link_eval($session, $script, [ 'k' ], ['x'], times => 3), "[k x 1 [1 nil [3]]]\n[k x 1 [1 nil [4]]]\n[k x 1 [1 nil [5]]]", 'after SCRIPT FLUSH it is sent again');
cmp_ok(value($session, 'SELECT reloads FROM link_counters()'), '>', 0, 'and that is counted');
is($redis->command('GET', 'calls'), 5, 'each call happened once');
is(link_eval($session, 'return redis.error_reply("AKARG wrong")', []), 'error: AKARG wrong', 'what a script complains of is a reply');
like(link_eval($session, 'return nil + 1', []), qr/^error: ERR .*user_script/, 'and so is what is wrong with it');
is_refused($session, "SELECT link_eval('return 1', '" . '0' x 40 . "', '{}', '{}')", qr/answers the same to a command that was repeated: NOSCRIPT/, 'a script under a wrong name');

#
# Much at a time
#

open_link($session, "unix://$socket", timeout => 60000);
for my $case ([ 200000, 10 ], [ 5000, 4000 ], [ 6, 8000000 ], [ 1, 8388590 ])
{
	my ($count, $size) = @$case;
	is(value($session, "SELECT link_echo($count, $size)"), $count, "$count texts of $size bytes there and back");
}
is_refused($session, 'SELECT link_echo(9, 8000000)', qr/its replies are longer than 64 MiB together$/, 'more than 64 MiB');
open_link($session, "unix://$socket", timeout => 60000);
is_refused($session, 'SELECT link_echo(1, 8388609)', qr/a reply is longer than 8 MiB$/, 'a reply of more than 8 MiB');
open_link($session, "unix://$socket", timeout => 60000);
my $members = 'local t = {} for i = 1, tonumber(ARGV[1]) do t[i] = i end return #ARGV == 1 and t or {t, t}';
my $members_sha1 = Digest::SHA::sha1_hex($members);
is(value($session, "SELECT right(link_eval('$members', '$members_sha1', '{}', '{100000}'), 13)"), '99999 100000]', 'an array of 100000 elements');
is_refused($session, "SELECT link_eval('$members', '$members_sha1', '{}', '{100001}')",
	qr/a reply has more than 100000 elements$/, 'an array of more');
open_link($session, "unix://$socket", timeout => 60000);
is_refused($session, "SELECT link_eval('$members', '$members_sha1', '{}', '{60000,2}')",
	qr/a reply has more than 100000 elements$/, 'arrays in an array that are more together');
open_link($session, "unix://$socket", timeout => 60000);
value($session, 'SELECT link_echo(100, 1000)');
# *2 $4 ECHO $1000, and $1000 back; ROLE at the beginning
is(value($session, 'SELECT sent || \' \' || received - 21 FROM link_counters()'),
	(14 + 100 * (4 + 10 + 7 + 1002)) . ' ' . (100 * (7 + 1002) + length("*3\r\n\$6\r\nmaster\r\n:0\r\n*0\r\n") - 21), 'bytes are counted');

#
# Servers that are of no use
#

my $replica = RedisServer->start(name => 'replica', port => 1, replicaof => $redis);
wait_until(sub { $replica->info('replication')->{master_link_status} eq 'up' }, 'the replica follows');
is_refused($session, 'SELECT link_open(' . literal('unix://' . $replica->socket_path) . ')', qr/it is not a master: its role is slave$/, 'a replica');
$replica->command('REPLICAOF', 'NO', 'ONE');
open_link($session, 'unix://' . $replica->socket_path);
$replica->command('REPLICAOF', '127.0.0.1', $redis->port);
is_refused($session, "SELECT link_send('SET a 1')", qr/it is a replica, not a master: READONLY /, 'one that has become a replica');
$replica->command('REPLICAOF', 'NO', 'ONE');
open_link($session, 'unix://' . $replica->socket_path);
$replica->command('REPLICAOF', '127.0.0.1', $redis->port);
my $write = 'redis.call("SET", KEYS[1], 1) return 1';
is_refused($session, "SELECT link_eval('$write', '" . Digest::SHA::sha1_hex($write) . "', '{a}', '{}')", qr/it is a replica, not a master: /, 'the same for a script');
$replica->stop;
$redis->command('CONFIG', 'SET', 'maxmemory', 1);
open_link($session, "unix://$socket");
is_refused($session, "SELECT link_send('SET a 1')", qr/it takes no writes because its memory is full: OOM /, 'a full one');
$redis->command('CONFIG', 'SET', 'maxmemory', 0);
$redis->command('CONFIG', 'SET', 'maxclients', 1);
# It says so and closes, before the first command or after it.
is_refused($session, "SELECT link_open('unix://$socket')", qr/ERR max number of clients reached$/, "one that has too many clients, $_") for 1 .. 100;
$redis->command('CONFIG', 'SET', 'maxclients', 100);

#
# Faults. Each ends in an error of the link, in time, and after it the link works again
#

my $proxy = FaultProxy->start(to => $socket);
my $url = 'redis://' . $proxy->address;
my %deadlines = (connect_timeout => 500, timeout => 500);
my $connecting = 'SELECT link_reconnect()';
my $batch = 'SELECT link_echo(2000, 1000)';

# Faults of a connection that works, then of one that is to be made.
sub check_fault
{
	my ($fault, $expected, %options) = @_;
	$proxy->set('pass');
	value($session, $connecting);
	$proxy->set($fault);
	is_refused($session, $options{batch} // $batch, $expected, "$fault: a batch", within => $options{within} // 5);
	is_refused($session, $connecting, $options{connecting} // $expected, "$fault: connecting", within => 5) unless $options{batch};
	$proxy->set('pass');
	value($session, $connecting);
	is(value($session, $batch), 2000, "$fault: it works again");
	return;
}

open_link($session, $url, %deadlines);
my $lost = qr/^Redis at \Q${\$proxy->address}\E: (?:Connection reset by peer|Server closed the connection|Broken pipe)$/;
my $late = qr/^Redis at \Q${\$proxy->address}\E: it did not answer within 500 ms$/;
check_fault('reset', $lost);
check_fault('blackhole', $late);
check_fault('drop_replies 100', $lost);
check_fault('cut_after_bytes 3000', $lost, batch => $batch);
check_fault('cut_after_bytes 4', $lost);
check_fault('refuse', qr/Connection refused/, batch => $connecting);
check_fault('latency 700', $late);
check_fault('huge_bulk', qr/a reply is longer than 8 MiB$/);
check_fault('huge_array', qr/a reply has more than 100000 elements$/);
# Bytes may happen to be the protocol, up to a point.
check_fault('garbage', qr/^Redis at /);
for my $case (
	[ 'no type', 'HTTP/1.1 400 Bad Request\r\n\r\n', qr/Protocol error, got "H" as reply type byte$/ ],
	[ 'more replies than there were commands', '+OK\r\n' x 3000, qr/it sent a reply that nobody had asked for$/ ],
	[ 'a length without end', '\$99999999999999999999999\r\n', qr/Bad bulk string length$|longer than 8 MiB/ ],
	[ 'a greater length than memory has', '\$9999999999\r\n', qr/a reply is longer than 8 MiB$/ ],
	[ 'a negative length', '\$-2\r\n', qr/out of range$|Bad bulk string length$/ ],
	[ 'a negative number of elements', '*-7\r\n', qr/out of range$/ ],
	[ 'arrays in arrays', '*1\r\n' x 20, qr/nested/ ],
	[ 'arrays of arrays', ('*60000\r\n*60000\r\n'), qr/a reply has more than 100000 elements$/ ],
	[ 'a number that is none', ':1x\r\n', qr/Bad integer value$|Protocol error/ ],
	[ 'a text that never ends', '+xxxxxxxxxxxxxxxxxxxxxxxx', $late ],
	[ 'the beginning of a text', '\$100\r\nxxxx', $late ],
	[ 'an error that nobody asked for', '-ERR max number of clients reached\r\n', qr/: ERR max number of clients reached$/, $connecting ],
	[ 'an error that is not fit for a terminal', '-ERR \x1b[2J\xff\r\n', qr/: ERR \?\[2J\?$/, $connecting ])
{
	my ($what, $answer, $expected, $statement) = @$case;
	$answer =~ s/\\\$/\$/g;
	open_link($session, $url, %deadlines) unless value($session, 'SELECT link_connected()') eq 't';
	$proxy->set("answer $answer");
	is_refused($session, $statement // "SELECT link_send('PING')", $expected, "it answers $what", within => 5);
	$proxy->set('pass');
}

# What repeats the password is not repeated.
$proxy->set("answer -ERR unknown command 'AUTH', with args beginning with: 'all of us' \\r\\n");
is_refused($session, 'SELECT link_open(' . literal($url) . ', ' . literal(file_with("all of us\n", 0600)) . ')', qr/: ERR was its answer to AUTH$/, 'a server without AUTH');
$proxy->set('pass');

# A byte at a time is slow, and no fault.
open_link($session, $url, connect_timeout => 10000, timeout => 60000);
$proxy->set('one_byte');
is(value($session, 'SELECT link_echo(20, 500)'), 20, 'a byte at a time');
is(send_command("SET a 8388609\nINCR a\nLRANGE l 0 1\nGET no:such"), "OK\n8388610\n[y x]\nnil", 'a byte at a time: all sorts of replies');
is(value($session, $connecting), '', 'a byte at a time: connecting');
open_link($session, $url, connect_timeout => 500, timeout => 500);
is_refused($session, 'SELECT link_echo(1000, 10000)', $late, 'a byte at a time is not progress enough to pass the deadline', within => 5);
$proxy->set('pass');

# Redis itself: gone, there again, there and silent.
open_link($session, "unix://$socket", %deadlines);
$redis->kill9;
is_refused($session, "SELECT link_send('PING')", qr/Server closed the connection|Connection reset|Broken pipe/, 'Redis was killed');
is_refused($session, $connecting, qr/Connection refused$|No such file/, 'and is not there');
$redis->restart;
value($session, $connecting);
$redis->pause;
is_refused($session, "SELECT link_send('PING')", qr/did not answer within 500 ms$/, 'Redis is silent', within => 5);
is_refused($session, $connecting, qr/did not answer within 500 ms$/, 'and accepts connections', within => 5);
$redis->resume;
value($session, $connecting);
is(send_command('PING'), 'PONG', 'it works again');

#
# Memory, descriptors
#

SKIP:
{
	skip 'there is no /proc here', 2 unless -r "/proc/$pid/status";
	my $resident = sub { return slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 / 1024 : die 'no VmRSS'; };
	my $descriptors = sub { return scalar(my @all = glob("/proc/$pid/fd/*")); };
	my $round = sub {
		my ($times) = @_;
		$proxy->set('pass');
		open_link($session, $url, connect_timeout => 500, timeout => 50);
		for my $fault ('huge_bulk', 'huge_array', 'garbage', 'answer *90000\r\n*9000\r\n', 'answer $8388000\r\n')
		{
			$proxy->set($fault);
			refusal($session, $connecting) for 1 .. $times;
		}
		$proxy->set('pass');
		open_link($session, $url) for 1 .. $times;
		value($session, $batch);
	};
	$round->(5);
	my @before = ($resident->(), $descriptors->());
	$round->(50);
	my @after = ($resident->(), $descriptors->());
	cmp_ok($after[0], '<', $before[0] + 10, sprintf('hostile answers leave nothing in memory: %.1f MB, then %.1f MB', $before[0], $after[0]));
	is($after[1], $before[1], 'and no descriptor open');
}

#
# Interrupts, while Redis is silent and there is much time
#

# A session that waits for Redis, its process, and what it will say.
sub waiting_session
{
	my $waiting = session($node);
	$proxy->set('pass');
	open_link($waiting, $url, connect_timeout => 60000, timeout => 60000);
	my $process = value($waiting, 'SELECT pg_backend_pid()');
	$proxy->set('blackhole');
	$waiting->query_until(qr/begins/, "\\echo begins\nSELECT link_send('PING');\n\\echo ends\n");
	ok($node->poll_query_until('postgres', "SELECT state = 'active' AND wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $process"),
		'a session waits for Redis');
	return ($waiting, $process);
}

# How many seconds something takes.

my ($waiting, $process) = waiting_session();
value($node, 'CREATE DATABASE other');
cmp_ok(seconds(sub { value($node, 'DROP DATABASE other') }), '<', 10, 'DROP DATABASE of another database does not wait for Redis');
cmp_ok(seconds(sub { value($node, "SELECT pg_reload_conf()") }), '<', 10, 'nor does a reload');
is(value($node, "SELECT state FROM pg_stat_activity WHERE pid = $process"), 'active', 'while that session still does');
cmp_ok(
	seconds(
		sub {
			value($node, "SELECT pg_cancel_backend($process)");
			$waiting->query_until(qr/ends/, '');
		}),
	'<', 10, 'it can be stopped at once');
like($waiting->{stderr}, qr/canceling statement due to user request/, 'by must_stop()');
$waiting->{stderr} = '';
is(value($waiting, 'SELECT link_connected()'), 'f', 'and its link is closed');
$waiting->quit;

($waiting, $process) = waiting_session();
cmp_ok(
	seconds(
		sub {
			value($node, "SELECT pg_terminate_backend($process)");
			$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $process");
		}),
	'<', 10, 'pg_terminate_backend() ends it at once');
eval { $waiting->quit };

($waiting, $process) = waiting_session();
eval { $session->quit };
$node->kill9;
wait_until(sub { !kill(0, $process) }, 'it ends when the postmaster dies');
pass('a session that waits for Redis ends when the postmaster dies');
eval { $waiting->quit };

done_testing();
