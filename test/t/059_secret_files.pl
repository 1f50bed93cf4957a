# Files with secrets: the master key, the passwords for Redis and its sentinels, and the key of TLS go by one rule, that of ssl_key_file.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use RedisLink;
use RedisServer qw(certificates);
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $redis = RedisServer->start(name => 'secrets', port => 1, password => 's' x 32);
my $socket = $redis->socket_path;
# 32 bytes, in one line: a master key as well as a password.
my $secret = 's' x 32;

my $links = new_link_cluster('secret_links', conf => "fsync = off\n");
my $session = session($links);
my $node = new_cluster('secret_keys', conf => "fsync = off\napikey.master_key_file = '$directory/master.key'\n");
write_file("$directory/master.key", $secret, 0600);
my %key = issue($node, format => 'opaque');

my %tls = certificates($directory);
my %failure = failure($session, "SELECT link_open('rediss://127.0.0.1:1')");
my $has_tls = $failure{message} !~ /needs hiredis/;

# What each user of such a file says of this one; undef: it takes it.
sub of_password
{
	my ($path) = @_;
	my %refusal = failure($session, "SELECT link_open('unix://$socket', " . literal($path) . ')');
	return undef unless %refusal;    ## no critic (ProhibitExplicitReturnUndef): in a list
	my ($why) = $refusal{message} =~ /^the file with the password for Redis, "\Q$path\E", (.*)$/ or die $refusal{message};
	return $why;
}

sub of_master_key
{
	my ($path) = @_;
	$node->append_conf('postgresql.conf', "apikey.master_key_file = '$path'\n");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('apikey.master_key_file') = '$path'") or die 'no reload';
	my %status = row($node, "SELECT state, detail->>'detail' AS problem FROM apikey.status() WHERE component = 'master_key'");
	my $code = code($node, $key{token});
	return undef if $code eq 'VALID';    ## no critic (ProhibitExplicitReturnUndef): in a list
	die "$code, $status{state}" if $code ne 'UNAVAILABLE' || $status{state} !~ /^(?:refused|missing)$/;
	my ($why) = $status{problem} =~ /^master key file "\Q$path\E" (.*)$/ or die $status{problem};
	return $why;
}

# The key is read before anybody is connected to; that its certificate is another's is another matter.
sub of_tls_key
{
	my ($path) = @_;
	my %refusal = failure($session,
		'SELECT link_open(' . arguments(url => 'rediss://127.0.0.1:1', ca_file => $tls{ca}, certificate_file => $tls{certificate}, key_file => $path) . ')');
	my ($why) = $refusal{message} =~ /the key file "\Q$path\E" (?!cannot be used)(.*)$/;
	return $why;
}

sub is_judged
{
	my ($path, $expected, $what) = @_;
	is(of_password($path), $expected, "$what: password");
	is(of_master_key($path), $expected, "$what: master key");
	is(of_tls_key($path), $expected, "$what: key of TLS") if $has_tls;
	return;
}

my $rule = q(it must have mode 0600 or stricter where the server's user owns it, or 0640 or stricter where root does);
for my $mode (0600, 0400)
{
	write_file("$directory/secret", $secret, $mode);
	is_judged("$directory/secret", undef, sprintf('of the server\'s user, %04o', $mode));
}
for my $mode (0640, 0604, 0620)
{
	write_file("$directory/secret", $secret, $mode);
	my $shown = sprintf('%04o', $mode);
	is_judged("$directory/secret", "has mode $shown, and the server's user owns it; $rule", "of the server's user, $shown");
}
write_file("$directory/secret", $secret, 0600);
symlink("$directory/secret", "$directory/link") or die "symlink: $!";
is_judged("$directory/link", undef, 'a symbolic link');
mkdir("$directory/directory", 0700) or die "mkdir: $!";
is_judged("$directory/directory", 'is not a regular file', 'a directory');
system_or_bail('mkfifo', '-m', '0600', "$directory/fifo");
is_judged("$directory/fifo", 'is not a regular file', 'a FIFO that nobody writes to');
is_judged("$directory/none", 'does not exist', 'no file');

# A secret of Kubernetes, or of the certificate store: of root, readable by a group of the server's. make check makes it, where root runs it.
SKIP:
{
	my $of_root = $ENV{APIKEY_ROOT_SECRET};
	skip 'nobody made a file of root', 1 unless defined $of_root && -r $of_root;
	is(mode_of($of_root) . ' ' . (stat $of_root)[4], '0640 0', '(a file of root)');
	is_judged($of_root, undef, 'of root, 0640');
}
# Readable by all, on every system.
SKIP:
{
	my ($public) = grep { -f $_ && (stat $_)[4] == 0 && mode_of($_) eq '0644' } '/etc/passwd', '/etc/hosts', '/etc/group';
	skip 'there is no file of root with mode 0644', 1 unless defined $public;
	is_judged($public, "has mode 0644, and root owns it; $rule", 'of root, 0644');
}

$session->quit;
$node->stop;
done_testing();
