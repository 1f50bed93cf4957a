# Rate limits with many sessions at once: exactly as many requests as the limit says, for each key, each client address and each database
# apart; a full table forgets those with the least to remember; times are those of the clock.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('limits', conf => "fsync = off\napikey.rate_entries = 1024\napikey.max_databases = 2\n");
# No window of 31 days ends while this runs.
value($node, <<'SQL');
INSERT INTO apikey.role (name, ttl, permissions, rate_limit, rate_window, refresh_window) VALUES ('limited', '7 days', '{chat:*}', 500, '31 days', '24 hours');
UPDATE apikey.role SET rate_limit = 300, rate_window = '31 days' WHERE name = 'free';
CREATE TABLE answer (kind text, code text, n bigint);
-- Asks so often, and notes how often it was answered what.
CREATE FUNCTION ask(kind text, times integer, token text, client inet, cost integer DEFAULT 1) RETURNS void LANGUAGE sql AS $$
    INSERT INTO answer
    SELECT ask.kind, v.code, count(*) FROM generate_series(1, ask.times) i, LATERAL apikey.validate(ask.token, NULL, ask.client, ask.cost + 0 * i) v GROUP BY v.code
$$;
CREATE FUNCTION subscriber() RETURNS inet LANGUAGE sql AS 'SELECT (''2001:db8::'' || (random() * 9999)::integer)::inet';
ALTER SYSTEM SET apikey.free_tier = on;
SELECT pg_reload_conf();
SQL
sub new_key { return issue($node, role => 'limited', @_); }
sub left_of
{
	my ($token, $client, %options) = @_;
	return value($node, 'SELECT rate_remaining FROM apikey.validate(' . literal($token) . ', NULL, ' . literal($client) . ', 0)', %options);
}

