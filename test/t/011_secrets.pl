# Tokens are nowhere but in requests and replies: not in the files of the data directory, WAL included, not in error messages, the log or
# a dump. And a dump holds nothing that validates.

use strict;
use warnings FATAL => 'all';

use File::Find ();
use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use Math::BigInt;
use MIME::Base64 qw(decode_base64url encode_base64url);
use PostgreSQL::Test::Utils;
use Test::More;

# Without compression, and with all of the WAL kept, whatever was written can be found.
my $node = new_cluster(
	'secrets',
	conf => "wal_level = logical\nwal_compression = off\nwal_keep_size = 1GB\nfull_page_writes = on\nlog_statement = all\n"
	  . "log_min_messages = debug1\nlog_min_error_statement = debug1\nlog_parameter_max_length = 0\nlog_parameter_max_length_on_error = 0\n");
my $script = PostgreSQL::Test::Utils::tempdir() . '/bound.sql';

# Runs a statement with bound parameters :a, :b …; returns whatever the client is told.
my $told = '';
sub bound
{
	my ($sql, %parameters) = @_;
	write_file($script, "$sql;\n", 0644);
	my ($output, $errors) = ('', '');
	IPC::Run::run(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-M', 'prepared', '-t', 1, '-f', $script,
			(map { ('-D', "$_=$parameters{$_}") } sort keys %parameters), 'postgres' ],
		'>', \$output, '2>', \$errors);
	$told .= $errors;
	return $errors;
}

# What is done succeeds, or fails as it is meant to.
sub does
{
	my ($what, $expected, $sql, %parameters) = @_;
	my $errors = bound($sql, %parameters);
	if ($expected eq '')
	{
		unlike($errors, qr/ERROR:/, "$what succeeds");
	}
	else
	{
		like($errors, qr/ERROR:  .*\Q$expected\E/, "$what fails: $expected");
	}
	return;
}

my $alphabet = join('', 0 .. 9, 'A' .. 'Z', 'a' .. 'z');
my (@tokens, %issued);
sub keep
{
	my ($name, %row) = @_;
	push @tokens, $row{token};
	$issued{$name} = {%row};
	return;
}

# The life of keys of each kind.
for my $algorithm (qw(EdDSA ES256 HS256 opaque))
{
	my $format = $algorithm eq 'opaque' ? 'opaque' : 'jwt';
	value($node, "SELECT apikey.rotate_signing_key('$algorithm')") if $format eq 'jwt';
	keep("$algorithm $_", issue($node, owner => $algorithm, name => $_, ttl => '1 hour', format => $format, idempotency_key => $_)) for qw(lives dies);
	keep("$algorithm early", issue($node, owner => $algorithm, ttl => '3 days', format => $format));

	my $token = $issued{"$algorithm lives"}{token};
	does("$algorithm: validate()", '', 'SELECT apikey.validate(:a, :b)', a => $token, b => 'chat:read');
	does("$algorithm: check_token()", '', 'SELECT apikey.check_token(:a)', a => $token);
	does("$algorithm: require()", '', 'SELECT apikey.require(:a)', a => $token);
	does("$algorithm: disable()", '', 'SELECT apikey.disable(:a)', a => $token);
	does("$algorithm: require() of a disabled key", 'DISABLED', 'SELECT apikey.require(:a)', a => $token);
	does("$algorithm: enable()", '', 'SELECT apikey.enable(:a)', a => $token);
	does("$algorithm: refresh()", '', 'SELECT apikey.refresh(:a)', a => $token);
	does("$algorithm: refresh() too early", 'REFRESH_TOO_EARLY', 'SELECT apikey.refresh(:a)', a => $issued{"$algorithm early"}{token});
	does("$algorithm: refresh() again", $algorithm =~ /EdDSA|HS256/ ? '' : 'ALREADY_REFRESHED', 'SELECT apikey.refresh(:a)', a => $token);

	my $doomed = $issued{"$algorithm dies"}{token};
	does("$algorithm: revoke()", '', 'SELECT apikey.revoke(:a)', a => $doomed);
	does("$algorithm: revoke_token() again", '', 'SELECT apikey.revoke_token(:a)', a => $doomed);
	does("$algorithm: require() of a revoked key", 'REVOKED', 'SELECT apikey.require(:a)', a => $doomed);
	does("$algorithm: refresh() of a revoked key", 'REVOKED', 'SELECT apikey.refresh(:a)', a => $doomed);
	does("$algorithm: enable() of a revoked key", 'is final', 'SELECT apikey.enable(:a)', a => $doomed);
	does("$algorithm: require() of an altered token", 'SIGNATURE_INVALID', 'SELECT apikey.require(:a)', a => _altered($token));
	does("$algorithm: require() of a longer token", $format eq 'jwt' ? 'SIGNATURE_INVALID' : 'MALFORMED', 'SELECT apikey.require(:a)', a => $token . 'AAAA');
	does("$algorithm: require() without the permission", 'INSUFFICIENT_PERMISSIONS', 'SELECT apikey.require(:a, :b)', a => $token, b => 'admin:all');
	does("$algorithm: a token as a reason", 'that is not a revocation reason', 'SELECT apikey.revoke(:a, :a)', a => $token);
	does("$algorithm: a token as a permission", 'permission expression', 'SELECT apikey.validate(:a, :a)', a => $token);
	does("$algorithm: a token as a role", 'that is not the name of a role', 'SELECT apikey.issue(:b, :a)', a => $token, b => 'mistaken');
	does("$algorithm: a token as an environment", 'environment is not valid', 'SELECT apikey.issue(:b, environment => :a)', a => $token, b => 'mistaken');
	does("$algorithm: a token as a format", 'format is not known', 'SELECT apikey.issue(:b, format => :a)', a => $token, b => 'mistaken');
	does("$algorithm: a token as an algorithm", 'that is not a signing algorithm', 'SELECT apikey.rotate_signing_key(:a)', a => $token);
	does("$algorithm: a token as a kid", 'unknown signing key', 'SELECT * FROM apikey.retire_signing_key(:a)', a => $token);
	does("$algorithm: an idempotency key with other arguments", 'was used with other arguments',
		'SELECT apikey.issue(:a, idempotency_key => :b)', a => $algorithm, b => 'lives');
	does("$algorithm: a constraint that fails", 'key_state_check', "UPDATE apikey.key SET state = :b WHERE owner = :a AND state = 'active'", a => $algorithm, b => 'lost');
	is(code($node, $token), 'VALID', "$algorithm: the token validates after all this");
}

