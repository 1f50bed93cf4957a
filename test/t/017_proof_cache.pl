# What a token has once proven is remembered for all sessions of the server, and saves the proof, not the judgement: it holds for that
# very text, in that database, and only while the key's row keeps the hash that the token matched.
#
# A metric tells hits from misses.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('cache', conf => "apikey.cache_entries = 1024\n");
my $number = 0;
sub new_key { return issue($node, owner => 'owner ' . $number++, ttl => '1 hour', @_); }
sub warm { my ($token, %options) = @_; return join(' ', map { code($node, $token, %options) } 1 .. 3); }
sub known_key
{
	my %key = new_key(@_);
	die 'not valid' if warm($key{token}) ne 'VALID VALID VALID';
	return %key;
}
#
# Hits.
#
for my $format (qw(jwt opaque))
{
	my %first = known_key(format => $format);
	my %second = refresh($node, $first{token});
	is(warm($second{token}), 'VALID VALID VALID', "$format: a refreshed key");
	my %unused = new_key(format => $format);
	my %revoked = known_key(format => $format);
	value($node, "SELECT apikey.revoke('$revoked{key_id}')");
	my $altered = $first{token};
	substr($altered, -10, 1) = substr($altered, -10, 1) eq 'A' ? 'B' : 'A';
	is(code_and_source($node, $first{token}), 'VALID remembered', "$format: a hit, of the previous generation");
	is(code_and_source($node, $second{token}), 'VALID remembered', "$format: a hit, of the current one");
	is(value($node, 'SELECT apikey.check_token(' . literal($second{token}) . ')'), 't', "$format: check_token()");
	is(code_and_source($node, $second{token}, permission => 'admin:all'), 'INSUFFICIENT_PERMISSIONS remembered', "$format: judged as ever");
	is(code_and_source($node, $revoked{token}), 'REVOKED remembered', "$format: a hit that was revoked");
	is(code_and_source($node, $unused{token}), 'VALID proven', "$format: a miss");
	is(code_and_source($node, $unused{token}), 'VALID remembered', "$format: which is remembered from then on");
	unlike(code_and_source($node, $_), qr/^VALID |remembered/, "$format: not the same text")
	  for $altered, "$first{token} ", " $first{token}", "$first{token}\n", substr($first{token}, 0, -1), uc($first{token}), "$first{token}$first{token}";
	isnt(code($node, $altered), 'VALID', "$format: the altered text");
	# A refusal is not remembered as something else.
	value($node, "UPDATE apikey.key SET allowed_cidrs = '{10.0.0.0/8}' WHERE key_id = '$unused{key_id}'");
	is(warm($unused{token}), 'FORBIDDEN FORBIDDEN FORBIDDEN', "$format: an address that is not allowed");
	is(code($node, $unused{token}, client => '10.0.0.1'), 'VALID', "$format: one that is");
}

# A session remembers rows too, in 64 places by the last bits of their keys' ids. Of 65 keys two must share one, and neither is in the
# other's way.
{
	value($node, "CREATE TABLE many AS SELECT key_id, token, get_byte(uuid_send(key_id), 15) % 64 AS place FROM generate_series(1, 65) n, LATERAL apikey.issue('many ' || n)");
	value($node, 'SELECT (apikey.validate(token)).code FROM many');
	my $tokens = '(SELECT array_agg(token) FROM (SELECT token FROM many WHERE place = (SELECT place FROM many GROUP BY place HAVING count(*) > 1 LIMIT 1) LIMIT 2) t)';
	my $hits = "SELECT value FROM apikey.metrics WHERE name = 'apikey_proof_cache_hits_total'";
	my $ask = "SELECT count(*) FROM unnest(ARRAY(SELECT unnest($tokens) FROM generate_series(1, 50))) t, apikey.validate(t) v"
	  . " WHERE v.valid AND v.key_id = (SELECT key_id FROM many WHERE token = t)";
	my ($before, $valid, $after) = split(/\n/, value($node, "$hits; $ask; $hits"));
	is($valid, 100, 'two keys that share a place: each token is answered about its own key');
	is($after - $before, 100, 'and all are hits');
}

