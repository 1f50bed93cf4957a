# What is stored of tokens and signing keys and must not be seen, in every form in which a plan, a parameter or a message could show it;
# and what users of each kind do that makes the library write or read it.
package StoredSecrets;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use ApikeyTest;
use MIME::Base64 qw(encode_base64);
use Test::More;

our @EXPORT = qw(create_users note_secrets shown_secrets do_everything control_statement);

my %forms;

# One login role for each kind of access, named like it.
sub create_users
{
	my ($node) = @_;
	value($node, "CREATE ROLE $_ LOGIN; SELECT apikey.grant_access('$_', '$_')") for qw(application issuer auditor admin);
	return;
}

# Takes down what the tables hold now. What they hold later is to be taken down again.
sub note_secrets
{
	my ($node) = @_;
	my $of_keys = join(' UNION ', map { "SELECT '$_' AS what, encode($_, 'hex') AS hex FROM apikey.key WHERE $_ IS NOT NULL" }
		  qw(token_hash token_salt token_tag previous_hash previous_salt previous_tag idempotency_digest));
	for my $secret (rows($node, "$of_keys UNION SELECT 'private_key', encode(private_key, 'hex') FROM apikey.signing_key"))
	{
		# The beginning is enough.
		my $hex = substr($secret->{hex}, 0, 16);
		my $bytes = pack('H*', $hex);
		$forms{$_} = $secret->{what} for $hex, uc($hex), substr(encode_base64($bytes, ''), 0, 10), _as_datum($bytes), _as_datum($hex);
	}
	return;
}

# Bytes as debug_print_plan writes those of a constant, but for the blanks: it breaks lines wherever they are full, in numbers too.
sub _as_datum
{
	my ($bytes) = @_;
	return join('', map { $_ > 127 ? $_ - 256 : $_ } unpack('C*', $bytes));
}

# Which kinds of secrets are in the text.
sub shown_secrets
{
	my ($text) = @_;
	$text =~ s/\s+//g;
	my %shown = map { ($forms{$_} => 1) } grep { index($text, $_) >= 0 } keys %forms;
	return [ sort keys %shown ];
}

# A superuser's block that holds a row of keys and of signing keys as a trigger holds NEW, and uses them as one must not.
sub control_statement
{
	return <<'SQL';
DO $$
DECLARE
	k apikey.key;
	s apikey.signing_key;
	changes jsonb;
BEGIN
	SELECT * INTO k FROM apikey.key WHERE previous_hash IS NOT NULL AND idempotency_digest IS NOT NULL LIMIT 1;
	SELECT * INTO s FROM apikey.signing_key LIMIT 1;
	SELECT jsonb_object_agg(n.key, n.value) INTO changes FROM jsonb_each(to_jsonb(k)) n;
	PERFORM FROM apikey.signing_key t WHERE t.private_key = s.private_key;
END
$$
SQL
}

# Every way to write or to prove a key: calls $judge->($what, $output) after each. $round makes names unique.
sub do_everything
{
	my ($node, $round, $settings, $judge) = @_;
	my $observer = session($node);
	# What it has made is looked for in what it shows, too.
	my $do = sub {
		my ($user, $what, $sql) = @_;
		my ($output, $errors) = run_sql($node, "$settings $sql", user => $user);
		note_secrets($observer);
		$judge->("$user: $what", $output . $errors);
	};
	my %key;
	for my $format (qw(jwt opaque))
	{
		$key{"$format $_"} = { issue($node, owner => "$round $format", ttl => '1 hour', format => $format, idempotency_key => "$round $_") }
		  for qw(application admin edited dies disabled);
	}
	note_secrets($observer);
	for my $format (qw(jwt opaque))
	{
		my $token = sub { literal($key{"$format $_[0]"}{token}) };
		my $id = sub { literal($key{"$format $_[0]"}{key_id}) };
		$do->('application', "$format: validate()", 'SELECT code FROM apikey.validate(' . $token->('application') . ')');
		$do->('application', "$format: check_token()", 'SELECT apikey.check_token(' . $token->('application') . ')');
		$do->('application', "$format: require()", 'SELECT (apikey.require(' . $token->('application') . ')).owner');
		$do->('application', "$format: refresh()", 'SELECT generation FROM apikey.refresh(' . $token->('application') . ')');
		$do->('application', "$format: revoke_token()", 'SELECT already FROM apikey.revoke_token(' . $token->('application') . ')');
		for my $user (qw(issuer admin))
		{
			$do->($user, "$format: issue()", "SELECT generation FROM apikey.issue('$round $user', format => '$format')");
			$do->($user, "$format: issue() with an idempotency key",
				"SELECT generation FROM apikey.issue('$round $user', format => '$format', idempotency_key => '$round $format $user')");
		}
		$do->('issuer', "$format: disable()", 'SELECT apikey.disable(' . $id->('disabled') . ')');
		$do->('admin', "$format: enable()", 'SELECT apikey.enable(' . $id->('disabled') . ')');
		$do->('issuer', "$format: revoke()", 'SELECT already FROM apikey.revoke(' . $id->('dies') . ')');
		$do->('admin', "$format: refresh()", 'SELECT generation FROM apikey.refresh(' . $token->('admin') . ')');
		$do->('admin', "$format: an UPDATE that changes nothing", 'UPDATE apikey.key SET name = name WHERE key_id = ' . $id->('admin'));
		$do->('admin', "$format: an UPDATE of claims", "UPDATE apikey.key SET owner = '$round $format changed', metadata = '{\"a\": 1}' WHERE key_id = " . $id->('edited'));
		$do->('admin', "$format: an UPDATE of the state", "UPDATE apikey.key SET state = 'revoked' WHERE key_id = " . $id->('edited'));
		$do->('admin', "$format: DELETE", 'DELETE FROM apikey.key WHERE key_id = ' . $id->('disabled'));
	}
	$do->('admin', 'all keys, rolled back', 'BEGIN; UPDATE apikey.key SET name = name; ROLLBACK');
	$do->('issuer', 'revoke_owner()', "SELECT apikey.revoke_owner('$round issuer')");
	my $kid = value($node, "SELECT kid FROM apikey.signing_key WHERE state = 'active'");
	$do->('admin', 'stage_signing_key()', "SELECT apikey.stage_signing_key('HS256') <> ''");
	$do->('admin', 'rotate_signing_key()', "SELECT apikey.rotate_signing_key('HS256') <> ''");
	$do->('admin', 'adopt_master_key()', "SELECT apikey.adopt_master_key() <> ''");
	$do->('admin', 'retiring a signing key', "UPDATE apikey.signing_key SET state = 'retired' WHERE kid = " . literal($kid));
	$do->('admin', 'renaming a role',
		"INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('role_$round', '1 day', '{chat:read}', '1 hour');"
		  . "UPDATE apikey.key SET role = 'role_$round' WHERE key_id = " . literal($key{'opaque admin'}{key_id})
		  . "; UPDATE apikey.role SET name = 'renamed_$round' WHERE name = 'role_$round'");
	$observer->quit;
	return;
}

1;
