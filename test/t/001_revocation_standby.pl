# A hot standby validates like its primary: what the primary withdrew is gone there as soon as it has been replayed, in every
# transaction, and nothing can be written there.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_cluster('primary', streaming => 1);

my %issued = (eddsa => { issue($primary, name => 'before the standby') });
# Rows that an old snapshot on the standby still needs must not hold up replay.
my $standby = new_standby('standby', $primary, conf => "hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n");
value($primary, "SELECT apikey.rotate_signing_key('HS256')");
$issued{hs256} = { issue($primary) };
value($primary, "SELECT apikey.rotate_signing_key('ES256')");
$issued{es256} = { issue($primary) };
value($primary, "SELECT apikey.rotate_signing_key('EdDSA')");
$issued{opaque} = { issue($primary, format => 'opaque') };
$issued{previous} = { issue($primary, ttl => '1 hour') };
$issued{current} = { refresh($primary, $issued{previous}{token}) };
$issued{$_} = { issue($primary, name => $_, role => 'contributor') } for qw(revoked updated disabled deleted narrowed enabled);
value($primary, 'SELECT apikey.disable(' . literal($issued{enabled}{key_id}) . ')');
$primary->wait_for_catchup($standby);

# Validation, on the standby and in read-only transactions of the primary.
my $read_only = session($primary);
value($read_only, 'BEGIN READ ONLY');
for ([ 'the standby', $standby ], [ 'a read-only transaction', $read_only ])
{
	my ($place, $where) = @$_;
	for my $kind (qw(eddsa hs256 es256 opaque previous current))
	{
		is(code($where, $issued{$kind}{token}), 'VALID', "$place validates: $kind");
	}
	my $token = literal($issued{eddsa}{token});
	my %verdict = verdict($where, $issued{eddsa}{token}, permission => 'chat:write');
	is_deeply(
		[ @verdict{qw(code key_id owner role permissions)} ],
		[ 'VALID', $issued{eddsa}{key_id}, 'acme', 'basic', [ 'chat:read', 'chat:write' ] ],
		"$place gives the whole verdict");
	is(code($where, $issued{eddsa}{token}, permission => 'dataset:read'), 'INSUFFICIENT_PERMISSIONS', "$place checks permissions");
	is(value($where, "SELECT apikey.check_token($token)"), 't', "$place: check_token() of a good token");
	is(value($where, "SELECT apikey.check_token($token, 'dataset:read')"), 'f', "$place: check_token() without the permission");
	is(value($where, "SELECT (apikey.require($token)).code"), 'VALID', "$place: require() of a good token");
	is(code($where, $issued{enabled}{token}), 'DISABLED', "$place: a disabled key");
	is(code($where, $issued{eddsa}{token} . 'A'), 'SIGNATURE_INVALID', "$place: an altered token");
}
value($read_only, 'COMMIT');

# Everything that writes is refused, before its arguments are looked at: the second of each pair is nonsense.
my ($id, $token) = map { literal($_) } @{ $issued{eddsa} }{qw(key_id token)};
my @writers = (
	"apikey.issue('acme')", "apikey.issue('acme', 'no_such_role')",
	"apikey.refresh($token)", "apikey.refresh('nonsense')",
	"apikey.revoke($id)", "apikey.revoke('nonsense', 'NONSENSE')",
	"apikey.revoke_token($token)", "apikey.revoke_token('nonsense', 'NONSENSE')",
	"apikey.revoke_owner('acme')", "apikey.revoke_owner('acme', 'NONSENSE')",
	"apikey.disable($id)", "apikey.disable('nonsense')",
	"apikey.enable(" . literal($issued{enabled}{key_id}) . ')', "apikey.enable('nonsense')",
	'apikey.rotate_signing_key()', "apikey.rotate_signing_key('nonsense')",
	'apikey.stage_signing_key()', "apikey.stage_signing_key('nonsense')");