# refresh() and revoke_token() by a token that is remembered.
{
	my %key = known_key(format => 'opaque');
	my %next = refresh($node, $key{token});
	is($next{generation}, 2, 'refresh() of a remembered token');
	is(sqlstate($node, 'SELECT apikey.refresh(' . literal($key{token}) . ')'), 'PT409', 'and again');
	value($node, 'SELECT apikey.revoke_token(' . literal($key{token}) . ')');
	is(code($node, $_), 'REVOKED', 'revoke_token() by the previous generation') for $key{token}, $next{token};
}

#
# The row keeps another hash, or none.
#
# What a row would have to say for the tokens of two keys to be taken for each other.
my $proof_of = 'token_hash, token_salt, token_iterations, token_tag, kid';
for my $format (qw(jwt opaque))
{
	my %key = known_key(format => $format);
	my %other = known_key(format => $format);
	value($node, "CREATE TABLE copy AS SELECT * FROM apikey.key WHERE key_id = '$key{key_id}'");
	value($node, "DELETE FROM apikey.key WHERE key_id = '$key{key_id}'");
	is(code($node, $key{token}), 'NOT_FOUND', "$format: deleted");
	value($node, 'INSERT INTO apikey.key SELECT * FROM copy');
	is(warm($key{token}), 'VALID VALID VALID', "$format: the same row once more");
	is(code_and_source($node, $key{token}), 'VALID remembered', "$format: which the old proof is good for");

	my %changes = (
		'another hash' => "token_hash = sha256('x')",
		'another key\'s hash' => "($proof_of) = (SELECT $proof_of FROM apikey.key WHERE key_id = '$other{key_id}')",
		'its hash but for the first byte' => 'token_hash = set_byte(token_hash, 0, get_byte(token_hash, 0) # 1)',
		'its hash but for the eighth byte' => 'token_hash = set_byte(token_hash, 7, get_byte(token_hash, 7) # 1)');
	for my $what (sort keys %changes)
	{
		value($node, "UPDATE apikey.key SET $changes{$what} WHERE key_id = '$key{key_id}'");
		is(code_and_source($node, $key{token}), 'SIGNATURE_INVALID proven', "$format: $what, by UPDATE: the old proof is good for nothing");
		is(code($node, $other{token}), 'VALID', "$format: $what: the other key");
		value($node, "UPDATE apikey.key k SET ($proof_of) = (SELECT $proof_of FROM copy) WHERE key_id = '$key{key_id}'");
		is(code($node, $key{token}), 'VALID', "$format: $what, and its own again");

		value($node, "DELETE FROM apikey.key WHERE key_id = '$key{key_id}'");
		value($node, "CREATE TABLE changed AS TABLE copy; UPDATE changed SET $changes{$what}; INSERT INTO apikey.key SELECT * FROM changed");
		is(warm($key{token}), 'SIGNATURE_INVALID SIGNATURE_INVALID SIGNATURE_INVALID', "$format: $what, by DELETE and INSERT");
		value($node, "DROP TABLE changed; DELETE FROM apikey.key WHERE key_id = '$key{key_id}'; INSERT INTO apikey.key SELECT * FROM copy");
		is(code($node, $key{token}), 'VALID', "$format: $what, and its own row again");
	}

	# A restore that goes back behind a refresh, and then another refresh.
	my %next = refresh($node, $key{token});
	is(warm($next{token}), 'VALID VALID VALID', "$format: a refreshed key");
	value($node, "DELETE FROM apikey.key WHERE key_id = '$key{key_id}'; INSERT INTO apikey.key SELECT * FROM copy");
	is(warm($next{token}), 'SIGNATURE_INVALID SIGNATURE_INVALID SIGNATURE_INVALID', "$format: a restore from before: the row does not know the generation");
	is(warm($key{token}), 'VALID VALID VALID', "$format: but the one before");
	my %another = refresh($node, $key{token});
	is($another{generation}, 2, "$format: refreshed again");
	is(warm($next{token}), 'SIGNATURE_INVALID SIGNATURE_INVALID SIGNATURE_INVALID', "$format: another generation 2 than the remembered one");
	is(warm($another{token}), 'VALID VALID VALID', "$format: which is valid");

	# The previous generation, when the row forgets it; and a generation that rises without a refresh.
	my $older = $format eq 'jwt' ? 'SUPERSEDED' : 'SIGNATURE_INVALID';
	is(code($node, $key{token}), 'VALID', "$format: the previous generation");
	value($node, <<~SQL);
		UPDATE apikey.key SET previous_hash = sha256('x') WHERE key_id = '$key{key_id}'
		SQL
	is(code($node, $key{token}), 'SIGNATURE_INVALID', "$format: the previous generation has another hash");
	value($node, <<~SQL);
		UPDATE apikey.key SET previous_hash = NULL, previous_salt = NULL, previous_iterations = NULL, previous_tag = NULL,
		       previous_expires_at = NULL, previous_valid_until = NULL, previous_kid = NULL WHERE key_id = '$key{key_id}'
		SQL
	is(code($node, $key{token}), $older, "$format: the previous generation is not kept");
	value($node, "UPDATE apikey.key SET generation = 3 WHERE key_id = '$key{key_id}'");
	is(code($node, $another{token}), $older, "$format: the generation has risen past the hash");
	value($node, 'DROP TABLE copy');
}