# In the reply of refresh(): asked for again here, where it can be.
for my $algorithm (qw(EdDSA HS256))
{
	keep("$algorithm successor", refresh($node, $issued{"$algorithm lives"}{token}));
}
for my $algorithm (qw(ES256 opaque))
{
	keep("$algorithm moved", issue($node, ttl => '1 hour', format => $algorithm eq 'opaque' ? 'opaque' : 'jwt'));
	keep("$algorithm successor", refresh($node, $issued{"$algorithm moved"}{token}));
}

# What must be nowhere: 10-character pieces, of which each 20-character piece of a secret part holds a whole one; and the secret itself, as
# bytes and in hex.
my %secret_bytes = map { $_ => _secret_bytes($_) } @tokens;
my @secrets = map { (_secret_text($_), _nonce_text($_)) } @tokens;
my @pieces = map { my $secret = $_; map { substr($secret, 10 * $_, 10) } 0 .. length($secret) / 10 - 1 } @secrets;
my $leak = join('|', map { quotemeta } @pieces, map { (substr($_, 0, 16), unpack('H*', substr($_, 0, 16))) } values %secret_bytes);
$leak = qr/$leak/;
cmp_ok(scalar(@pieces), '>', 50, 'there is something to look for');
like("x$tokens[0]x", $leak, 'and it would be found in a text');

# A token that somebody did store, to prove that it would be found in a table and in the WAL.
my $stored = $tokens[0];
value($node, 'CREATE TABLE mistake AS SELECT ' . literal("decoy $stored") . '::text AS token');
value($node, 'CHECKPOINT');
my %found = files_with($leak);
ok((grep { m{^base/} } keys %found), 'a token in a table is found');
ok((grep { m{^pg_wal/} } keys %found), 'and in the WAL');
my $mistake = value($node, "SELECT pg_relation_filepath('mistake')");
my $wal_of_mistake = value($node, 'SELECT pg_walfile_name(pg_current_wal_lsn())');
delete @found{ $mistake, "pg_wal/$wal_of_mistake" };
is_deeply([ sort keys %found ], [], 'no other file of the data directory holds any piece of a token');
my $text = slurp_file($node->data_dir . "/pg_wal/$wal_of_mistake");
my $decoys = () = $text =~ /decoy \Q$stored\E/g;
$text =~ s/decoy \Q$stored\E//g;
cmp_ok($decoys, '>', 0, 'the WAL holds the stored token');
ok($text !~ $leak, 'and beside it no piece of any');
value($node, 'DROP TABLE mistake');

