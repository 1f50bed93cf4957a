# A validation reads its rows past the table's lock: where it last saw them, or from its own memory while nothing has been committed
# since. Whatever becomes of the row, its page, its file and its table meanwhile, the answer is that of the row as it is committed now.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('reading', conf => "max_prepared_transactions = 5\n");
my $reader = session($node);
my $writer = session($node);

# A key that the reader, and the shared cache, know well: the first call proves it, the second finds out where its row is, the third
# reads it there, and from then on the reader remembers it.
my $number = 0;
sub warm { my ($where, $token) = @_; code($where, $token) for 1 .. 3; return code($where, $token); }
sub known_key
{
	my (%arguments) = @_;
	my %key = issue($writer, owner => 'owner ' . $number++, ttl => '1 hour', %arguments);
	die 'not valid' if warm($reader, $key{token}) ne 'VALID';
	return %key;
}
sub set_key { my ($where, $id, $change) = @_; return value($where, "UPDATE apikey.key SET $change WHERE key_id = '$id'"); }
sub revoke_in { my ($where, $id) = @_; return set_key($where, $id, "state = 'revoked'"); }
# As metadata: 6400 characters that do not compress much.
my $noise = "jsonb_build_object('filler', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i))";
sub page_of { my ($id) = @_; return value($writer, "SELECT (ctid::text::point)[0] FROM apikey.key WHERE key_id = '$id'"); }
# A key that the reader knows, and whose row has moved to another page since; and its old place. Where metadata is stored PLAIN.
sub moved_key
{
	for (1 .. 10)
	{
		my %key = known_key();
		my ($place, $page) = (ctid($key{key_id}), page_of($key{key_id}));
		set_key($writer, $key{key_id}, "metadata = $noise");
		return ($place, %key) if page_of($key{key_id}) ne $page;
	}
	die 'no row moves';
}
sub ctid { my ($id) = @_; return value($writer, "SELECT ctid FROM apikey.key WHERE key_id = '$id'"); }

#
# The page: rows move, and their places are taken by others.
#
{
	my %key = known_key();
	for my $round (1 .. 40)
	{
		set_key($writer, $key{key_id}, "metadata = '{\"round\": $round}'");
		my %verdict = verdict($reader, $key{token});
		die "round $round" if $verdict{code} ne 'VALID' || $verdict{metadata}{round} != $round;
		value($writer, 'SELECT count(*) FROM apikey.key') if $round % 7 == 0;    # prunes
	}
	pass('40 updates, on the same page and on others: each is seen at once');
	revoke_in($writer, $key{key_id});
	is(code($reader, $key{token}), 'REVOKED', 'and so is the revocation that follows');

	value($writer, 'ALTER TABLE apikey.key ALTER COLUMN metadata SET STORAGE PLAIN');
	(undef, %key) = moved_key();
	is(code($reader, $key{token}), 'VALID', 'a row that has moved to another page is found there');
	value($node, 'VACUUM apikey.key');
	is(warm($reader, $key{token}), 'VALID', 'also when its old version is gone');
	value($writer, 'ALTER TABLE apikey.key ALTER COLUMN metadata SET STORAGE EXTENDED');
	for ([ 'compressed', "jsonb_build_object('filler', repeat('x', 7000))", '< 7000' ], [ 'out of line', $noise, '> 6000' ])
	{
		my ($what, $value, $size) = @$_;
		set_key($writer, $key{key_id}, "metadata = $value");
		is(value($writer, "SELECT pg_column_size(metadata) $size FROM apikey.key WHERE key_id = '$key{key_id}'"), 't', "a value that is kept $what");
		is(warm($reader, $key{token}), 'VALID', "$what: the key is valid");
		my $token = literal($key{token});
		is(value($reader, "SELECT bool_and((apikey.validate($token)).metadata = $value) FROM generate_series(1, 3)"), 't', "$what: with the whole value");
	}
	revoke_in($writer, $key{key_id});
	is(code($reader, $key{token}), 'REVOKED', 'and its revocation');
}