# Where the row's previous hash is its current one as well, the generation tells.
{
	my %key = known_key(format => 'opaque');
	value($node, <<~SQL);
		UPDATE apikey.key SET generation = 2, previous_hash = token_hash, previous_salt = token_salt, previous_iterations = token_iterations,
		       previous_tag = token_tag, previous_expires_at = expires_at, previous_valid_until = now() + interval '1 minute'
		 WHERE key_id = '$key{key_id}'
		SQL
	is(code($node, $key{token}), 'VALID', 'a previous generation in its grace');
	value($node, "UPDATE apikey.key SET previous_valid_until = now() WHERE key_id = '$key{key_id}'");
	is(code($node, $key{token}), 'SUPERSEDED', 'and after it');
}

# A retired signing key takes what it has signed with it.
{
	my %signed = known_key();
	my %opaque = known_key(format => 'opaque');
	my $kid = value($node, "SELECT kid FROM apikey.key WHERE key_id = '$signed{key_id}'");
	value($node, "SELECT apikey.rotate_signing_key(); SELECT * FROM apikey.retire_signing_key('$kid', true)");
	is(code($node, $signed{token}), 'REVOKED', 'the signing key is retired');
	is(code($node, $opaque{token}), 'VALID', 'which an opaque token has none of');
}