# Tables as SQL shows them, messages, the server log.
for my $table (rows($node, "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'apikey'::regnamespace AND c.relkind IN ('r', 'p', 'v')"))
{
	my $content = value($node, "SELECT string_agg(t::text, E'\\n') FROM $table->{name} t");
	unlike($content, $leak, "$table->{name} shows none");
}
cmp_ok(length($told), '>', 1000, 'clients were told something');
unlike($told, $leak, 'but no piece of a token');
my $log = join("\n", grep { !/apikey\.(?:refresh|validate)\((?:token => )?E'|decoy/ } split(/\n/, slurp_file($node->logfile)));
like($log, qr/require\(\$1\)/, 'the log has the statements, with parameters');
ok($log !~ $leak, 'and no piece of a token');

# A dump holds nothing that validates: no word of it, and no token made with a hash in the place of the secret.
my ($dump, $errors) = ('', '');
IPC::Run::run([ 'pg_dump', '-d', $node->connstr('postgres') ], '>', \$dump, '2>', \$errors) or die "pg_dump: $errors";
ok($dump !~ $leak, 'a dump holds no piece of a token');
my %words = map { $_ => 1 } grep { length($_) >= 16 && length($_) < 2000 } $dump =~ /[\w.\-\/+=]+/g;
my @hashes = map { pack('H*', $_) } $dump =~ /\\\\x([0-9a-f]{64})\b/g;
cmp_ok(scalar(@hashes), '>=', 2 * 12, 'the dump holds the hashes');
$words{$_} = 1 for map { (unpack('H*', $_), encode_base64url($_), _base62($_)) } @hashes;
for my $token (@tokens)
{
	$words{$_} = 1 for map { _with_secret($token, $_) } @hashes;
}
is(count_valid(keys %words), 0, scalar(keys %words) . ' words of the dump, and tokens made of its hashes, are not valid');
is(count_valid((keys %words)[0 .. 99], $issued{'EdDSA early'}{token}), 1, 'one good token among them would have been noticed');

$node->stop;
done_testing();

# The part of a token that makes it more than a name.
sub _secret_text
{
	my ($token) = @_;
	return $token =~ /^ak_/ ? substr($token, -49, 43) : (split(/\./, $token))[2];
}

# What makes the rest of a JWT more than what anybody could write who knows its key: the last claim, as it is and as the token has it.
sub _nonce_text
{
	my ($token) = @_;
	return () if $token =~ /^ak_/;
	my $payload = (split(/\./, $token))[1];
	my ($nonce) = decode_base64url($payload) =~ /"nonce":"([^"]+)"\}\z/ or die 'a token without a nonce at its end';
	return ($nonce, substr($payload, -30));
}

sub _secret_bytes
{
	my ($token) = @_;
	my $secret = _secret_text($token);
	return decode_base64url($secret) unless $token =~ /^ak_/;
	my $number = Math::BigInt->new(0);
	$number = $number * 62 + index($alphabet, $_) for split(//, $secret);
	return pack('H*', sprintf('%064s', substr($number->as_hex, 2)));
}

# A token of the same key with another secret, and the right checksum.
sub _with_secret
{
	my ($token, $bytes) = @_;
	if ($token !~ /^ak_/)
	{
		my ($header, $claims) = split(/\./, $token);
		return ("$header.$claims." . encode_base64url($bytes), "$header.$claims." . encode_base64url($bytes . $bytes));
	}
	my $unchecked = substr($token, 0, -49) . _base62($bytes);
	return $unchecked . _base62(pack('N', _crc32($unchecked)));
}

sub _base62
{
	my ($bytes) = @_;
	my $number = Math::BigInt->new('0x' . unpack('H*', $bytes));
	my $text = '';
	my $length = { 4 => 6, 32 => 43 }->{ length $bytes };
	while (length($text) < $length)
	{
		(my $quotient, my $remainder) = $number->copy->bdiv(62);
		$text = substr($alphabet, $remainder->numify, 1) . $text;
		$number = $quotient;
	}
	return $text;
}

sub _crc32
{
	my ($text) = @_;
	my $crc = 0xffffffff;
	for my $byte (unpack('C*', $text))
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
	}
	return $crc ^ 0xffffffff;
}

# A character of the secret, changed within its alphabet.
sub _altered
{
	my ($token) = @_;
	my $position = length($token) - 15;
	substr($token, $position, 1) = substr($token, $position, 1) eq 'A' ? 'B' : 'A';
	return $token;
}

# Files of the data directory that match, as keys.
sub files_with
{
	my ($pattern) = @_;
	my $top = $node->data_dir;
	my %matching;
	File::Find::find(
		{   no_chdir => 1,
			wanted => sub {
				return unless -f;
				$matching{ substr($_, length($top) + 1) } = 1 if slurp_file($_) =~ $pattern;
			} },
		$top);
	return %matching;
}

sub count_valid
{
	my (@texts) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/texts';
	write_file($file, join('', map { "$_\n" } @texts), 0644);
	return value($node, 'CREATE TEMP TABLE candidate (text text);' . "\\copy candidate from '$file' with (format csv, delimiter E'\\x01', quote E'\\x02')\n"
		  . 'SELECT count(*) FROM candidate c WHERE (apikey.validate(c.text)).valid');
}
