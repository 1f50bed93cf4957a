# Another implementation of JOSE (npm jose) verifies what was issued here with nothing but apikey.jwks(), refuses what was altered, and
# finds the right key through rotations.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(hmac_sha256);
use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64url);
use PostgreSQL::Test::Utils;
use Test::More;

my $modules = $ENV{APIKEY_NODE_MODULES} // '';
unless (-d "$modules/jose" && eval { IPC::Run::run([ 'node', '--version' ], '>', \my $version, '2>', \my $errors) })
{
	die 'node and jose are needed in CI' if $ENV{CI};
	plan skip_all => 'node, or jose in APIKEY_NODE_MODULES, is not installed';
}

my %expected = (issuer => 'https://keys.example', audience => 'api.example', typ => 'apikey+jwt');
my $node = new_cluster('jose', conf => "fsync = off\napikey.issuer = '$expected{issuer}'\napikey.audience = '$expected{audience}'\n");
my $json = JSON::PP->new->canonical;

sub jwks { return $json->decode(value($node, 'SELECT apikey.jwks()')) }

# verify($jwks, [token, other options…], …): what jose says of each.
sub verify
{
	my ($jwks, @cases) = @_;
	my $request = $json->encode({ jwks => $jwks, cases => [ map { my ($token, %other) = @$_; { token => $token, options => { %expected, %other } } } @cases ] });
	my ($output, $errors) = ('', '');
	IPC::Run::run([ 'node', "$FindBin::RealBin/../node/verify.mjs" ], '<', \$request, '>', \$output, '2>', \$errors) or die "verify.mjs: $errors";
	my $answer = $json->decode($output);
	is_deeply($answer->{thumbprints}, [ map { $_->{kid} } @{ $jwks->{keys} } ], 'each kid is the thumbprint of its key');
	return @{ $answer->{results} };
}

sub b64 { return encode_base64url($_[0]) }

# The token with one bit of the last byte of a part turned over.
sub turned
{
	my ($token, $part) = @_;
	my @parts = split(/\./, $token);
	my $bytes = decode_base64url($parts[$part]);
	substr($bytes, -3, 1) ^= "\x01";
	$parts[$part] = b64($bytes);
	return join('.', @parts);
}

