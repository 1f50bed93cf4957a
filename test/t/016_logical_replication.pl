# A logical subscriber that has the extension answers as its publisher does, and neither stops the other: the triggers derive withdrawals on
# both sides, also where a publication for all tables sends them along.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Everything, or just what the answers depend on.
my %publication = (all => 'ALL TABLES WITH (publish_via_partition_root = true)', some => 'TABLE apikey.role, apikey.signing_key, apikey.key');
for my $kind (sort keys %publication)
{
	my $publisher = new_cluster("publisher_$kind", streaming => 'logical');
	# With this isolation level an apply worker that held itself to our rule for retirements would stop at the first one.
	my $subscriber = new_cluster("subscriber_$kind", conf => "default_transaction_isolation = 'repeatable read'\nwal_retrieve_retry_interval = '100ms'\n");

	my %token;
	my $new_key = sub
	{
		my ($name, %arguments) = @_;
		my %issued = issue($publisher, owner => 'acme', name => $name, ttl => '1 hour', %arguments);
		$token{$name} = $issued{token};
		return $issued{key_id};
	};
	my %id = map { ($_ => $new_key->($_)) } qw(before revoked disabled enabled deleted refreshed signed);
	value($publisher, "INSERT INTO apikey.role (name, ttl, permissions, refresh_window) VALUES ('team', '1 day', '{team:*}', '1 day')");
	$id{$_} = $new_key->($_, role => 'team') for qw(renamed narrowed);
	value($publisher, "SELECT * FROM apikey.revoke('$id{before}')");
	value($publisher, "SELECT apikey.disable('$id{enabled}')");
	write_file($subscriber->data_dir . '/apikey_master.key', slurp_file($publisher->data_dir . '/apikey_master.key'), 0600);

	value($publisher, "CREATE PUBLICATION everything FOR $publication{$kind}");
	value($subscriber, "CREATE SUBSCRIPTION everything CONNECTION " . literal($publisher->connstr('postgres')) . " PUBLICATION everything");
	$publisher->wait_for_catchup('everything');
	ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')"), 'the tables are copied');

	if ($kind eq 'all')
	{
		# Both sides count uses of the same key in the same hour.
		my $uses = sub { return "INSERT INTO apikey.usage VALUES ('$id{enabled}', '2026-01-01 00:00:00Z', 'VALID', $_[0]);"
			  . " INSERT INTO apikey.key_usage VALUES ('$id{enabled}', '2026-01-01 00:30:00Z') ON CONFLICT DO NOTHING" };
		value($subscriber, $uses->(1));
		value($publisher, $uses->(2));
		value($publisher, "DELETE FROM apikey.key_usage WHERE key_id = '$id{enabled}'");
		$publisher->wait_for_catchup('everything');
		is(value($subscriber, "SELECT u.count, k.last_used_at IS NOT NULL FROM apikey.usage u JOIN apikey.key_usage k USING (key_id) WHERE u.hour = '2026-01-01 00:00:00Z'"), '1|t',
			'the subscriber keeps its own counts of uses, and replication goes on');
	}

	my $same = sub
	{
		my ($what) = @_;
		$publisher->wait_for_catchup('everything');
		my ($there, $here) = map { my $node = $_; +{ map { ($_ => code($node, $token{$_}, permission => 'chat:read | team:read')) } keys %token } }
		  $publisher, $subscriber;
		is_deeply($here, $there, "$kind: $what: the verdicts are the same");
		return $here if $kind ne 'all';
		my $withdrawals = "SELECT key_id, generation, kind, until FROM apikey.revocation ORDER BY 1, 2, 3";
		is(value($subscriber, $withdrawals), value($publisher, $withdrawals), "$kind: $what: the same withdrawals");
		return $here;
	};
	is_deeply([ @{ $same->('at first') }{qw(before enabled revoked)} ], [qw(REVOKED DISABLED VALID)], 'and those expected');

	value($publisher, "SELECT * FROM apikey.revoke('$id{revoked}')");
	value($publisher, "SELECT apikey.disable('$id{disabled}'); SELECT apikey.enable('$id{enabled}')");
	value($publisher, "DELETE FROM apikey.key WHERE key_id = '$id{deleted}'");
	is_deeply([ @{ $same->('withdrawn') }{qw(revoked disabled enabled deleted)} ], [qw(REVOKED DISABLED VALID NOT_FOUND)], 'and those expected');

	# Two refreshes within the grace: the second one ends the first grace, on both sides.
	my %second = refresh($publisher, $token{refreshed});
	$token{second} = $second{token};
	my %third = refresh($publisher, $token{second});
	$token{third} = $third{token};
	is_deeply([ @{ $same->('refreshed') }{qw(refreshed second third)} ], [qw(SUPERSEDED VALID VALID)], 'and those expected');
	is(value($subscriber, "SELECT effective_at <= clock_timestamp() FROM apikey.revocation WHERE key_id = '$id{refreshed}' AND generation = 1"), 't',
		'the grace that the second refresh ended is over here as well');

	value($publisher, "UPDATE apikey.role SET name = 'crew' WHERE name = 'team'");
	is($same->('a role renamed')->{renamed}, 'VALID', 'and good');
	value($publisher, "UPDATE apikey.role SET permissions = '{other:*}' WHERE name = 'crew'");
	is($same->('a role narrowed')->{narrowed}, 'INSUFFICIENT_PERMISSIONS', 'at once');

	my $kid = value($publisher, "SELECT kid FROM apikey.key WHERE key_id = '$id{signed}'");
	value($publisher, 'SELECT apikey.rotate_signing_key()');
	value($publisher, "SELECT * FROM apikey.retire_signing_key('$kid', true)");
	$id{after} = $new_key->('after');
	is_deeply([ @{ $same->('a signing key retired') }{qw(signed after)} ], [qw(REVOKED VALID)], 'what it signed is revoked, and what comes after still arrives');
	value($publisher, "DELETE FROM apikey.key WHERE role = 'crew'; DELETE FROM apikey.role WHERE name = 'crew'");
	$same->('a role deleted');
	is(value($subscriber, "SELECT count(*) FROM apikey.role WHERE name IN ('team', 'crew')"), '0', 'here as well');

	# Being a replica of one does not make it a worse primary for its own.
	my %own = issue($subscriber, owner => 'own', ttl => '1 hour');
	value($subscriber, "SELECT * FROM apikey.revoke('$own{key_id}')");
	is(value($subscriber, "SELECT kind || ' ' || coalesce(generation::text, '*') FROM apikey.revocation WHERE key_id = '$own{key_id}'"), 'withdrawn *',
		'a key of its own is withdrawn as ever');
	$_->stop for $subscriber, $publisher;
}

done_testing();