for my $call (@writers)
{
	(my $shown = $call) =~ s/E'[^']{60,}'/token/;
	is(sqlstate($standby, "SELECT $call"), '25006', "on the standby: $shown");
	is(sqlstate($primary, "BEGIN READ ONLY; SELECT $call; COMMIT"), '25006', "in a read-only transaction: $shown");
}
is(sqlstate($standby, "UPDATE apikey.key SET state = 'revoked'"), '25006', 'on the standby: a revocation by plain SQL');
is(code($standby, $issued{eddsa}{token}), 'VALID', 'none of the refused calls did anything');
is(value($primary, "SELECT count(*) FROM apikey.key WHERE state = 'revoked'"), '0', 'nor on the primary');
my %refusal = failure($standby, "SELECT apikey.revoke($id)");
like($refusal{message}, qr/apikey\.revoke\(\)/, 'the message names the function');

# A transaction on the standby whose snapshot is older than what the primary does next.
my $old = session($standby);
my $id_of = sub { literal($issued{ $_[0] }{key_id}) };
value($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
my $keys_before = value($old, 'SELECT count(*) FROM apikey.key');
is(code($old, $issued{$_}{token}, permission => 'dataset:read'), 'VALID', "before the change: $_")
  for qw(revoked updated disabled deleted narrowed);
is(code($old, $issued{enabled}{token}), 'DISABLED', 'before the change: enabled');

my %receipt = row($primary, 'SELECT * FROM apikey.revoke(' . $id_of->('revoked') . ", 'KEY_COMPROMISE')");
ok(!$receipt{already}, 'the primary revokes a key');
value($primary, "UPDATE apikey.key SET state = 'revoked' WHERE key_id = " . $id_of->('updated'));
value($primary, 'SELECT apikey.disable(' . $id_of->('disabled') . ')');
value($primary, 'DELETE FROM apikey.key WHERE key_id = ' . $id_of->('deleted'));
value($primary, "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = " . $id_of->('narrowed'));
value($primary, 'SELECT apikey.enable(' . $id_of->('enabled') . ')');
my %new = issue($primary, name => 'younger than the snapshot');
$primary->wait_for_catchup($standby);

my %expected = (
	revoked => 'REVOKED', updated => 'REVOKED', disabled => 'DISABLED', deleted => 'NOT_FOUND', narrowed => 'INSUFFICIENT_PERMISSIONS',
	enabled => 'VALID');
for my $kind (sort keys %expected)
{
	my @permission = $kind eq 'enabled' ? () : (permission => 'dataset:read');
	is(code($standby, $issued{$kind}{token}, @permission), $expected{$kind}, "after replay, a new transaction: $kind");
	is(code($old, $issued{$kind}{token}, @permission), $expected{$kind}, "after replay, the older REPEATABLE READ transaction: $kind");
}
is(code($old, $new{token}), 'VALID', 'the older transaction validates a key that was issued after its snapshot');
is(value($old, 'SELECT apikey.check_token(' . literal($issued{revoked}{token}) . ')'), 'f', 'check_token() sees the revocation there');
is(value($old, 'SELECT state FROM apikey.key WHERE key_id = ' . $id_of->('revoked')), 'active', 'its own queries still see the old row');
is(value($old, 'SELECT count(*) FROM apikey.key'), $keys_before, 'and the old number of keys');
is(sqlstate($old, 'SELECT apikey.require(' . literal($issued{revoked}{token}) . ')'), 'PT401', 'require() raises there');
value($old, 'ROLLBACK');
my %verdict = verdict($standby, $issued{revoked}{token});
is($verdict{detail}{reason}, 'KEY_COMPROMISE', 'the standby knows the reason');
$old->quit;
$read_only->quit;

# Promotion: everything that was known stays, and now it can be written here.
$primary->stop;
$standby->promote;
is(code($standby, $issued{revoked}{token}), 'REVOKED', 'promoted: the revoked key stays revoked');
is(code($standby, $issued{$_}{token}), 'VALID', "promoted: still valid: $_") for qw(eddsa hs256 es256 opaque);
my %promoted = issue($standby, owner => 'promoted');
is(code($standby, $promoted{token}), 'VALID', 'promoted: a key can be issued');
value($standby, 'SELECT apikey.revoke(' . literal($promoted{token}) . ')');
is(code($standby, $promoted{token}), 'REVOKED', 'promoted: and revoked');

done_testing();
