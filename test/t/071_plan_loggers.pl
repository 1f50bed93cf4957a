# The server log of a server that logs whatever plans and parameters it can, by auto_explain with nested statements, by pgaudit with
# parameters and by debug_print_plan, holds no hash, salt, tag or sealed key.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use StoredSecrets;
use Test::More;

my $libraries = `pg_config --pkglibdir`;
chomp $libraries;
my @loggers = grep { -e "$libraries/$_.so" } qw(auto_explain pgaudit);
plan skip_all => 'neither auto_explain nor pgaudit is installed' unless @loggers;

my $node = new_cluster(
	'plan_loggers',
	conf => "shared_preload_libraries = '" . join(', ', 'apikey', @loggers) . "'\n"
	  . "auto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on\nauto_explain.log_analyze = on\n"
	  . "auto_explain.log_verbose = on\nauto_explain.log_triggers = on\npgaudit.log = 'all'\npgaudit.log_parameter = on\n"
	  . "plan_cache_mode = force_custom_plan\ndebug_print_plan = on\n");
create_users($node);

do_everything(
	$node, 'logged', '',
	sub {
		my ($what, $shown) = @_;
		unlike($shown, qr/ERROR:/, "$what succeeds");
	});
my $log = slurp_file($node->logfile);
is_deeply(shown_secrets($log), [], 'the log shows no secret');
for my $logger (@loggers)
{
	my $sign = { auto_explain => qr/duration: .* plan:\s*Query Text: /, pgaudit => qr/AUDIT: SESSION,/ }->{$logger};
	like($log, $sign, "$logger has logged");
}

# All of it would have been there.
my $before = -s $node->logfile;
value($node, control_statement());
is_deeply(
	shown_secrets(slurp_file($node->logfile, $before)),
	[qw(idempotency_digest previous_hash previous_salt previous_tag private_key token_hash token_salt token_tag)],
	'a query that holds a row logs every secret');

# Without debug_print_plan, each of the other two would have shown them too.
for my $logger (@loggers)
{
	value($node, 'ALTER SYSTEM SET debug_print_plan = off');
	value($node, 'ALTER SYSTEM SET auto_explain.log_min_duration = ' . ($logger eq 'auto_explain' ? 0 : -1)) if grep { $_ eq 'auto_explain' } @loggers;
	value($node, q{ALTER SYSTEM SET pgaudit.log = } . ($logger eq 'pgaudit' ? "'all'" : "'none'")) if grep { $_ eq 'pgaudit' } @loggers;
	$node->restart;
	my $start = -s $node->logfile;
	value($node, control_statement());
	cmp_ok(scalar(@{ shown_secrets(slurp_file($node->logfile, $start)) }), '>', 0, "$logger alone logs some, too");
}

$node->stop;
done_testing();
