# Two-phase commit: a withdrawal counts from COMMIT PREPARED on, for every transaction, however old its snapshot; until then, and
# after ROLLBACK PREPARED, the token is good. What a token alone can do, refresh() and revoke_token(), cannot be prepared: 061.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('prepared', conf => "max_prepared_transactions = 10\n");

my @withdrawals = (
	[ 'revoke() by id', 'REVOKED', sub { "SELECT * FROM apikey.revoke('$_[0]{key_id}')" } ],
	[ 'revoke_owner()', 'REVOKED', sub { "SELECT apikey.revoke_owner('$_[0]{owner}')" } ],
	[ 'disable()', 'DISABLED', sub { "SELECT apikey.disable('$_[0]{key_id}')" } ],
	[ 'plain UPDATE', 'REVOKED', sub { "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]{key_id}'" } ],
	[ 'plain DELETE', 'NOT_FOUND', sub { "DELETE FROM apikey.key WHERE key_id = '$_[0]{key_id}'" } ],
	[ 'narrowing', 'INSUFFICIENT_PERMISSIONS', sub { "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$_[0]{key_id}'" } ]);

sub code_of { return code($_[0], $_[1]{token}, permission => 'chat:write'); }

# prepare(SESSION, KEY, STATEMENT, IDENTIFIER, VERDICT INSIDE, NAME)
sub prepare
{
	my ($session, $key, $statement, $gid, $inside, $what) = @_;
	value($session, 'BEGIN');
	value($session, $statement);
	is(code_of($session, $key), $inside, "$what: in its own transaction at once");
	value($session, "PREPARE TRANSACTION '$gid'");
	return;
}

my $preparer = session($node);
my $number = 0;
for (@withdrawals)
{
	my ($what, $expected, $statement) = @$_;
	my $gid = 'withdrawal ' . $number++;
	my %kept = issue($node, owner => "kept $number", ttl => '1 hour');
	my %gone = issue($node, owner => "gone $number", ttl => '1 hour');
	my $other = session($node);
	my %old = map { ($_ => session($node)) } ('REPEATABLE READ', 'SERIALIZABLE');
	my %where = ('a new session' => $node, 'another session' => $other, 'the session that prepared it' => $preparer,
		map { ("an older $_ transaction" => $old{$_}) } keys %old);
	for my $level (keys %old)
	{
		value($old{$level}, "BEGIN ISOLATION LEVEL $level");
		is(value($old{$level}, "SELECT state FROM apikey.key WHERE key_id = '$gone{key_id}'"), 'active', "$what: a $level snapshot");
	}

	prepare($preparer, \%kept, $statement->(\%kept), "$gid, kept", $expected, $what);
	prepare($preparer, \%gone, $statement->(\%gone), "$gid, gone", $expected, $what);
	for my $who (sort keys %where)
	{
		is(code_of($where{$who}, \%gone), 'VALID', "$what: prepared: still valid to $who");
	}
	value($other, "COMMIT PREPARED '$gid, gone'");
	value($other, "ROLLBACK PREPARED '$gid, kept'");
	for my $who (sort keys %where)
	{
		is(code_of($where{$who}, \%gone), $expected, "$what: after COMMIT PREPARED: $expected to $who");
		is(code_of($where{$who}, \%kept), 'VALID', "$what: after ROLLBACK PREPARED: valid to $who");
	}
	for my $level (sort keys %old)
	{
		is(value($old{$level}, "SELECT state, permissions, generation FROM apikey.key WHERE key_id = '$gone{key_id}'"),
			'active||1', "$what: the $level transaction's own queries still see the old row");
		value($old{$level}, 'COMMIT');
	}
	$_->quit for $other, values %old;
}

# Prepared transactions outlive the server, and count from then on just the same.
my %gone = issue($node, owner => 'gone');
my %kept = issue($node, owner => 'kept');
prepare($preparer, \%gone, "SELECT * FROM apikey.revoke('$gone{key_id}', 'KEY_COMPROMISE')", 'gone', 'REVOKED', 'before a restart');
prepare($preparer, \%kept, "SELECT * FROM apikey.revoke('$kept{key_id}')", 'kept', 'REVOKED', 'before a restart');
value($preparer, 'BEGIN');
my %unborn = issue($preparer, owner => 'unborn');
is(code($preparer, $unborn{token}), 'VALID', 'a key that its own transaction has issued');
value($preparer, "PREPARE TRANSACTION 'unborn'");
$preparer->quit;
for my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	is(value($node, 'SELECT count(*) FROM pg_prepared_xacts'), '3', "a server that was stopped ($mode) has them still");
	is(code($node, $gone{token}), 'VALID', "a prepared revocation does not count after a stop ($mode)");
	is(code($node, $unborn{token}), 'NOT_FOUND', "nor does a prepared key ($mode)");
}
my $old = session($node);
value($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM apikey.key');
value($node, "COMMIT PREPARED 'gone'; ROLLBACK PREPARED 'kept'; COMMIT PREPARED 'unborn'");
for ([ 'a new session', $node ], [ 'an older transaction', $old ])
{
	my ($who, $where) = @$_;
	my %verdict = verdict($where, $gone{token});
	is($verdict{code}, 'REVOKED', "after COMMIT PREPARED the key is revoked to $who");
	is($verdict{detail}{reason}, 'KEY_COMPROMISE', "with its reason to $who");
	is(code($where, $kept{token}), 'VALID', "after ROLLBACK PREPARED the key is valid to $who");
	is(code($where, $unborn{token}), 'VALID', "and the issued key is to $who");
}
$old->quit;

done_testing();
