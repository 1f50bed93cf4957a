# A stolen signing key forges nothing that PostgreSQL accepts. The thief here unseals it with another implementation, and knows every
# claim of a good token; where he has them all right, the nonce included, he holds the token already.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64url);
use PostgreSQL::Test::Utils;
use Test::More;

unless (eval { IPC::Run::run([ 'node', '--version' ], '>', \my $version, '2>', \my $errors) })
{
	die 'node is needed in CI' if $ENV{CI};
	plan skip_all => 'node, which unseals and signs here, is not installed';
}

my $node = new_cluster('forgery', conf => "fsync = off\n");
my $json = JSON::PP->new->canonical;

# Tokens of these claims, signed with the key $kid.
sub forge
{
	my ($kid, @claims) = @_;
	my %key = row($node, "SELECT kid, algorithm, encode(public_key, 'hex') AS public, encode(private_key, 'hex') AS sealed"
		  . ' FROM apikey.signing_key WHERE kid = ' . literal($kid));
	my $request = $json->encode({ %key, master => unpack('H*', slurp_file($node->data_dir . '/apikey_master.key')), claims => \@claims });
	my ($output, $errors) = ('', '');
	IPC::Run::run([ 'node', "$FindBin::RealBin/../node/forge.mjs" ], '<', \$request, '>', \$output, '2>', \$errors) or die "forge.mjs: $errors";
	return @{ $json->decode($output) };
}

for my $algorithm (qw(EdDSA ES256 HS256))
{
	my $kid = value($node, "SELECT apikey.rotate_signing_key('$algorithm')");
	my %first = issue($node, owner => $algorithm, ttl => '1 hour');
	my %second = refresh($node, $first{token});
	my %current = refresh($node, $second{token});
	my ($id, $generation) = @current{qw(key_id generation)};
	is($generation, 3, "$algorithm: the key is at its third generation");

	# The claims of the genuine token, with some replaced; undef leaves one out.
	my $genuine = decode_base64url((split(/\./, $current{token}))[1]);
	my $claims = sub {
		my (%replaced) = @_;
		my $text = $genuine;
		for my $name (sort keys %replaced)
		{
			$text =~ s/"$name":(?:"[^"]*"|\d+)/"\"$name\":" . ($replaced{$name} =~ m{^\d+\z} ? $replaced{$name} : "\"$replaced{$name}\"")/e
			  or die "no claim $name";
		}
		return $text;
	};
	my ($iat) = $genuine =~ /"iat":(\d+)/;

	# The thief can sign: where signatures are deterministic he makes the genuine token.
	my ($again) = forge($kid, $genuine);
	if ($algorithm eq 'ES256')
	{
		isnt($again, $current{token}, 'ES256: the same claims get another signature');
		is(code($node, $again), 'SIGNATURE_INVALID', 'ES256: which is as good, and still not the token that was issued');
	}
	else
	{
		is($again, $current{token}, "$algorithm: the forger makes the token that was issued");
	}

	my %forgeries = (
		'the current generation, issued a second later' => $claims->(iat => $iat + 1),
		'the current generation, issued a second earlier' => $claims->(iat => $iat - 1),
		'the current generation, living longer' => $claims->(exp => $iat + 1_000_000),
		'the current generation, as an admin' => $claims->(role => 'admin'),
		'the current generation, for another owner' => $claims->(sub => 'mallory'),
		'the current generation, with another nonce' => $claims->(nonce => 'A' x 22),
		'the current generation, with blanks in the claims' => $claims->() =~ s/,/, /r,
		'the previous generation' => $claims->(jti => "$id.2", iat => $iat - 1),
		'a future generation' => $claims->(jti => "$id.4"),
		'the last generation that there can be' => $claims->(jti => "$id.2147483647"));
	for my $forgery (sort keys %forgeries)
	{
		my ($token) = forge($kid, $forgeries{$forgery});
		is(code($node, $token), 'SIGNATURE_INVALID', "$algorithm: $forgery");
		is_deeply(
			[ map { sqlstate($node, "SELECT apikey.$_(" . literal($token) . ')') } qw(require refresh revoke revoke_token disable) ],
			[ ('PT401') x 5 ],
			"$algorithm: $forgery: nor is it good for anything else");
	}

	# No hash is kept of an older generation: its signature is believed, for the answer that it is too old.
	my ($old) = forge($kid, $claims->(jti => "$id.1", exp => $iat + 1_000_000));
	is(code($node, $old), 'SUPERSEDED', "$algorithm: an older generation is too old, genuine or not");
	is_deeply(
		[ map { sqlstate($node, "SELECT apikey.$_(" . literal($old) . ')') } qw(require refresh revoke revoke_token disable) ],
		[ ('PT401') x 5 ],
		"$algorithm: and good for nothing");

	my ($unknown) = forge($kid, $claims->(jti => '0192f000-0000-7000-8000-000000000001.1'));
	is(code($node, $unknown), 'NOT_FOUND', "$algorithm: a key that was never issued");

	is(code($node, $current{token}), 'VALID', "$algorithm: the genuine token is as good as before");
	is(value($node, "SELECT state || generation FROM apikey.key WHERE key_id = " . literal($id)), 'active3', "$algorithm: and so is the key");
}

$node->stop;
done_testing();
