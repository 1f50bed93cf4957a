# Sessions that validate in a loop, beside one that takes keys out of use in every way, in random order, and keeps rewriting the table.
# When a change is committed, the writer says so: it takes an advisory lock with the key's number, which is no transaction and so does
# not itself make anybody read again. A reader that finds the lock taken, and validates after that, must get the changed answer.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my ($keys, $readers) = (400, 4);
my $seed = $ENV{APIKEY_TEST_SEED} // int(rand(2**31));
srand($seed);
note("APIKEY_TEST_SEED=$seed");

# A cache that is too small for all of the keys, so that proofs are made anew as well.
my $node = new_cluster('stress', conf => "fsync = off\napikey.cache_entries = 1024\nmax_locks_per_transaction = 256\nmax_prepared_transactions = 2\n");
value($node, <<SQL);
INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('writer', '7 days', '{chat:*}', '8 days'), ('reader', '7 days', '{chat:read}', '8 days');
-- What becomes of each key: the code that it has in the end.
CREATE TABLE plan AS
SELECT n, i.key_id, i.token, 'VALID'::text AS code
  FROM generate_series(1, $keys) n, LATERAL apikey.issue('owner ' || n, 'writer', format => CASE WHEN n % 4 = 0 THEN 'opaque' ELSE 'jwt' END) i;
CREATE TABLE seen (reader integer, problems text[], checked bigint, told bigint, rounds bigint);
SQL

my $rewrite = 'ALTER TABLE apikey.key ADD COLUMN extra float8 DEFAULT random(); ALTER TABLE apikey.key DROP COLUMN extra';
my %change = (
	REVOKED => [
		sub { "SELECT apikey.revoke('$_[0]')" },
		sub { "UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'" },
		sub { "BEGIN; SAVEPOINT s; UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'; RELEASE s; COMMIT" },
		sub { "BEGIN; UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'" },
		sub { "BEGIN; LOCK TABLE apikey.key IN ACCESS EXCLUSIVE MODE; UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'; COMMIT" },
		# In one transaction with a rewrite, on either side of it.
		sub { "BEGIN; UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'; $rewrite; COMMIT" },
		sub { "BEGIN; $rewrite; UPDATE apikey.key SET state = 'revoked' WHERE key_id = '$_[0]'; COMMIT" } ],
	DISABLED => [ sub { "SELECT apikey.disable('$_[0]')" } ],
	NOT_FOUND => [ sub { "DELETE FROM apikey.key WHERE key_id = '$_[0]'" } ],
	EXPIRED => [ sub { "UPDATE apikey.key SET expires_at = now() WHERE key_id = '$_[0]'" } ],
	SUPERSEDED => [ sub { "SELECT (apikey.refresh((SELECT token FROM plan WHERE key_id = '$_[0]'))).generation;"
			  . " UPDATE apikey.key SET previous_valid_until = now() WHERE key_id = '$_[0]'" } ],
	INSUFFICIENT_PERMISSIONS => [
		sub { "UPDATE apikey.key SET role = 'reader' WHERE key_id = '$_[0]'" },
		sub { "UPDATE apikey.key SET permissions = '{chat:read}' WHERE key_id = '$_[0]'" } ]);
# None of these changes any answer.
my @disturbances = (
	'VACUUM apikey.key', 'VACUUM FULL apikey.key', 'CLUSTER apikey.key USING key_owner', 'REINDEX TABLE apikey.key',
	'REINDEX TABLE CONCURRENTLY apikey.key', $rewrite, "BEGIN; $rewrite; ROLLBACK",
	"UPDATE apikey.key SET metadata = jsonb_build_object('n', random()) WHERE key_id IN (SELECT key_id FROM plan TABLESAMPLE SYSTEM (50))",
	"UPDATE apikey.key SET metadata = jsonb_build_object('filler', repeat(md5(random()::text), 40)) WHERE key_id IN (SELECT key_id FROM plan WHERE random() < 0.05)",
	"BEGIN; UPDATE apikey.key SET state = 'revoked'; ROLLBACK",
	"BEGIN; SAVEPOINT s; DELETE FROM apikey.key; ROLLBACK TO s; COMMIT",
	"BEGIN; CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM apikey.key WHERE owner LIKE '%7'; DELETE FROM apikey.key WHERE owner LIKE '%7';"
	  . ' INSERT INTO apikey.key SELECT * FROM copy; COMMIT',
	"SELECT apikey.issue('somebody else', 'writer')", 'VACUUM FULL apikey.role', "UPDATE apikey.role SET description = description || '.' WHERE name = 'writer'",
	'SELECT count(apikey.refresh(p.token)) FROM plan p JOIN apikey.key k USING (key_id)'
	  . " WHERE p.code = 'VALID' AND k.generation = 1 AND k.state = 'active' AND random() < 0.01");

