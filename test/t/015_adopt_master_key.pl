# A master key that is lost for good: adopt_master_key() makes the present file this database's, and no key is ever half of one and half of the other.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('adopt');
my $path = $node->data_dir . '/apikey_master.key';
my %jwt = issue($node, ttl => '1 hour');
my %opaque = issue($node, format => 'opaque', ttl => '1 hour');
my $staged = value($node, 'SELECT apikey.stage_signing_key()');
my $lost = slurp_file($path);
my $present = join '', map { chr } 1 .. 32;

sub state_now { return value($node, "SELECT state FROM apikey.status() WHERE component = 'master_key'") }

# A refresh that has proven its token waits for the row, while the file is replaced and adopted: it must not write the new key's hash.
my $keeper = session($node);
value($keeper, "BEGIN; SELECT FROM apikey.key WHERE key_id = '$opaque{key_id}' FOR UPDATE");
my ($output, $errors) = ('', '');
my $waiter = IPC::Run::start(
	[ 'psql', '-X', '-A', '-t', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . " application_name=waiter",
		'-c', 'SELECT token FROM apikey.refresh(' . literal($opaque{token}) . ')' ],
	'>', \$output, '2>', \$errors);
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Lock'"),
	'a refresh waits');
unlink($path) or die $!;
write_file($path, $present, 0600);

is(state_now(), 'mismatch', 'another file is noticed');
is(sqlstate($node, $_), 'PT503', "$_ is refused")
  for ("SELECT apikey.issue('acme')", "SELECT apikey.issue('acme', format => 'opaque')", 'SELECT apikey.rotate_signing_key()', 'SELECT apikey.stage_signing_key()');
my $kid = value($node, 'SELECT apikey.adopt_master_key()');
is(state_now(), 'ok', 'adopted');
is(value($node, "SELECT string_agg(state, ' ' ORDER BY created_at) FROM apikey.signing_key"), 'verify_only pending active', 'a fresh signing key is in use');

value($keeper, 'ROLLBACK');
$keeper->quit;
$waiter->finish;
is($output, '', 'the refresh that had waited gives no token');
like($errors, qr/ERROR:  PT503: UNAVAILABLE/, 'but PT503');
is(value($node, "SELECT generation FROM apikey.key WHERE key_id = '$opaque{key_id}'"), '1', 'and leaves the key as it was');

my %new = map { ($_ => { issue($node, format => $_, ttl => '1 hour') }) } qw(jwt opaque);
is(code($node, $new{$_}{token}), 'VALID', "new $_ keys are good") for qw(jwt opaque);
is(code($node, $_->{token}), 'UNAVAILABLE', 'a key of before is not decided on') for (\%jwt, \%opaque);
isnt(value($node, 'SELECT apikey.rotate_signing_key()'), $staged, 'a staged key that was sealed under the lost one is not put into use');
is(code($node, $new{jwt}{token}), 'VALID', 'and rotation works as ever');

# The lost file turns up again: what was made under it is good, the rest waits.
unlink($path) or die $!;
write_file($path, $lost, 0600);
is(code($node, $_->{token}), 'VALID', 'with the old file back, a key of before is good') for (\%jwt, \%opaque);
is(code($node, $new{$_}{token}), 'UNAVAILABLE', "and the new $_ key not decided on") for qw(jwt opaque);

done_testing();