# What takes the place of a row that is gone: another key; a copy of the row, with the very same hash, under another id; the key itself.
my %bystander = known_key();
for my $successor ('another key', 'a copy under another id', 'a copy under another id, revoked')
{
	my %gone = known_key(format => 'opaque');
	value($writer, "CREATE TEMP TABLE copy AS SELECT * FROM apikey.key WHERE key_id = '$gone{key_id}'");
	my $place = ctid($gone{key_id});
	value($writer, "DELETE FROM apikey.key WHERE key_id = '$gone{key_id}'");
	my ($there, %other) = ('');
	for (1 .. 100)
	{
		# Not all at the first attempt, where some transaction still runs that could see the row.
		value($writer, 'VACUUM apikey.key');
		if ($successor eq 'another key')
		{
			%other = issue($writer, owner => 'successor', format => 'opaque');
		}
		else
		{
			my $set = $successor =~ /revoked/ ? ", state = 'revoked', revoked_at = now(), revocation_reason = 'UNSPECIFIED'" : '';
			value($writer, "UPDATE copy SET key_id = gen_random_uuid()$set; INSERT INTO apikey.key SELECT * FROM copy");
			$other{key_id} = value($writer, 'SELECT key_id FROM copy');
		}
		last if ($there = ctid($other{key_id})) eq $place;
	}
	is($there, $place, "$successor has taken the place of the row");
	# VACUUM makes each session look at the table anew, and that is when it does not trust where it saw the row.
	for ([ $reader, 'the session that knew it' ], [ session($node), 'a new one' ])
	{
		my ($where, $who) = @$_;
		is(code($where, $bystander{token}), 'VALID', "$successor: a key that nothing has happened to, to $who");
		is(code($where, $gone{token}), 'NOT_FOUND', "$successor: the token that was there is unknown to $who");
		$where->quit if $where != $reader;
	}
	is(code($reader, $other{token}), 'VALID', "$successor: whose own token is valid") if $other{token};
	value($writer, 'DROP TABLE copy');
}
{
	# The key's old place is another's by now, and the key, elsewhere, is revoked.
	value($writer, 'ALTER TABLE apikey.key ALTER COLUMN metadata SET STORAGE PLAIN');
	my ($place, %key) = moved_key();
	my $there = '';
	for (1 .. 100)
	{
		value($writer, 'VACUUM apikey.key');
		my %other = issue($writer, owner => 'successor');
		last if ($there = ctid($other{key_id})) eq $place;
	}
	is($there, $place, 'the place of an old version is taken by another key');
	is(code($reader, $bystander{token}), 'VALID', 'a key that nothing has happened to');
	is(code($reader, $key{token}), 'VALID', 'the key is found elsewhere');
	revoke_in($writer, $key{key_id});
	is(code($reader, $key{token}), 'REVOKED', 'and its revocation as well');
	value($writer, 'ALTER TABLE apikey.key ALTER COLUMN metadata SET STORAGE EXTENDED');
}