my %kid;
for my $algorithm (qw(EdDSA ES256))
{
	$kid{$algorithm} = value($node, "SELECT apikey.rotate_signing_key('$algorithm')");
	my %key = row($node, "SELECT * FROM apikey.issue('acme', 'contributor', permissions => '{chat:read,dataset:*}', environment => 'test')");
	my ($claims, @rest) = verify(
		jwks(),
		[ $key{token} ],
		[ $key{token}, issuer => 'https://other.example' ],
		[ $key{token}, audience => 'other.example' ],
		[ $key{token}, typ => 'JWT' ],
		[ $key{token}, algorithms => ['RS256'] ],
		[ $key{token}, currentDate => '2125-01-01T00:00:00Z' ]);
	my %times = row($node, 'SELECT extract(epoch FROM issued_at)::bigint AS iat, extract(epoch FROM expires_at)::bigint AS exp'
		  . ' FROM (SELECT date_trunc(\'second\', issued_at) AS issued_at, date_trunc(\'second\', expires_at) AS expires_at FROM apikey.key WHERE key_id = ' . literal($key{key_id}) . ') k');
	like(delete $claims->{claims}{nonce}, qr/^[\w-]{22}\z/, "$algorithm: the token has a nonce of 16 bytes");
	is_deeply(
		$claims,
		{   ok => JSON::PP::true,
			header => { typ => 'apikey+jwt', alg => $algorithm, kid => $kid{$algorithm} },
			claims => {
				iss => $expected{issuer}, aud => $expected{audience}, sub => 'acme', jti => "$key{key_id}.1", role => 'contributor',
				env => 'test', scope => 'chat:read dataset:*', %times } },
		"$algorithm: jose verifies the token and reads its claims");
	is_deeply(
		[ map { $_->{error} } @rest ],
		[ ('ERR_JWT_CLAIM_VALIDATION_FAILED') x 3, 'ERR_JOSE_ALG_NOT_ALLOWED', 'ERR_JWT_EXPIRED' ],
		"$algorithm: and holds it to issuer, audience, type, algorithm and time");

	# Altered in every way; PostgreSQL is asked about each as well.
	my ($header, $payload, $signature) = split(/\./, $key{token});
	my ($jwk) = grep { $_->{kid} eq $kid{$algorithm} } @{ jwks()->{keys} };
	my $public = decode_base64url($jwk->{x}) . decode_base64url($jwk->{y} // '');
	my $unsigned = b64(qq({"typ":"apikey+jwt","alg":"none","kid":"$kid{$algorithm}"})) . ".$payload";
	my $hmac = b64(qq({"typ":"apikey+jwt","alg":"HS256","kid":"$kid{$algorithm}"})) . ".$payload";
	my $other = $algorithm eq 'EdDSA' ? 'ES256' : 'EdDSA';
	my %altered = (
		'another kid' => b64(qq({"typ":"apikey+jwt","alg":"$algorithm","kid":"unknown"})) . ".$payload.$signature",
		'no kid' => b64(qq({"typ":"apikey+jwt","alg":"$algorithm"})) . ".$payload.$signature",
		'another typ' => b64(qq({"typ":"JWT","alg":"$algorithm","kid":"$kid{$algorithm}"})) . ".$payload.$signature",
		'another algorithm' => b64(qq({"typ":"apikey+jwt","alg":"$other","kid":"$kid{$algorithm}"})) . ".$payload.$signature",
		'a turned bit in the header' => turned($key{token}, 0),
		'a turned bit in the claims' => turned($key{token}, 1),
		'a turned bit in the signature' => turned($key{token}, 2),
		'another role' => "$header." . b64(decode_base64url($payload) =~ s/contributor/admin/r) . ".$signature",
		'another audience' => "$header." . b64(decode_base64url($payload) =~ s/api\.example/b.example/r) . ".$signature",
		'a shorter signature' => substr($key{token}, 0, -2),
		'an empty signature' => "$header.$payload.",
		'algorithm none' => "$unsigned.",
		'algorithm none, with the signature' => "$unsigned.$signature",
		'HS256 under the public key' => "$hmac." . b64(hmac_sha256($hmac, $public)),
		'HS256 under the public key as JSON' => "$hmac." . b64(hmac_sha256($hmac, $json->encode($jwk))));
	my @names = sort keys %altered;
	my @refused = verify(jwks(), map { [ $altered{$_} ] } @names);
	for my $i (0 .. $#names)
	{
		ok(!$refused[$i]{ok}, "$algorithm: jose refuses $names[$i]");
		like(code($node, $altered{ $names[$i] }), qr/^(?:SIGNATURE_INVALID|MALFORMED)$/, "$algorithm: so does PostgreSQL");
	}
	is(code($node, $key{token}), 'VALID', "$algorithm: both accept the token itself");
}

# Rotation: each token names its key, and the set has them all, newest first; a staged key is there before anything is signed with it.
my %es256 = issue($node, name => 'ES256');
my $staged = value($node, "SELECT apikey.stage_signing_key('EdDSA')");
my $cached = jwks();
ok((grep { $_->{kid} eq $staged } @{ $cached->{keys} }), 'a staged key is published');
is(value($node, "SELECT apikey.rotate_signing_key('EdDSA')"), $staged, 'the next rotation puts it into use');
my %after = issue($node, name => 'after the rotation');
my @found = verify($cached, [ $es256{token} ], [ $after{token} ]);
is_deeply([ map { $_->{header}{kid} } @found ], [ $kid{ES256}, $staged ], 'whoever fetched the set before verifies tokens from before and after');

# HS256 has no public half: such keys are in no set, and nobody verifies their tokens offline.
my $secret_kid = value($node, "SELECT apikey.rotate_signing_key('HS256')");
my %hs256 = issue($node, name => 'HS256');
my $set = jwks();
is(code($node, $hs256{token}), 'VALID', 'PostgreSQL validates a HS256 token');
ok(!(grep { $_->{kid} eq $secret_kid || $_->{kty} eq 'oct' } @{ $set->{keys} }), 'a HS256 key is not published');
is((verify($set, [ $hs256{token} ]))[0]{ok}, JSON::PP::false, 'jose cannot verify its token');
is_deeply(
	[ sort map { "$_->{kty} " . join(' ', sort keys %$_) } @{ $set->{keys} } ],
	[ 'EC alg crv kid kty use x y', ('OKP alg crv kid kty use x') x 2 ],
	'the set holds public members only');

# A retired key leaves the set, and its tokens are refused.
value($node, 'SELECT apikey.retire_signing_key(' . literal($kid{ES256}) . ', confirm => true)');
my ($retired, $still) = verify(jwks(), [ $es256{token} ], [ $after{token} ]);
is($retired->{error}, 'ERR_JWKS_NO_MATCHING_KEY', 'a retired key is in the set no more');
is($still->{ok}, JSON::PP::true, 'the others are');

$node->stop;
done_testing();