# 8 sessions at once, each with several transactions, each with several requests.
sub pgbench
{
	my ($what, $transactions, $script, %options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/limits.sql';
	write_file($file, "$script\n", 0644);
	my ($output, $errors) = ('', '');
	my $done = IPC::Run::run(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 8, '-j', 1, '-t', $transactions, '-f', $file, $options{database} // 'postgres' ],
		'>', \$output, '2>', \$errors, IPC::Run::timeout(120));
	ok($done, "8 sessions at once: $what") or diag($errors);
	return;
}
sub answers
{
	my ($kind, %options) = @_;
	return { map { @{$_}{qw(code n)} } rows($node, "SELECT code, sum(n)::bigint AS n FROM answer WHERE kind = '$kind' GROUP BY code", %options) };
}

# One call each, ordinary client statements.
my %one = new_key();
my %other = new_key(format => 'opaque');
pgbench('one key', 120, 'SELECT ask(\'one\', 1, ' . literal($one{token}) . ', NULL);');
is_deeply(answers('one'), { VALID => 500, RATE_LIMITED => 460 }, 'exactly as many as the limit are valid');
is(left_of($other{token}), 500, 'another key has lost nothing');

# So many, and so close together, that two at the same instant are the rule: one that was not counted would show.
{
	my %key = new_key();
	value($node, "UPDATE apikey.key SET rate_limit = 200000 WHERE key_id = '$key{key_id}'");
	pgbench('40000 requests each', 1, "SELECT ask('crowd', 40000, " . literal($key{token}) . ', NULL);');
	is_deeply(answers('crowd'), { VALID => 200_000, RATE_LIMITED => 120_000 }, 'exact in a crowd');
}

# Two keys and an address, with several calls in each statement, transactions that are rolled back, and a denial now and then.
my %third = new_key();
my ($second, $third) = map { literal($_->{token}) } \%other, \%third;
pgbench('two keys and two addresses', 10, <<~SQL);
	SELECT ask('second', 10, $second, NULL);
	SELECT apikey.check_token($second, 'admin:all');
	SELECT ask('address', 10, NULL, '10.1.1.1');
	BEGIN;
	SELECT apikey.check_token($third) FROM generate_series(1, 6);
	ROLLBACK;
	SELECT apikey.validate(NULL, 'chat:write', '10.1.1.1');
	SELECT ask('subscriber', 10, NULL, subscriber());
	SELECT ask('look', 1, $third, NULL, 0);
	SQL
is_deeply(answers('second'), { VALID => 500, RATE_LIMITED => 300 }, 'a key');
is_deeply(answers('address'), { VALID => 300, RATE_LIMITED => 500 }, 'an address');
is_deeply(answers('subscriber'), { VALID => 300, RATE_LIMITED => 500 }, 'the addresses of a /64');
is(left_of($third{token}), 500 - 8 * 10 * 6, 'a key whose requests were rolled back: they count');
is(left_of(undef, '10.1.1.2'), 300, 'another address');

# Costs of several sizes: never more than the limit, and what is left in the end is less than the least that was refused.
my %costly = new_key();
my $costly = literal($costly{token});
pgbench('costs', 20, "\\set cost random(3, 9)\nSELECT ask('cost ' || :cost, 1, $costly, NULL, :cost);\n");
my $spent = value($node, "SELECT sum(n * substr(kind, 6)::integer) FROM answer WHERE kind LIKE 'cost %' AND code = 'VALID'");
is(left_of($costly{token}), 500 - $spent, "costs: $spent, and the rest is left");
cmp_ok($spent, '>', 500 - 9, 'costs: the limit was reached');

# A limit that changes meanwhile never lets more through than the higher one.
my %changing = new_key();
my $changing = literal($changing{token});
pgbench('a limit that changes', 60, <<~SQL);
	\\set limit 300 + 100 * (:client_id % 2)
	UPDATE apikey.key SET rate_limit = :limit WHERE key_id = '$changing{key_id}';
	SELECT ask('changing', 2, $changing, NULL);
	SQL
value($node, "UPDATE apikey.key SET rate_limit = 400 WHERE key_id = '$changing{key_id}'; SELECT ask('changing', 200, $changing, NULL)");
is(answers('changing')->{VALID}, 400, 'a limit that changes between 300 and 400 lets 400 through');

#
# Two databases with the same keys.
#
{
	my %key = new_key();
	my $token = literal($key{token});
	value($node, "SELECT ask('before', 200, $token, '10.2.2.2')");
	value($node, "SELECT ask('before', 100, NULL, '10.2.2.2')");
	value($node, 'TRUNCATE answer');
	value($node, 'CREATE DATABASE twin TEMPLATE postgres', database => 'template1');
	is(left_of($key{token}, undef, database => 'twin'), 500, 'the same key in another database has its own count');
	is(left_of(undef, '10.2.2.2', database => 'twin'), 300, 'and so has the same address');
	pgbench("another database's", 10, "SELECT ask('twin', 8, $token, NULL); SELECT ask('twin address', 8, NULL, '10.2.2.2');", database => 'twin');
	is_deeply(answers('twin', database => 'twin'), { VALID => 500, RATE_LIMITED => 140 }, 'which is exact');
	is_deeply(answers('twin address', database => 'twin'), { VALID => 300, RATE_LIMITED => 340 }, "the address's as well");
	is(left_of($key{token}), 300, 'and the first one is as it was');
	is(left_of(undef, '10.2.2.2'), 200, 'for the address, too');
}

#
# Time: a denied request is allowed after retry_after, and not before. Asks again and again, for three windows of a second.
#
{
	my %key = new_key();
	value($node, "UPDATE apikey.key SET rate_limit = 4, rate_window = '1 second' WHERE key_id = '$key{key_id}'");
	value($node, <<~'SQL');
		CREATE FUNCTION times(token text, OUT too_early integer, OUT too_late integer, OUT allowed integer, OUT denied integer, OUT most integer) LANGUAGE plpgsql AS $$
		DECLARE
		    answer apikey.verdict;
		    earliest timestamptz; latest timestamptz;                -- of this request
		    not_before timestamptz := '-infinity'; not_after timestamptz := 'infinity';
		    passed timestamptz[] := '{}';
		    width CONSTANT interval := '1 second';
		BEGIN
		    too_early := 0; too_late := 0; allowed := 0; denied := 0; most := 0;
		    LOOP
		        earliest := clock_timestamp();
		        answer := apikey.validate(token);
		        latest := clock_timestamp();
		        IF answer.valid THEN
		            too_early := too_early + (latest < not_before)::integer;
		            allowed := allowed + 1;
		            not_before := '-infinity';
		            not_after := 'infinity';
		            passed := passed || earliest;
		            -- By the start of its window each: what the sliding window lets through in one of them is never more than the limit.
		            most := greatest(most, (SELECT count(*) FROM unnest(passed) p WHERE date_trunc('second', p) = date_trunc('second', earliest)));
		        ELSE
		            too_late := too_late + (earliest > not_after)::integer;
		            denied := denied + 1;
		            not_before := greatest(not_before, earliest + answer.retry_after);
		            not_after := least(not_after, latest + answer.retry_after);
		        END IF;
		        EXIT WHEN latest > passed[1] + 3 * width OR answer.retry_after > 2 * width;
		    END LOOP;
		END
		$$
		SQL
	my %result = row($node, 'SELECT * FROM times(' . literal($key{token}) . ')');
	is($result{too_early}, 0, 'nothing was allowed before its retry_after');
	is($result{too_late}, 0, 'nothing was denied after it');
	cmp_ok($result{allowed}, '>=', 8, "in three seconds of four requests each, $result{allowed} were allowed");
	cmp_ok($result{denied}, '>', 0, 'others were denied');
	cmp_ok($result{most}, '<=', 5, 'no second had more than its limit, but for one that began between two readings of the clock');
}

#
# The table is full: of 1024 places, all go to addresses that come and go, but not those of a key and an address that have reached their
# limit.
#
{
	my %busy = new_key();
	my $busy = literal($busy{token});
	value($node, "SELECT ask('busy', 500, $busy, NULL)");
	value($node, "SELECT ask('busy address', 300, NULL, '10.3.3.3')");
	is(left_of($busy{token}) . ' ' . left_of(undef, '10.3.3.3'), '0 0', 'a key and an address that have reached their limit');
	my $flood = "SELECT count(*) FILTER (WHERE valid) FROM generate_series(1, 10000) i, LATERAL apikey.validate(NULL, NULL, '172.16.0.0'::inet + i) v";
	is(value($node, $flood), 10000, 'ten times as many addresses as there is room for');
	is(left_of($busy{token}) . ' ' . left_of(undef, '10.3.3.3'), '0 0', 'both are still where they were');
	is(value($node, $flood), 10000, 'the same once more');
	is(code($node, $busy{token}) . ' ' . code($node, undef, client => '10.3.3.3'), 'RATE_LIMITED RATE_LIMITED', 'and still limited');
	# Keys without a limit are counted in the same table, and make no more of a difference.
	value($node, "UPDATE apikey.role SET rate_limit = NULL WHERE name = 'basic'");
	my %unlimited = issue($node);
	is(value($node, 'SELECT count(*) FILTER (WHERE valid) FROM generate_series(1, 1000) i, LATERAL apikey.validate(' . literal($unlimited{token}) . ", NULL, '10.0.0.0'::inet + i) v"),
		1000, 'a key without a limit');
	is(left_of($busy{token}), 0, 'the limited one is as it was');
	# Whoever has used little may have been forgotten, and has its limit again, but never more than that.
	my $left = left_of(undef, '172.16.0.1');
	ok($left == 298 || $left == 299 || $left == 300, 'of an address that came and went, no more than its limit is left');
}

#
# Odd clients and odd tokens: an answer each, never an error.
#
{
	my @clients = ('::ffff:10.4.4.4', '10.4.4.4', '::ffff:10.4.4.4/96', '::ffff:10.4.4.4/120', '10.4.4.4/0', '::', '::/0', '0.0.0.0/0', '255.255.255.255',
		'fe80::1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '::10.4.4.4', '64:ff9b::10.4.4.4');
	my @wrong = grep { value($node, 'SELECT (apikey.validate(NULL, NULL, ' . literal($_) . ')).code') ne 'VALID' } @clients;
	is("@wrong", '', 'clients of every kind');
	is(left_of(undef, '10.4.4.4'), 294, 'six of them are one and the same');
	is(left_of(undef, '::'), 297, 'three of them are in the first /64');
	is(left_of(undef, '0.0.0.0'), 299, 'and one is 0.0.0.0');

	my %key = new_key();
	my $mine = literal($key{token});
	my %tokens = (
		'1 MB of a' => "repeat('a', 1000000)",
		'1 MB that begins like a JWT' => "rpad($mine, 1000000, 'A')",
		'1 MB of one JWT after another' => "repeat($mine, 2000)",
		'1 MB that begins like an opaque token' => "'ak_live_' || repeat('0', 1000000)",
		'a JWT of the greatest size and one more' => "rpad($mine, 8193, 'A')",
		'a JWT of the greatest size' => "rpad($mine, 8192, 'A')",
		'bytes that are no UTF-8' => q{convert_from(convert_to(E'\u00e9\u20ac\U0001F511', 'UTF8'), 'UTF8')},
		'empty' => "''",
		'blanks' => "repeat(' ', 10000)",
		'control characters' => "(SELECT string_agg(chr(i), '') FROM generate_series(1, 31) i)",
		'random bytes as Latin-1' => "(SELECT string_agg(convert_from(set_byte('\\x20', 0, 1 + (i * 7919) % 255), 'LATIN1'), '') FROM generate_series(1, 5000) i)",
		'dots' => "repeat('.', 100000)",
		'a token with a byte changed' => "overlay($mine PLACING chr(233) FROM 60)");
	for my $what (sort keys %tokens)
	{
		for my $on_failure ('off', 'on')
		{
			my $codes = value($node, "SET apikey.free_tier_on_failure = $on_failure; SELECT string_agg(v.code || ' ' || coalesce(v.role, '-'), ', ') FROM generate_series(1, 2) i,"
				  . " LATERAL apikey.validate($tokens{$what}, NULL, '10.5.5.5', 1 + 0 * i) v");
			like($codes, $on_failure eq 'on' ? qr/^VALID free, VALID free$/ : qr/^(MALFORMED|SIGNATURE_INVALID) -, \1 -$/, "$what, free tier on failure $on_failure");
		}
	}
	is(left_of($key{token}), 500, 'none of it at the expense of the key');
	is(left_of(undef, '10.5.5.5'), 300 - 2 * keys(%tokens), 'those that were rescued at that of the address');
	# A database of single bytes, where a token may hold any.
	value($node, "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'", database => 'template1');
	value($node, 'CREATE EXTENSION apikey', database => 'bytes');
	my $every_byte = "(SELECT string_agg(convert_from(set_byte('\\x20', 0, i), 'SQL_ASCII'), '') FROM generate_series(1, 255) i)";
	is(value($node, "SELECT string_agg(DISTINCT code, ' ') FROM generate_series(1, 100) n, LATERAL apikey.validate(repeat($every_byte, n)) v", database => 'bytes'),
		'MALFORMED', 'every byte there is');

	# It is one database more than apikey.max_databases: not counted in metrics, but limited.
	my (undef, $warning) = run_sql($node, 'SELECT code FROM apikey.validate(NULL)', database => 'bytes');
	like($warning, qr/WARNING:  apikey keeps no counters and no events for this database/, 'one database too many');
	my %more = issue($node, database => 'bytes');
	value($node, "UPDATE apikey.key SET rate_limit = 2, rate_window = '31 days'", database => 'bytes');
	is(join(' ', map { code($node, $more{token}, database => 'bytes') } 1 .. 3), 'VALID VALID RATE_LIMITED', 'is limited all the same');
}

$node->stop;
done_testing();
