# Sessions that validate in a loop, beside others that revoke and refresh, while pg_repack, VACUUM FULL and CLUSTER give the tables other
# files for a minute (APIKEY_STRESS_SECONDS). Once a change has been told (see create_told), each validation that starts must see it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my ($keys, $readers, $seconds) = (3000, 2, $ENV{APIKEY_STRESS_SECONDS} // 60);
my $node = new_cluster('rewrites', conf => "fsync = off\nmax_connections = 40\nmax_locks_per_transaction = 256\napikey.cache_entries = 8192\n");
my $has_repack = $node->psql('postgres', 'CREATE EXTENSION pg_repack') == 0;
value($node, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('tested', '7 days', '{chat:*}', '8 days')");
value($node, <<SQL);
CREATE TABLE plan AS
SELECT n, i.key_id, i.token, CASE n % 3 WHEN 0 THEN 'REVOKED' WHEN 1 THEN 'SUPERSEDED' ELSE 'VALID' END AS code
  FROM generate_series(1, $keys) n, LATERAL apikey.issue('owner ' || n, 'tested', format => CASE WHEN n % 2 = 0 THEN 'opaque' ELSE 'jwt' END) i;
CREATE TABLE seen (problems text[], checked bigint, told bigint);
SQL
create_told($node);
# Looks at keys that are about to be changed, or have just been: the writers take them in the order of their numbers.
value($node, <<SQL);
CREATE PROCEDURE watch() LANGUAGE plpgsql AS \$\$
DECLARE
    tokens CONSTANT text[] := (SELECT array_agg(token ORDER BY n) FROM plan);
    codes CONSTANT text[] := (SELECT array_agg(code ORDER BY n) FROM plan);
    problems text[] := '{}';
    checked bigint := 0; told bigint := 0;
    newest integer := 1; n integer; was_told boolean; code text;
BEGIN
    WHILE NOT told(0) LOOP
        COMMIT;
        WHILE newest < $keys - 40 AND told(newest + 3) LOOP
            newest := newest + 3;
        END LOOP;
        FOR i IN 1 .. 50 LOOP
            n := greatest(1, newest - 20 + floor(random() * 40)::integer);
            was_told := told(n);
            code := (apikey.validate(tokens[n])).code;
            checked := checked + 1;
            told := told + was_told::integer;
            IF code <> codes[n] AND (was_told OR code <> 'VALID') THEN
                problems := problems || format('%s, should be %s', code, codes[n]);
            END IF;
        END LOOP;
    END LOOP;
    INSERT INTO seen VALUES (problems, checked, told);
END
\$\$;
SQL

my (@errors, @running);
sub psql
{
	my ($sql) = @_;
	my $errors = '';
	push @errors, \$errors;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ],
		'<', \undef, '>', \my $output, '2>', \$errors, IPC::Run::timeout(600));
}
push @running, map { psql('CALL watch()') } 1 .. $readers;
my %writer = map { $_ => session($node) } 'revoke', 'refresh';
my @keys = rows($node, 'SELECT n, key_id, token, code FROM plan ORDER BY n');
my @rewrites = (
	($has_repack ? map { [ 'pg_repack', '--no-order', '--no-kill-backend', '--wait-timeout=300', '-t', "apikey.$_", '-h', $node->host, '-p', $node->port, '-d', 'postgres' ] } qw(key role key signing_key) : ()),
	map { [ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $_ ] } 'VACUUM FULL apikey.key', 'CLUSTER apikey.key USING key_pkey', 'VACUUM FULL apikey.role', 'CLUSTER apikey.signing_key USING signing_key_pkey');

my $end = Time::HiRes::time() + $seconds;
my ($rewrites, $changes, $rewriting) = (0, 0);
my ($rewrite_output, $rewrite_errors) = ('', '');
while (Time::HiRes::time() < $end && @keys)
{
	if (!defined $rewriting || !$rewriting->pumpable)
	{
		if (defined $rewriting)
		{
			$rewriting->finish or die "a rewrite failed: $rewrite_errors";
			$rewrites++;
		}
		$rewriting = IPC::Run::start($rewrites[ $rewrites % @rewrites ], '<', \undef, '>', \$rewrite_output, '2>', \$rewrite_errors, IPC::Run::timeout(300));
	}
	$rewriting->pump_nb;
	my $key = shift @keys;
	next if $key->{code} eq 'VALID';
	if ($key->{code} eq 'REVOKED')
	{
		$writer{revoke}->query_safe("SELECT revoked_at FROM apikey.revoke('$key->{key_id}')");
	}
	else
	{
		$writer{refresh}->query_safe("SELECT generation FROM apikey.refresh('$key->{token}');"
			  . " UPDATE apikey.key SET previous_valid_until = clock_timestamp() WHERE key_id = '$key->{key_id}'");
	}
	$writer{revoke}->query_safe("SELECT pg_advisory_lock($key->{n})");
	$changes++;
}
$rewriting->finish or die "a rewrite failed: $rewrite_errors";
$writer{revoke}->query_safe('SELECT pg_advisory_lock(0)');
ok((grep { $_->finish } @running) == $readers, 'the readers have come to their end') or diag(map { $$_ } @errors);
my %sum = row($node, 'SELECT sum(checked) AS checked, sum(told) AS told, sum(cardinality(problems)) AS problems FROM seen');
note("$sum{checked} validations, $sum{told} of keys whose change had been told; $changes changes, $rewrites rewrites");
is($sum{problems}, 0, 'no answer was older than what had been committed before')
  or diag(value($node, 'SELECT count(*) || \' \' || p FROM seen, unnest(problems) p GROUP BY p ORDER BY count(*) DESC LIMIT 20'));
cmp_ok($rewrites, '>', 3, 'tables were rewritten');
cmp_ok($sum{told}, '>', $changes, 'and validations followed the changes');
$_->quit for values %writer;
$node->stop;
done_testing();