# Three quarters of the keys change; the others must be valid throughout.
my @codes = sort keys %change;
my @order = sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } grep { $_ % 4 != 3 } 1 .. $keys;
my %id_of = map { @{$_}{qw(n key_id)} } rows($node, 'SELECT n, key_id FROM plan');
my ($plan, $script) = ('', '');
for (@order)
{
	my $n = $_->[1];
	my $code = $codes[ rand(@codes) ];
	my @ways = @{ $change{$code} };
	$plan .= "UPDATE plan SET code = '$code' WHERE n = $n;\n";
	$script .= $ways[ rand(@ways) ]->($id_of{$n}) . ";\nSELECT pg_advisory_lock($n);\n";
	$script .= $disturbances[ rand(@disturbances) ] . ";\n" if rand() < 0.5;
}
value($node, "BEGIN;\n${plan}COMMIT");
create_told($node);
value($node, <<SQL);
CREATE PROCEDURE watch(reader integer) LANGUAGE plpgsql AS \$\$
DECLARE
    tokens CONSTANT text[] := (SELECT array_agg(token ORDER BY n) FROM plan);
    codes CONSTANT text[] := (SELECT array_agg(code ORDER BY n) FROM plan);
    ids CONSTANT uuid[] := (SELECT array_agg(key_id ORDER BY n) FROM plan);
    problems text[] := '{}';
    checked bigint := 0; told bigint := 0; rounds bigint := 0;
    n integer; was_told boolean; finished boolean := false; answer apikey.verdict;
BEGIN
    LOOP
        COMMIT;
        IF rounds % 7 = 2 THEN
            -- Has an id of its own, and then no memory.
            PERFORM pg_current_xact_id();
        END IF;
        -- Every key once more when the writer has finished.
        EXIT WHEN finished;
        finished := told(0);
        FOR i IN 1 .. CASE WHEN finished THEN $keys ELSE 100 END LOOP
            n := CASE WHEN finished THEN i ELSE 1 + floor(random() * $keys) END;
            was_told := told(n);
            answer := apikey.validate(tokens[n], 'chat:write');
            checked := checked + 1;
            IF was_told OR codes[n] = 'VALID' THEN
                told := told + was_told::integer;
                IF answer.code <> codes[n] THEN
                    problems := problems || format('%s, should be %s', answer.code, codes[n]);
                END IF;
            ELSIF answer.code NOT IN ('VALID', codes[n]) THEN
                problems := problems || format('%s on the way to %s', answer.code, codes[n]);
            END IF;
            IF answer.code NOT IN ('NOT_FOUND', 'SIGNATURE_INVALID') AND answer.key_id IS DISTINCT FROM ids[n] THEN
                problems := problems || 'an answer about another key';
            END IF;
        END LOOP;
        rounds := rounds + 1;
    END LOOP;
    INSERT INTO seen VALUES (reader, problems, checked, told, rounds);
END
\$\$;
SQL

my @watching = map {
	my ($output, $errors) = ('', '');
	local $ENV{PGOPTIONS} = '-c default_transaction_isolation=' . ($_ % 2 ? 'repeatable\\ read' : 'read\\ committed');
	my @command = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "CALL watch($_)");
	{ harness => IPC::Run::start(\@command, '<', \undef, '>', \$output, '2>', \$errors, IPC::Run::timeout(150)), errors => \$errors };
} 1 .. $readers;
ok($node->poll_query_until('postgres', "SELECT count(*) = $readers FROM pg_stat_activity WHERE query LIKE 'CALL watch%' AND state = 'active'"), 'the readers are at work');
my $writer = session($node);
$writer->query_safe($_) for grep { /\S/ } split(/(?<=;)\n/, $script);
$writer->query_safe('SELECT pg_advisory_lock(0)');
for my $reader (@watching)
{
	ok($reader->{harness}->finish, 'a reader has come to its end') or diag(${ $reader->{errors} });
}
$writer->quit;

my %sum = row($node, 'SELECT count(*) AS readers, sum(checked) AS checked, sum(told) AS told, min(told) AS least, sum(cardinality(problems)) AS problems FROM seen');
note("$sum{checked} validations, $sum{told} of keys whose change had been told");
is($sum{problems}, 0, 'no answer was older than what had been committed before')
  or diag(value($node, "SELECT count(*) || ' ' || p FROM seen, unnest(problems) p GROUP BY p ORDER BY count(*) DESC LIMIT 20") . "\nAPIKEY_TEST_SEED=$seed");
cmp_ok($sum{least}, '>', @order, 'each reader saw keys change');
is(value($node, 'SELECT count(*) FROM plan, apikey.validate(token, \'chat:write\') v WHERE v.code <> plan.code'), 0, 'and in the end every key is what it should be');

$node->stop;
done_testing();