#
# Two databases with the same keys, in files of the same numbers.
#
{
	my %both = known_key();
	my %here = known_key(format => 'opaque');
	my %there = known_key();
	my %moved = known_key();
	value($node, 'CREATE DATABASE twin TEMPLATE postgres', database => 'template1');
	my %late = known_key();
	is(value($node, "SELECT pg_relation_filenode('apikey.key')", database => 'twin'), value($node, "SELECT pg_relation_filenode('apikey.key')"), 'two databases with the same keys');
	is(code_and_source($node, $both{token}, database => 'twin'), 'VALID proven', 'what was proven in one is not in the other');
	for my $token ($both{token}, $here{token}, $there{token}, $moved{token})
	{
		is(warm($token, database => 'twin'), 'VALID VALID VALID', 'a key of both');
	}
	is(warm($late{token}, database => 'twin'), 'NOT_FOUND NOT_FOUND NOT_FOUND', 'a key of one only, issued since');
	value($node, "SELECT apikey.revoke('$here{key_id}')");
	value($node, "SELECT apikey.revoke('$there{key_id}')", database => 'twin');
	value($node, "DELETE FROM apikey.key WHERE key_id = '$moved{key_id}'");
	value($node, 'VACUUM FULL apikey.key');
	my %expected = (
		postgres => { both => 'VALID', here => 'REVOKED', there => 'VALID', moved => 'NOT_FOUND', late => 'VALID' },
		twin => { both => 'VALID', here => 'VALID', there => 'REVOKED', moved => 'VALID', late => 'NOT_FOUND' });
	my %token_of = (both => $both{token}, here => $here{token}, there => $there{token}, moved => $moved{token}, late => $late{token});
	for my $round (1 .. 2)
	{
		for my $database ('postgres', 'twin')
		{
			my %seen = map { ($_ => code($node, $token_of{$_}, database => $database)) } keys %token_of;
			is_deeply(\%seen, $expected{$database}, "$database: each database by its own rows, round $round");
		}
	}
	# A database that takes the name of another.
	value($node, "DROP DATABASE twin", database => 'template1');
	value($node, 'CREATE DATABASE twin', database => 'template1');
	value($node, 'CREATE EXTENSION apikey', database => 'twin');
	is(code($node, $_, database => 'twin'), 'NOT_FOUND', 'a database of the same name without the keys') for $both{token}, $here{token};
}

#
# A restart forgets, and nothing is lost by it.
#
{
	my %key = known_key();
	my %revoked = known_key();
	value($node, "SELECT apikey.revoke('$revoked{key_id}')");
	$node->restart;
	is(code_and_source($node, $key{token}), 'VALID proven', 'a restart forgets the proofs');
	is(warm($key{token}), 'VALID VALID VALID', 'which are made again');
	is(code_and_source($node, $key{token}), 'VALID remembered', 'and remembered');
	is(code($node, $revoked{token}), 'REVOKED', 'what was revoked is');
}

#
# More tokens than there is room for.
#
my $tokens = 1200;
value($node, <<~SQL);
	CREATE TABLE token AS
	SELECT n, i.key_id, i.token FROM generate_series(1, $tokens) n, LATERAL apikey.issue('owner ' || n, format => CASE WHEN n % 2 = 0 THEN 'opaque' ELSE 'jwt' END) i;
	CREATE FUNCTION codes() RETURNS TABLE (code text, n bigint) LANGUAGE sql AS
	'SELECT v.code, count(*) FROM public.token t, apikey.validate(t.token) v GROUP BY v.code ORDER BY v.code';
	SQL
my $codes = sub { return value($node, "SELECT string_agg(code || ' ' || n, ', ' ORDER BY code) FROM codes()"); };
is($codes->(), "VALID $tokens", 'more tokens than there are entries, once');
my $kept = metric($node, 'apikey_proof_cache_entries');
cmp_ok($kept, '<=', 1024, 'no more are remembered than there are entries');
cmp_ok($kept, '>=', 900, 'and not much fewer');
cmp_ok(metric($node, 'apikey_proof_cache_evictions_total'), '>=', $tokens - 1024, 'the others had to make room');
value($node, "UPDATE apikey.key SET state = 'revoked' WHERE key_id IN (SELECT key_id FROM token WHERE n % 3 = 0)");
value($node, 'DELETE FROM apikey.key WHERE key_id IN (SELECT key_id FROM token WHERE n % 3 = 1)');
is($codes->(), "NOT_FOUND 400, REVOKED 400, VALID 400", 'and each is judged by its own row');
is(value($node, "SELECT count(*) FROM token t, apikey.validate(t.token) v WHERE n % 3 = 0 AND v.key_id IS DISTINCT FROM t.key_id"), 0, 'the answers are about their keys');

$node->stop;
done_testing();
