# The link to Redis through TLS. Where the library was built with a hiredis that has none, it says so, and that is all that is tested.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use FaultProxy;
use RedisLink;
use RedisServer qw(certificates);
use Test::More;

my $node = new_link_cluster('tls', conf => "fsync = off\n");
my $session = session($node);

my %refused = failure($session, "SELECT link_open('rediss://127.0.0.1:1')");
if ($refused{message} =~ /needs hiredis/)
{
	like($refused{message}, qr/^TLS needs hiredis >= 1\.0 with hiredis_ssl; this library was built with 0\.\d+\.\d+$/, 'a hiredis without TLS');
	note('the rest needs hiredis 1.0');
	done_testing();
	exit;
}

sub send_command { return value($session, 'SELECT link_send(' . literal($_[0]) . ')'); }

my %directory = map { $_ => PostgreSQL::Test::Utils::tempdir() } qw(ours others client);
my %ours = certificates($directory{ours});
my %others = certificates($directory{others});
my $redis = RedisServer->start(name => 'tls', tls => \%ours, password => 's3cret');
my $password_file = "$directory{client}/password";
write_file($password_file, "s3cret\n", 0600);
my %common = (ca_file => $ours{ca}, password_file => $password_file);
my $port = $redis->tls_port;
sub opening { my (%options) = @_; return 'SELECT link_open(' . arguments(url => "rediss://127.0.0.1:$port", %common, %options) . ')'; }

open_link($session, "rediss://127.0.0.1:$port", %common);
is(send_command('PING'), 'PONG', 'a certificate that is for this address');
open_link($session, "rediss://localhost:$port/1", %common);
is(send_command('SET a 1'), 'OK', 'and for this name');
$redis->command('SELECT', 1);
is($redis->command('GET', 'a'), 1, 'it was there');
for my $case ([ 200000, 10 ], [ 2000, 10000 ], [ 4, 8000000 ])
{
	my ($count, $size) = @$case;
	is(value($session, "SELECT link_echo($count, $size)"), $count, "$count texts of $size bytes there and back");
}

my $not_accepted = qr/^Redis at \S+: TLS: its certificate is not accepted: /;
is_refused($session, opening(ca_file => $others{ca}), $not_accepted, 'another authority');
is_refused($session, opening(ca_file => ''), $not_accepted, q(one that is not among the system's));
is_refused($session, opening(url => "rediss://127.0.0.2:$port"), qr/^Redis at 127\.0\.0\.2:\d+: (?:TLS: its certificate is not accepted: IP address mismatch|Connection refused)$/,
	'another address');
SKIP:
{
	# A name of this machine that the certificate does not have.
	my ($name) = grep { my $other = $_; $other ne 'localhost' && 127 == (unpack('C4', scalar gethostbyname($other) // "\0\0\0\0"))[0] }
	  qw(ip6-localhost localhost.localdomain localhost4), split(/\s/, `hostname` // '');
	skip 'this machine has no other name for itself', 2 unless defined $name;
	is_refused($session, opening(url => "rediss://$name:$port"), qr/TLS: its certificate is not accepted: hostname mismatch$|Connection refused$/, "another name: $name");
}
is_refused($session, opening(ca_file => '/no/such/file'), qr/^TLS for Redis: the CA file "\/no\/such\/file" cannot be used: /, 'no such CA file');
is_refused($session, opening(url => 'redis://127.0.0.1:' . $port), qr/^Redis at \S+: /, 'without TLS where there is TLS');
my $plain = RedisServer->start(name => 'plain', port => 1);
is_refused($session, opening(url => 'rediss://127.0.0.1:' . $plain->port), qr/^Redis at \S+: (?:TLS: |no connection could be made within)/, 'with TLS where there is none');

# Versions before 1.2 are refused.
$redis->command('CONFIG', 'SET', 'tls-protocols', 'TLSv1 TLSv1.1');
is_refused($session, opening(), qr/^Redis at \S+: TLS: /, 'TLS 1.1');
$redis->command('CONFIG', 'SET', 'tls-protocols', 'TLSv1.2');
open_link($session, "rediss://127.0.0.1:$port", %common);
is(send_command('PING'), 'PONG', 'TLS 1.2');
$redis->command('CONFIG', 'SET', 'tls-protocols', '');

# Certificates of clients.
$redis->command('CONFIG', 'SET', 'tls-auth-clients', 'yes');
is_refused($session, opening(), qr/^Redis at /, 'no certificate where one is wanted');
my %client = (certificate_file => $ours{certificate}, key_file => $ours{key});
open_link($session, "rediss://127.0.0.1:$port", %common, %client);
is(send_command('PING'), 'PONG', 'a certificate of the client');
is_refused($session, opening(certificate_file => $others{certificate}, key_file => $others{key}), qr/^Redis at /, 'one that another authority has signed');
is_refused($session, opening(%client, key_file => $others{key}), qr/^TLS for Redis: the key file "\S+" cannot be used: /, 'a key that is not its key');
is_refused($session, opening(certificate_file => $ours{certificate}), qr/a certificate and its key file are set both, or none of them$/, 'no key');
chmod(0644, $ours{key}) or die "chmod: $!";
is_refused($session, opening(%client), qr/^TLS for Redis: the key file "\S+" has mode 0644, and the server's user owns it; it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does$/,
	'a key that others can read');
chmod(0600, $ours{key}) or die "chmod: $!";
system('openssl', 'pkey', '-in', $ours{key}, '-aes256', '-passout', 'pass:x', '-out', "$directory{client}/encrypted.key") == 0 or die 'openssl failed';
chmod(0600, "$directory{client}/encrypted.key") or die "chmod: $!";
is_refused($session, opening(%client, key_file => "$directory{client}/encrypted.key"), qr/^TLS for Redis: the key file "\S+" cannot be used: /, 'an encrypted key: nobody is asked for a passphrase');
$redis->command('CONFIG', 'SET', 'tls-auth-clients', 'no');

# Faults.
my $proxy = FaultProxy->start(to => "127.0.0.1:$port");
my %through = (url => 'rediss://' . $proxy->address, connect_timeout => 500, timeout => 500);
my $batch = 'SELECT link_echo(2000, 1000)';
for my $case (
	[ 'blackhole', qr/no connection could be made within 500 ms$/, qr/did not answer within 500 ms$/ ],
	[ 'reset', qr/^Redis at \S+: /, qr/^Redis at \S+: / ],
	[ 'garbage', qr/^Redis at \S+: TLS: /, qr/^Redis at \S+: / ],
	[ 'cut_after_bytes 1000', qr/^Redis at \S+: /, qr/^Redis at \S+: / ],
	[ 'answer +OK\r\n', qr/^Redis at \S+: TLS: /, qr/^Redis at \S+: / ])
{
	my ($fault, $while_connecting, $in_a_batch) = @$case;
	$proxy->set($fault);
	is_refused($session, opening(%through), $while_connecting, "$fault: connecting", within => 5);
	$proxy->set('pass');
	value($session, opening(%through));
	$proxy->set($fault);
	is_refused($session, $batch, $in_a_batch, "$fault: a batch", within => 5);
	$proxy->set('pass');
	value($session, opening(%through));
	is(value($session, $batch), 2000, "$fault: it works again");
}
$proxy->set('one_byte');
value($session, opening(%through, connect_timeout => 20000, timeout => 60000));
is(value($session, 'SELECT link_echo(10, 1000)'), 10, 'a byte at a time');

$session->quit;
done_testing();