#
# The file and the table: each of these gives the table another file, or another definition, while the reader, and a transaction with an
# older snapshot, know the old one.
#
my $repack = do {
	my @pairs = map { [ "key$_", "copy$_" ] } ('', '_pkey', '_owner', '_idempotency');
	my $names = join(', ', map { "('apikey.$_->[0]'::regclass, 'public.$_->[1]'::regclass)" } @pairs);
	<<~SQL;
	BEGIN;
	LOCK TABLE apikey.key IN ACCESS EXCLUSIVE MODE;
	DELETE FROM apikey.key WHERE pg_column_size(metadata) > 1000;
	CREATE TABLE public.copy (LIKE apikey.key);
	ALTER TABLE public.copy ADD CONSTRAINT copy_pkey PRIMARY KEY (key_id);
	CREATE INDEX copy_owner ON public.copy (owner);
	CREATE UNIQUE INDEX copy_idempotency ON public.copy (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
	INSERT INTO public.copy SELECT * FROM apikey.key ORDER BY key_id DESC;
	SET LOCAL allow_system_table_mods = on;
	UPDATE pg_class c SET relfilenode = other.relfilenode
	  FROM (VALUES $names) v (one, two) JOIN pg_class other ON other.oid IN (v.one, v.two)
	 WHERE c.oid IN (v.one, v.two) AND other.oid <> c.oid;
	COMMIT;
	SQL
};
my @rewrites = (
	[ 'VACUUM FULL', 'VACUUM FULL apikey.key' ],
	[ 'CLUSTER', 'CLUSTER apikey.key USING key_owner' ],
	[ 'a new column with a constant', "ALTER TABLE apikey.key ADD COLUMN note text DEFAULT 'constant'" ],
	[ 'a new column that rewrites', 'ALTER TABLE apikey.key ADD COLUMN dice float8 DEFAULT random()' ],
	[ 'the columns dropped again', 'ALTER TABLE apikey.key DROP COLUMN note, DROP COLUMN dice' ],
	[ 'UNLOGGED', 'ALTER TABLE apikey.key SET UNLOGGED' ],
	[ 'LOGGED', 'ALTER TABLE apikey.key SET LOGGED' ],
	[ 'another fillfactor', 'ALTER TABLE apikey.key SET (fillfactor = 70); VACUUM FULL apikey.key' ],
	[ 'REINDEX', 'REINDEX TABLE apikey.key' ],
	[ 'a swap of files in the catalog, the old one kept', $repack ],
	[ 'the old one dropped as well', 'VACUUM FULL apikey.key; DROP TABLE public.copy' ]);
my ($old, $serializable) = (session($node), session($node));
for (@rewrites)
{
	my ($what, $statements) = @$_;
	my %kept = known_key();
	my %gone = known_key();
	my %late = known_key();
	my %old = ('REPEATABLE READ' => $old, SERIALIZABLE => $serializable);
	for my $level (sort keys %old)
	{
		value($old{$level}, "BEGIN ISOLATION LEVEL $level; SELECT 1");
		warm($old{$level}, $_->{token}) for \%kept, \%gone, \%late;
	}
	my $file = value($node, "SELECT pg_relation_filenode('apikey.key')");
	value($node, $statements);
	isnt(value($node, "SELECT pg_relation_filenode('apikey.key')"), $file, "$what: another file") unless $what =~ /constant|columns dropped|REINDEX/;
	my %sessions = (reader => $reader, %old);
	for my $who (sort keys %sessions)
	{
		is(code($sessions{$who}, $kept{token}), 'VALID', "$what: a key is still valid to $who");
	}
	revoke_in($writer, $gone{key_id});
	for my $who (sort keys %sessions)
	{
		is(code($sessions{$who}, $gone{token}), 'REVOKED', "$what: revoked later, it is so at once to $who");
	}
	value($old{$_}, 'COMMIT') for keys %old;
	value($writer, "DELETE FROM apikey.key WHERE key_id = '$late{key_id}'");
	is(code($reader, $late{token}), 'NOT_FOUND', "$what: a key that is deleted later");
	is(code($reader, { issue($writer, owner => 'new') }->{token}), 'VALID', "$what: a new key");
}
is(sqlstate($node, 'TRUNCATE apikey.key'), '55000', 'TRUNCATE is refused');

# The same within one statement, which hears of other sessions' changes of the table from nobody but the validation itself. The old file is
# still there, and there the key is as it was.
for my $what ('a swap of files', 'a renamed column')
{
	my %key = known_key();
	value($writer, 'SELECT pg_advisory_lock(7)');
	my ($output, $errors) = ('', '');
	my $token = literal($key{token});
	my $code = "(apikey.validate($token)).code";
	my @command = (
		'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'one statement'",
		'-c', "DO \$\$ DECLARE seen text[] := ARRAY[$code, $code, $code]; BEGIN PERFORM pg_advisory_lock_shared(7); RAISE NOTICE '% %', seen, $code; END \$\$");
	my $one_statement = IPC::Run::start(\@command, '<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(60));
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'one statement' AND wait_event = 'advisory'"),
		"$what: a statement is under way");
	value($node, $what eq 'a swap of files' ? $repack : 'ALTER TABLE apikey.key RENAME COLUMN metadata TO more');
	revoke_in($writer, $key{key_id}) if $what eq 'a swap of files';
	value($writer, 'SELECT pg_advisory_unlock(7)');
	$one_statement->finish;
	like($errors, $what eq 'a swap of files' ? qr/NOTICE:  \{VALID,VALID,VALID\} REVOKED/ : qr/ERROR:  table apikey\.key has another shape/, "$what: seen by the statement");
	value($node, $what eq 'a swap of files' ? 'DROP TABLE public.copy' : 'ALTER TABLE apikey.key RENAME COLUMN more TO metadata');
}

# The reader's own transaction gives the table another file, and takes it back.
{
	my %key = known_key();
	my %other = known_key();
	for my $end ('ROLLBACK', 'COMMIT')
	{
		value($reader, 'BEGIN');
		value($reader, 'CLUSTER apikey.key USING key_owner');
		is(code($reader, $key{token}), 'VALID', "in the transaction that rewrites the table, before $end");
		value($reader, 'SAVEPOINT s');
		value($reader, 'ALTER TABLE apikey.key ADD COLUMN dice float8 DEFAULT random()');
		revoke_in($reader, $key{key_id});
		is(code($reader, $key{token}), 'REVOKED', "rewritten twice, and revoked, before $end");
		value($reader, 'ROLLBACK TO s');
		is(code($reader, $key{token}), 'VALID', "taken back to the savepoint, before $end");
		revoke_in($reader, $other{key_id}) if $end eq 'COMMIT';
		value($reader, $end);
		is(code($reader, $key{token}), 'VALID', "after $end");
		is(code($reader, $other{token}), $end eq 'COMMIT' ? 'REVOKED' : 'VALID', "after $end, the other key");
	}
	revoke_in($writer, $key{key_id});
	is(code($reader, $key{token}), 'REVOKED', 'and a revocation by another session after that');
}

#
# Snapshots and transactions.
#
{
	# Own changes count at once, and not when they are taken back, and never a moment longer than the transaction.
	my %key = known_key();
	for my $change ("UPDATE apikey.key SET state = 'revoked'", "UPDATE apikey.key SET state = 'disabled'", 'DELETE FROM apikey.key')
	{
		my $now = $change =~ /DELETE/ ? 'NOT_FOUND' : $change =~ /disabled/ ? 'DISABLED' : 'REVOKED';
		value($reader, 'BEGIN');
		is(warm($reader, $key{token}), 'VALID', "$change: before");
		value($reader, 'SAVEPOINT s');
		value($reader, "$change WHERE key_id = '$key{key_id}'");
		is(code($reader, $key{token}), $now, "$change: at once");
		is(code($node, $key{token}), 'VALID', "$change: not to others");
		value($reader, 'ROLLBACK TO s');
		is(code($reader, $key{token}), 'VALID', "$change: taken back to the savepoint");
		value($reader, "$change WHERE key_id = '$key{key_id}'");
		is(code($reader, $key{token}), $now, "$change: once more");
		value($reader, 'ROLLBACK');
		is(code($reader, $key{token}), 'VALID', "$change: taken back");
	}
	# All within one statement of the client.
	my $token = literal($key{token});
	value($reader, <<~SQL);
		DO \$\$
		DECLARE
		    seen text[] := ARRAY[(apikey.validate($token)).code];
		BEGIN
		    UPDATE apikey.key SET state = 'disabled' WHERE key_id = '$key{key_id}';
		    seen := seen || (apikey.validate($token)).code;
		    UPDATE apikey.key SET state = 'active' WHERE key_id = '$key{key_id}';
		    seen := seen || (apikey.validate($token)).code;
		    COMMIT;
		    seen := seen || (apikey.validate($token)).code;
		    UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$key{key_id}';
		    seen := seen || (apikey.validate($token)).code;
		    ROLLBACK;
		    seen := seen || (apikey.validate($token)).code;
		    PERFORM set_config('test.seen', array_to_string(seen, ' '), false);
		END \$\$
		SQL
	is(value($reader, 'SHOW test.seen'), 'VALID DISABLED VALID VALID REVOKED VALID', 'within one DO');

	# Another's transaction counts from its end, however that comes about.
	value($writer, 'BEGIN');
	revoke_in($writer, $key{key_id});
	is(warm($reader, $key{token}), 'VALID', 'revoked, not committed');
	value($writer, 'ROLLBACK');
	is(code($reader, $key{token}), 'VALID', 'rolled back');
	value($writer, 'BEGIN');
	revoke_in($writer, $key{key_id});
	value($writer, "PREPARE TRANSACTION 'revocation'");
	is(warm($reader, $key{token}), 'VALID', 'prepared');
	is(code($writer, $key{token}), 'VALID', 'prepared, to the session that did it');
	value($node, "COMMIT PREPARED 'revocation'");
	is(code($reader, $key{token}), 'REVOKED', 'COMMIT PREPARED by a third session');
	is(code($writer, $key{token}), 'REVOKED', 'to the session that prepared it');
}

# Each kind of change of a key or its role, to transactions that have begun before it.
{
	my %key = known_key(role => 'contributor');
	my @changes = (
		[ 'a narrowing', "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$key{key_id}'", 'INSUFFICIENT_PERMISSIONS' ],
		[ 'no narrowing', "UPDATE apikey.key SET permissions = NULL WHERE key_id = '$key{key_id}'", 'VALID' ],
		[ "the role's permissions", "UPDATE apikey.role SET permissions = '{chat:read}' WHERE name = 'contributor'", 'INSUFFICIENT_PERMISSIONS' ],
		[ "the role's permissions again", "UPDATE apikey.role SET permissions = '{chat:*,dataset:*}' WHERE name = 'contributor'", 'VALID' ],
		[ "the role's limit", "UPDATE apikey.role SET rate_limit = 1, rate_window = '31 days' WHERE name = 'contributor'", 'VALID|RATE_LIMITED' ],
		[ 'no limit', "UPDATE apikey.role SET rate_limit = NULL WHERE name = 'contributor'", 'VALID' ],
		[ "the key's own limit", "UPDATE apikey.key SET rate_limit = 1, rate_window = '31 days' WHERE key_id = '$key{key_id}'", 'RATE_LIMITED' ],
		[ 'another role', "UPDATE apikey.key SET role = 'node_operator', rate_limit = NULL, rate_window = NULL WHERE key_id = '$key{key_id}'", 'INSUFFICIENT_PERMISSIONS' ],
		[ 'the first role', "UPDATE apikey.key SET role = 'contributor' WHERE key_id = '$key{key_id}'", 'VALID' ],
		[ 'addresses', "UPDATE apikey.key SET allowed_cidrs = '{10.0.0.0/8}' WHERE key_id = '$key{key_id}'", 'FORBIDDEN' ],
		[ 'disabled', "SELECT apikey.disable('$key{key_id}')", 'DISABLED' ],
		[ 'enabled', "SELECT apikey.enable('$key{key_id}')", 'FORBIDDEN' ],
		[ 'an expiry', "UPDATE apikey.key SET expires_at = now() WHERE key_id = '$key{key_id}'", 'EXPIRED' ],
		[ 'deleted', "DELETE FROM apikey.key WHERE key_id = '$key{key_id}'", 'NOT_FOUND' ]);
	my %sessions = (reader => $reader, 'REPEATABLE READ' => $old, SERIALIZABLE => $serializable);
	value($sessions{$_}, "BEGIN ISOLATION LEVEL $_ READ ONLY; SELECT 1") for 'REPEATABLE READ', 'SERIALIZABLE';
	code($sessions{$_}, $key{token}, permission => 'dataset:read') for sort keys %sessions, sort keys %sessions;
	for (@changes)
	{
		my ($what, $statement, $expected) = @$_;
		value($writer, $statement);
		for my $who (sort keys %sessions)
		{
			like(code($sessions{$who}, $key{token}, permission => 'dataset:read'), qr/^(?:$expected)$/, "$what: seen at once by $who");
		}
	}
	value($sessions{$_}, 'COMMIT') for 'REPEATABLE READ', 'SERIALIZABLE';
}

# In a SERIALIZABLE transaction a validation is a read as any other, also where the row comes from memory: of two that each read what
# the other writes, one fails.
for my $table ('key', 'role')
{
	my %key = known_key();
	value($writer, 'CREATE TABLE IF NOT EXISTS work (done integer)');
	warm($serializable, $key{token});
	value($serializable, 'BEGIN ISOLATION LEVEL SERIALIZABLE');
	is(code($serializable, $key{token}), 'VALID', "$table: one transaction validates a key");
	value($writer, 'BEGIN ISOLATION LEVEL SERIALIZABLE');
	is(value($writer, 'SELECT count(*) FROM work'), 0, "$table: the other sees that no work was done with it");
	value($writer, $table eq 'key'
		? "UPDATE apikey.key SET state = 'disabled' WHERE key_id = '$key{key_id}'"
		: "UPDATE apikey.role SET description = description || '.' WHERE name = 'basic'");
	my @states = (sqlstate($serializable, 'INSERT INTO work VALUES (1)'), sqlstate($writer, 'COMMIT'), sqlstate($serializable, 'COMMIT'));
	is(scalar(grep { $_ eq '40001' } @states), 1, "$table: one of the two is told to try again") or diag("@states");
	run_sql($_, 'ROLLBACK') for $serializable, $writer;
	value($writer, 'TRUNCATE work');
}

#
# ACCESS EXCLUSIVE: a session that knows the key answers without waiting, from what is committed; one that does not, waits.
#
{
	my %key = known_key();
	my %gone = known_key();
	value($writer, 'BEGIN; LOCK TABLE apikey.key, apikey.role IN ACCESS EXCLUSIVE MODE');
	value($reader, "SET lock_timeout = '100ms'");
	is(code($reader, $key{token}), 'VALID', 'the table is locked: the reader does not wait');
	revoke_in($writer, $gone{key_id});
	is(code($reader, $gone{token}), 'VALID', 'what is not committed does not count');
	is(sqlstate($node, "SET lock_timeout = '100ms'; SELECT code FROM apikey.validate(" . literal($key{token}) . ')'), '55P03', 'a new session waits');
	value($writer, 'COMMIT');
	is(code($reader, $gone{token}), 'REVOKED', 'and what is committed does');

	# A rewrite that is under way may have told others already that the table changes: then they wait as well. Nobody sees it half done.
	my $answer = sub { my ($output, $errors) = run_sql($reader, 'SELECT code FROM apikey.validate(' . literal($_[0]{token}) . ')'); return $output || $errors; };
	for my $end ('ROLLBACK', 'COMMIT')
	{
		my %revoked = known_key();
		my %deleted = known_key();
		value($writer, 'BEGIN; ALTER TABLE apikey.key ADD COLUMN dice float8 DEFAULT random()');
		revoke_in($writer, $revoked{key_id});
		value($writer, "DELETE FROM apikey.key WHERE key_id = '$deleted{key_id}'");
		like($answer->($_), qr/^VALID$|lock timeout/, "a rewrite under way, before $end") for \%revoked, \%deleted, \%key;
		value($writer, $end);
		my @expected = $end eq 'COMMIT' ? qw(REVOKED NOT_FOUND VALID) : qw(VALID VALID VALID);
		is_deeply([ map { $answer->($_) } \%revoked, \%deleted, \%key ], \@expected, "after $end");
	}
	value($reader, 'RESET lock_timeout');
	value($writer, 'ALTER TABLE apikey.key DROP COLUMN dice');
}

# Who had to wait for a rewrite began before it was committed, and yet finds the rows that it has written anew.
for my $table ('key', 'role', 'signing_key')
{
	my %cold = issue($writer, owner => 'cold');
	value($writer, "BEGIN; ALTER TABLE apikey.$table ADD COLUMN dice float8 DEFAULT random()");
	my ($output, $errors) = ('', '');
	my @command = (
		'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'waiting'",
		'-c', 'SELECT code FROM apikey.validate(' . literal($cold{token}) . ", 'chat:read')");
	my $waiting = IPC::Run::start(\@command, '<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(60));
	my $is_waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiting' AND wait_event_type = 'Lock'";
	ok($node->poll_query_until('postgres', $is_waiting), "$table: a new session waits for a rewrite");
	value($writer, 'COMMIT');
	$waiting->finish;
	is("$output$errors", "VALID\n", "$table: and finds the row in the new file");
	value($writer, "ALTER TABLE apikey.$table DROP COLUMN dice");
}

# A table of another shape is an error, never a verdict.
{
	my %key = known_key();
	value($writer, 'ALTER TABLE apikey.key RENAME COLUMN state TO status');
	is(sqlstate($reader, 'SELECT code FROM apikey.validate(' . literal($key{token}) . ')'), '55000', 'a renamed column');
	value($writer, 'ALTER TABLE apikey.key RENAME COLUMN status TO state');
	is(code($reader, $key{token}), 'VALID', 'and its name again');
}

#
# DROP EXTENSION.
#
{
	my %key = known_key();
	my %opaque = known_key(format => 'opaque');
	value($writer, 'BEGIN; DROP EXTENSION apikey');
	is(code($reader, $key{token}), 'VALID', 'DROP EXTENSION, not committed');
	value($writer, 'ROLLBACK');
	is(code($reader, $key{token}), 'VALID', 'rolled back');
	value($writer, 'DROP EXTENSION apikey');
	like(sqlstate($reader, 'SELECT code FROM apikey.validate(' . literal($key{token}) . ')'), qr/^(?:3F000|42883)$/, 'DROP EXTENSION: no function');
	value($writer, 'CREATE EXTENSION apikey');
	is(code($reader, $_->{token}), 'NOT_FOUND', 'CREATE EXTENSION: the key is unknown') for \%key, \%opaque;
	is(warm($reader, { issue($writer, owner => 'new') }->{token}), 'VALID', 'and a new one is valid');
}

$_->quit for $reader, $writer, $old, $serializable;
$node->stop;
done_testing();
