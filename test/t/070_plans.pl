# What a session can have printed of plans shows no hash, salt, tag or sealed key: debug_print_plan and its like with
# client_min_messages = log, which every user can set, in functions that run as the owner and in triggers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use StoredSecrets;
use Test::More;

my $node = new_cluster('plans');
create_users($node);

my $printing = 'SET client_min_messages = log; SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on;';
my $bytes = 0;
for my $mode (qw(auto force_custom_plan))
{
	do_everything(
		$node, $mode,
		"$printing SET plan_cache_mode = $mode; SET debug_pretty_print = off;",
		sub {
			my ($what, $shown) = @_;
			unlike($shown, qr/ERROR:/, "$mode: $what succeeds");
			like($shown, qr/LOG:  (?:parse tree|plan):/, "$mode: $what: plans are printed");
			is_deeply(shown_secrets($shown), [], "$mode: $what: and show nothing");
			$bytes += length($shown);
		});
}
cmp_ok($bytes, '>', 100_000, 'there was something to look at');

# All of it would have been seen.
my (undef, $errors) = run_sql($node, "$printing SET plan_cache_mode = force_custom_plan; " . control_statement());
is_deeply(
	shown_secrets($errors),
	[qw(idempotency_digest previous_hash previous_salt previous_tag private_key token_hash token_salt token_tag)],
	'a query that holds a row shows every secret');

# Nor is a plan with constants made where none of it is printed, and nothing stays pinned.
is(value($node, "SET plan_cache_mode = force_custom_plan; SET debug_print_plan = on; SELECT generation FROM apikey.issue('acme'); SHOW plan_cache_mode; SHOW debug_print_plan", user => 'issuer'),
	"1\nforce_custom_plan\non", "the session's settings are as they were");

# A trigger that does not run is noticed before a token leaves that nothing proves.
my %key = issue($node, ttl => '1 hour');
value($node, 'ALTER TABLE apikey.key DISABLE TRIGGER key_fill_update');
my %failure = failure($node, 'SELECT apikey.refresh(' . literal($key{token}) . ')');
is($failure{sqlstate}, '55000', 'refresh() without its trigger fails');
like($failure{hint}, qr/status/, 'and says where to look');
is(code($node, $key{token}), 'VALID', 'and has changed nothing');
value($node, 'ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_fill_update');
my %next = refresh($node, $key{token});
is(code($node, $next{token}), 'VALID', 'with it refresh() works');

# A trigger of somebody else's that issues keys while one is refreshed.
value($node, q{CREATE FUNCTION public.another() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.owner = 'outer' THEN
			PERFORM apikey.issue('inner', idempotency_key => 'x' || NEW.generation);
			PERFORM apikey.rotate_signing_key('HS256');
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER another BEFORE INSERT OR UPDATE ON apikey.key FOR EACH ROW EXECUTE FUNCTION public.another()});
my %outer = issue($node, owner => 'outer', ttl => '1 hour', idempotency_key => 'outer');
is(code($node, $outer{token}), 'VALID', 'a key whose trigger issues another');
my %refreshed = refresh($node, $outer{token});
is(code($node, $refreshed{token}), 'VALID', 'and its refresh');

$node->stop;
done_testing();
