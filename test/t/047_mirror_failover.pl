# Redis fails over, PostgreSQL fails over, somebody restores a backup or starts a copy: Redis ends up complete, there is one writer, and
# whoever is not it says so and writes nothing.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use FaultProxy;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;
use Time::HiRes qw(time);

my $fast = "fsync = off\n";

sub revoke
{
	my ($where, @ids) = @_;
	my $list = join(',', map { literal($_) } @ids);
	return value($where, "SELECT max(receipt) FROM (SELECT (apikey.revoke(k)).receipt FROM unnest(ARRAY[$list]) k) r");
}

sub is_mirrored
{
	my ($where, $receipt, $timeout) = @_;
	return value($where, "SELECT apikey.wait_mirrored('$receipt', '" . ($timeout // '1 minute') . "')");
}

sub count_in { my ($mirror) = @_; return scalar(keys %{ $mirror->members }); }

# One field of meta, of all buckets: the values that there are, each once.
sub metas
{
	my ($mirror, $field) = @_;
	my %values = map { $_->{$field} // 'none' => 1 } $mirror->metas;
	return sort keys %values;
}

# The ids that the streams of all buckets name.
sub announced
{
	my ($mirror) = @_;
	return map { my %event = @{ $_->[1] }; ($event{key_id} => 1) } map { @{ $mirror->{redis}->command('XRANGE', $_, '-', '+') } } $mirror->names('ev');
}

#
# 1. Sentinel makes a master of a replica that lags
#
{
	my $master = RedisServer->start(name => 'master', port => 1);
	my $replica = RedisServer->start(name => 'replica', port => 1, replicaof => $master);
	wait_until(sub { $replica->info('replication')->{master_link_status} eq 'up' }, 'the replica follows');
	my $sentinel = RedisServer->start(
		name => 'sentinel', sentinel => 1, port => 1,
		conf => join("\n",
			'sentinel monitor mymaster 127.0.0.1 ' . $master->port . ' 1', 'sentinel down-after-milliseconds mymaster 1000',
			'sentinel failover-timeout mymaster 20000'));
	my $node = new_cluster('sentinel', conf => "${fast}apikey.redis_url = 'sentinel://127.0.0.1:" . $sentinel->port . "/mymaster'\n");
	my ($at_master, $mirror) = map { MirrorTest->new($node, $_, lasting => 0) } $master, $replica;
	$mirror->becomes('ready', 'sentinel: the mirror is ready');
	my @keys = $mirror->make_keys('sentinel', 600);
	is(is_mirrored($node, revoke($node, splice(@keys, 0, 200))), 't', 'sentinel: what was revoked is with the master');
	wait_until(sub { @{ $sentinel->command('SENTINEL', 'replicas', 'mymaster') } == 1 && { @{ $sentinel->command('SENTINEL', 'replicas', 'mymaster')->[0] } }->{'master-link-status'} eq 'ok' },
		'the sentinel knows the replica');
	wait_until(sub { count_in($mirror) == 200 }, 'and with the replica');

	# From now on the replica hears of everything two seconds later. The sentinel would undo that, but not as soon.
	my $line = FaultProxy->start(to => '127.0.0.1:' . $master->port);
	$replica->command('REPLICAOF', '127.0.0.1', $line->port);
	wait_until(sub { $replica->info('replication')->{master_link_status} eq 'up' }, 'the replica follows another way');
	$line->set('latency 2000');
	my @lost = splice(@keys, 0, 200);
	is(is_mirrored($node, revoke($node, @lost)), 't', 'sentinel: more is revoked, and the master has it');
	my $had = count_in($at_master);
	$line->set('reset');
	$master->kill9;
	my $lost = $had - count_in($mirror);
	cmp_ok($lost, '>=', 100, 'sentinel: the replica lacks what the master had acknowledged');

	# While nobody is master: still a revocation is one.
	revoke($node, splice(@keys, 0, 50));
	# Who is promoted by a sentinel ends all connections.
	wait_until(sub { (eval { $replica->info('replication')->{role} } // $replica->_disconnect) eq 'master' }, 'the replica is promoted');
	my $promoted = time;
	my $run_id = $replica->info('server')->{run_id};

	# What nodes are told meanwhile of a key whose revocation is lost: with the run id of the server, as the contract says.
	my %verdicts;
	my $answers = sub
	{
		$verdicts{ $mirror->check($lost[-1], 1, 5000, $run_id) }++;
		return $mirror->state eq 'ready' && count_in($mirror) == 450;
	};
	wait_until($answers, 'all is there');
	my $took = time - $promoted;
	$mirror->is_complete('sentinel: after the fail-over');
	cmp_ok($took, '<=', 10, 'sentinel: within 10 s of the promotion');
	is_deeply([ grep { /^ok/ } keys %verdicts ], [], 'sentinel: no node was told that a key is good whose revocation was lost');
	is($mirror->check($lost[-1], 1, 5000, $run_id), 'revoked key', 'sentinel: it is revoked');
	like($mirror->status->{server}, qr/:@{[ $replica->port ]}$/, 'sentinel: status() names the new master');
	note("sentinel_lost_by_the_replica: $lost");
	note(sprintf('sentinel_seconds_from_promotion_to_complete: %.2f', $took));
	note("sentinel_verdicts_meanwhile: " . join(', ', map { "$_ x $verdicts{$_}" } sort keys %verdicts));

	# The old master comes back with what it had, and becomes a replica: the mirror must not go there.
	$master->restart;
	wait_until(sub { eval { ($master->info('replication')->{master_link_status} // '') eq 'up' } || $master->_disconnect }, 'the old master is a replica');
	is(is_mirrored($node, revoke($node, splice(@keys, 0, 50))), 't', 'sentinel: the old master is back, as a replica');
	$mirror->is_complete('sentinel: with the old master back');
	$node->stop;
	$_->stop for $sentinel, $replica, $master;
}

#
# 2, 5 and 7. A standby is promoted while the old primary lives; and the old primary, as a restored older timeline, takes the mirror
#
{
	my $redis = RedisServer->start(name => 'promotion');
	my $primary = new_cluster('primary', streaming => 1, conf => "${fast}apikey.redis_url = 'unix://" . $redis->socket_path . "'\n");
	my $of_primary = MirrorTest->new($primary, $redis, lasting => 0);
	my $namespace = $of_primary->{namespace};
	$of_primary->becomes('ready', 'promotion: the primary has the mirror');
	my @keys = $of_primary->make_keys('promotion', 100);
	my $standby = new_standby('standby', $primary);
	my $of_standby = MirrorTest->new($standby, $redis, lasting => 0);
	my $receipt = revoke($primary, splice(@keys, 0, 10));
	is(is_mirrored($primary, $receipt), 't', 'promotion: the primary mirrors');
	$primary->wait_for_catchup($standby);

	is($of_standby->state, 'standby', 'hot standby: status() says so');
	is($of_standby->pid, '', 'hot standby: there is no mirror worker');
	is(sqlstate($standby, "SELECT apikey.wait_mirrored('$receipt')"), '55000', 'hot standby: wait_mirrored() says that it does not know');
	is(sqlstate($standby, "SELECT apikey.mirror_takeover()"), '55000', 'hot standby: it takes nothing over');
	is($redis->info('clients')->{connected_clients}, 2, 'hot standby: Redis has one client beside this test');

	my ($old_generation) = metas($of_primary, 'gen');
	my $offset = -s $primary->logfile;
	$standby->promote;
	$of_standby->becomes('ready', 'promotion: the new primary has the mirror');
	isnt($of_standby->pid, '', 'promotion: its worker has started');
	$of_primary->becomes('fenced', 'promotion: the old one is fenced');
	my $rejected_from = time;
	like($of_primary->status->{problem}, qr/a (?:server on a later timeline|newer writer) has the mirror/, 'promotion: and status() says why');
	ok(eval { $primary->wait_for_log(qr/apikey's mirror is not in order: a (?:server on a later timeline|newer writer) has the mirror/, $offset) },
		'promotion: and so does the log');
	my ($new_generation) = metas($of_primary, 'gen');
	cmp_ok($new_generation, 'gt', $old_generation, 'promotion: the generation has risen');

	# Whatever the old primary does now, Redis does not hear of it.
	my @old = splice(@keys, 0, 10);
	my @new = splice(@keys, 0, 10);
	my ($jwks, $roles) = ($redis->command('GET', "{ak:$namespace:jwks}"), { @{ $redis->command('HGETALL', "{ak:$namespace:roles}") } });
	my $late = revoke($primary, @old);
	value($primary, "INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES ('from_the_old', '30 days', '1 day', '{a:b}')");
	value($primary, 'SELECT apikey.rotate_signing_key()');
	is(is_mirrored($primary, $late, '3 seconds'), 'f', 'promotion: wait_mirrored() on the old primary is false');
	is(is_mirrored($standby, revoke($standby, @new)), 't', 'promotion: on the new one it is true');
	# The old one tries again, in vain, more than once.
	my $connects = $of_primary->status->{connects};
	wait_until(sub { $of_primary->status->{connects} > $connects }, 'the old primary looks again');
	for (1 .. 3)
	{
		$connects = $of_primary->status->{connects};
		value($primary, 'SELECT apikey.mirror_resync()');
		wait_until(sub { $of_primary->status->{connects} > $connects }, 'and when it is told to');
	}
	$of_primary->becomes('fenced', 'promotion: the old one stays fenced');
	like($of_primary->status->{problem}, qr/later timeline.*no longer the primary, or was restored.*mirror_takeover/, 'promotion: and status() says what can be done');
	$of_standby->is_complete('promotion');
	my %there = %{ $of_primary->members };
	my %told = announced($of_primary);
	is(scalar(grep { $there{$_} || $told{$_} } @old), 0, 'promotion: nothing that the old primary revoked since is there');
	is(scalar(grep { $there{$_} } @new), 10, 'promotion: what the new one revoked is');
	is_deeply([ metas($of_primary, 'gen') ], [$new_generation], 'promotion: no bucket has had another writer since');
	is($redis->command('GET', "{ak:$namespace:jwks}"), $jwks, 'promotion: nor has the key set');
	is_deeply({ @{ $redis->command('HGETALL', "{ak:$namespace:roles}") } }, $roles, 'promotion: nor have the roles');
	note('writes_of_the_old_generation_accepted: ' . grep { $there{$_} || $told{$_} } @old);
	note(sprintf('seconds_of_trying: %.1f', time - $rejected_from));

	# What the fenced one is told by a Redis that has lost everything is not an invitation that lasts.
	$redis->command('FLUSHALL');
	is(is_mirrored($standby, revoke($standby, splice(@keys, 0, 5))), 't', 'promotion: after FLUSHALL');
	$of_standby->is_complete('promotion: after FLUSHALL');
	$of_primary->becomes('fenced', 'promotion: the old one is still fenced');

	# An administrator wants the older timeline, as after a restore.
	$primary->restart;
	$of_primary->becomes('fenced', 'older timeline: fenced after a restart');
	value($primary, 'SELECT apikey.mirror_takeover()');
	$of_primary->becomes('ready', 'older timeline: mirror_takeover() takes the mirror');
	wait_until(sub { $of_standby->state =~ /^(?:fenced|foreign)$/ || $of_primary->state ne 'ready' }, 'the other one notices');
	my $other = $of_standby->status;
	like($other->{state}, qr/^(?:fenced|foreign)$/, "older timeline: the other server is $other->{state}");
	like($other->{problem} // '', qr/mirror_takeover/, 'older timeline: and says what can be done');
	my @theirs = splice(@keys, 0, 5);
	my @ours = splice(@keys, 0, 5);
	my $theirs = revoke($standby, @theirs);
	is(is_mirrored($primary, revoke($primary, @ours)), 't', 'older timeline: what it revokes is mirrored');
	is(is_mirrored($standby, $theirs, '3 seconds'), 'f', 'older timeline: what the other one revokes is not');
	$connects = $of_standby->status->{connects};
	wait_until(sub { $of_standby->status->{connects} > $connects || $of_standby->state eq 'ready' }, 'the other one looks again');
	is($of_primary->state, 'ready', 'older timeline: it keeps the mirror');
	%there = %{ $of_primary->members };
	is(scalar(grep { $there{$_} } @theirs), 0, 'older timeline: the other one has written nothing');
	is(scalar(grep { $there{$_} } @old, @ours), 15, 'older timeline: everything of ours is there');

	# Not for as long as nothing happens, but for good.
	$primary->restart;
	$of_primary->becomes('ready', 'older timeline: after a restart it still has the mirror');
	$redis->command('FLUSHALL');
	is(is_mirrored($primary, revoke($primary, splice(@keys, 0, 5))), 't', 'older timeline: and after FLUSHALL');
	$standby->restart;
	wait_until(sub { $of_standby->state =~ /^(?:fenced|foreign|ready)$/ }, 'the other one makes up its mind');
	like($of_standby->state, qr/^(?:fenced|foreign)$/, 'older timeline: the other one gets nowhere by a restart either');
	is($of_primary->state, 'ready', 'older timeline: which leaves the mirror ready');

	# And back.
	value($standby, 'SELECT apikey.mirror_takeover()');
	$of_standby->becomes('ready', 'older timeline: the other one is told to take it back');
	wait_until(sub { $of_primary->state =~ /^(?:fenced|foreign)$/ }, 'the first one notices');
	is(is_mirrored($standby, $theirs), 't', 'older timeline: and what it had revoked is mirrored');
	%there = %{ $of_primary->members };
	is(scalar(grep { $there{$_} } @theirs, @new), 15, 'older timeline: is there');
	$_->stop for $primary, $standby;
}

#
# 4. A copy of the data directory
#
{
	my $redis = RedisServer->start(name => 'clone');
	my $original = new_cluster('original', conf => "${fast}apikey.redis_url = 'unix://" . $redis->socket_path . "'\n");
	my $of_original = MirrorTest->new($original, $redis, lasting => 0);
	$of_original->becomes('ready', 'clone: the original has the mirror');
	my @keys = $of_original->make_keys('clone', 100);
	is(is_mirrored($original, revoke($original, splice(@keys, 0, 10))), 't', 'clone: and mirrors');
	$original->stop('fast');
	$original->backup_fs_cold('copy');
	$original->start;
	$of_original->becomes('ready', 'clone: the original has it again');
	my @since = splice(@keys, 0, 10);
	is(is_mirrored($original, revoke($original, @since)), 't', 'clone: and goes on');

	my $clone = PostgreSQL::Test::Cluster->new('clone');
	$clone->init_from_backup($original, 'copy', standby => 0);
	chmod(0600, $clone->data_dir . '/apikey_master.key');
	my $offset = -s $clone->logfile // 0;
	$clone->start;
	my $of_clone = MirrorTest->new($clone, $redis, lasting => 0);
	$of_clone->becomes('foreign', 'clone: is not ready');
	my $now = $of_clone->status;
	like($now->{problem}, qr/another server or installation.*apikey\.redis_namespace.*mirror_takeover/, 'clone: status() says why, and what to do');
	ok(eval { $clone->wait_for_log(qr/apikey's mirror is not in order: the mirror was filled by another server/, $offset) }, 'clone: the log as well');
	my @of_clone = splice(@keys, 0, 10);
	my $unheard = revoke($clone, @of_clone);
	is(is_mirrored($clone, $unheard, '3 seconds'), 'f', 'clone: what is revoked there is not mirrored');
	is($of_original->state, 'ready', 'clone: the original is not disturbed');
	$of_original->is_complete('clone: the original');

	# Who is the first to see that Redis is empty has not won anything.
	my $worker = $of_original->pid;
	kill('STOP', $worker) or die "could not stop $worker: $!";
	$redis->command('FLUSHALL');
	for (1 .. 3)
	{
		my $connects = $of_clone->status->{connects};
		value($clone, 'SELECT apikey.mirror_resync()');
		wait_until(sub { $of_clone->status->{connects} > $connects || $of_clone->state eq 'ready' }, 'the clone looks again');
	}
	wait_until(sub { $now = $of_clone->status; ($now->{problem} // "") =~ /^Redis is empty/ || $now->{state} eq 'ready' }, 'the clone sees that Redis is empty');
	is($now->{state}, 'foreign', 'clone: an empty Redis is left to the original, which is slow to notice');
	kill('CONT', $worker) or die "could not continue $worker: $!";
	$of_original->is_complete('clone: after FLUSHALL, the original');
	$of_clone->becomes('foreign', 'clone: and is still not ready');

	value($clone, 'SELECT apikey.mirror_takeover()');
	$of_clone->becomes('ready', 'clone: mirror_takeover()');
	is(is_mirrored($clone, $unheard), 't', 'clone: now what was revoked there is mirrored');
	wait_until(sub { $of_original->state =~ /^(?:fenced|foreign)$/ }, 'the original notices');
	$now = $of_original->status;
	like($now->{problem}, qr/mirror_takeover/, "clone: the original is $now->{state}, and says what can be done");
	my $unheard_too = revoke($original, splice(@keys, 0, 5));
	is(is_mirrored($original, $unheard_too, '3 seconds'), 'f', 'clone: what is revoked at the original is not mirrored any more');
	$of_clone->is_complete('clone: the clone');

	value($original, 'SELECT apikey.mirror_takeover()');
	$of_original->becomes('ready', 'clone: and back');
	is(is_mirrored($original, $unheard_too), 't', 'clone: what was revoked at the original is mirrored');
	wait_until(sub { $of_clone->state =~ /^(?:fenced|foreign)$/ }, 'the clone notices');
	$of_original->is_complete('clone: the original again');
	my %there = %{ $of_original->members };
	is(scalar(grep { $there{$_} } @since), 10, 'clone: with what had been revoked there since');

	# Another namespace, and both are content.
	value($clone, "ALTER SYSTEM SET apikey.redis_namespace = 'the_clone'");
	value($clone, 'SELECT pg_reload_conf()');
	$of_clone->becomes('ready', 'clone: with a namespace of its own');
	MirrorTest->new($clone, $redis, namespace => 'the_clone', lasting => 0)->is_complete('clone: with a namespace of its own');
	$of_original->is_complete('clone: the original beside it');
	$_->stop for $clone, $original;

	# A copy that was made while the original ran, and whose original goes on: it knows the epoch that is in force.
	check_live_copy($redis, $of_original);
	$redis->stop;
}

sub check_live_copy
{
	my ($redis, $of_original) = @_;
	my $original = $of_original->{node};
	$original->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4\n");
	$original->set_replication_conf;
	$original->start;
	$of_original->becomes('ready', 'live copy: the original has the mirror');
	$original->backup('live');
	my @keys = $of_original->make_keys('live', 20);
	my $copy = PostgreSQL::Test::Cluster->new('live_copy');
	$copy->init_from_backup($original, 'live', standby => 0);
	chmod(0600, $copy->data_dir . '/apikey_master.key');
	my %issued = (before => { issue($original, name => 'live copy') });
	is(is_mirrored($original, revoke($original, @keys)), 't', 'live copy: the original mirrors');
	$copy->start;
	my $of_copy = MirrorTest->new($copy, $redis, lasting => 0);
	wait_until(sub { $of_copy->state =~ /^(?:fenced|foreign|ready)$/ }, 'the copy makes up its mind');
	is($of_copy->state, 'foreign', 'live copy: it does not take the mirror from a server that is alive');
	is(is_mirrored($original, revoke($original, $issued{before}{key_id})), 't', 'live copy: the original goes on');
	is($of_original->state, 'ready', 'live copy: and is ready');
	$of_original->is_complete('live copy');
	$_->stop for $copy, $original;
	return;
}

#
# 3. A cluster of three masters
#
{
	my @servers = map { RedisServer->start(name => "cluster_$_", port => 1, cluster_enabled => 'yes', cluster_node_timeout => 1500) } 0 .. 2;
	my @ranges = ([ 0, 5460 ], [ 5461, 10922 ], [ 10923, 16383 ]);
	$servers[$_]->command('CLUSTER', 'ADDSLOTSRANGE', @{ $ranges[$_] }) for 0 .. 2;
	$servers[$_]->command('CLUSTER', 'SET-CONFIG-EPOCH', $_ + 1) for 0 .. 2;
	$servers[$_]->command('CLUSTER', 'MEET', '127.0.0.1', $servers[0]->port) for 1, 2;
	my $is_up = sub { return 3 == grep { $_->command('CLUSTER', 'INFO') =~ /^cluster_state:ok\r?$/m } @servers; };
	wait_until($is_up, 'the cluster is one');
	my $node = new_cluster('cluster',
		conf => "${fast}apikey.redis_url = 'cluster://" . join(',', map { '127.0.0.1:' . $_->port } @servers) . "'\n");
	my $mirror = MirrorTest->new($node, \@servers, lasting => 0);
	$mirror->becomes('ready', 'cluster: the mirror is ready');
	my @keys = $mirror->make_keys('cluster', 1000);
	is(is_mirrored($node, revoke($node, splice(@keys, 0, 400))), 't', 'cluster: 400 are revoked');
	$mirror->is_complete('cluster');
	my @sizes = map { my $rev = $_; my ($size) = grep { !ref } map { $_->pipeline([ 'ZCARD', $rev ]) } @servers; $size } $mirror->names('rev');
	is(scalar(grep { $_ > 0 } @sizes), 16, 'cluster: there is something in each bucket');
	my @holders = map { my $server = $_; scalar(grep { !ref } $server->pipeline(map { [ 'EXISTS', $_ ] } $mirror->names('meta'))) } @servers;
	is(scalar(grep { $_ > 0 } @holders), 3, 'cluster: each server has some of them');
	note("cluster_buckets_on_each_server: @holders");

	# A node fails, with all its data.
	$servers[1]->kill9;
	wait_until(sub { $mirror->state ne 'ready' }, 'it is noticed');
	my $problem;
	wait_until(sub { $problem = $mirror->status->{problem} }, 'and told');
	like($problem, qr/cluster is down|refused|lost|closed|reset/i, "cluster: a node is gone, and status() says so: $problem");
	my $receipt = revoke($node, splice(@keys, 0, 300));
	is(is_mirrored($node, $receipt, '2 seconds'), 'f', 'cluster: what is revoked meanwhile is not mirrored');
	$servers[1]->restart;
	wait_until($is_up, 'the cluster is up again');
	my $since = time;
	is(is_mirrored($node, $receipt), 't', 'cluster: the node is back, empty, and all that was revoked is mirrored');
	note(sprintf('cluster_seconds_from_return_to_mirrored: %.2f', time - $since));
	$mirror->becomes('ready', 'cluster: ready');
	$mirror->is_complete('cluster: afterwards');

	# A master is replaced by its replica, which has what it had.
	my $replica = RedisServer->start(name => 'cluster_replica', port => 1, cluster_enabled => 'yes', cluster_node_timeout => 1500);
	$replica->command('CLUSTER', 'MEET', '127.0.0.1', $servers[0]->port);
	my $master_id = $servers[2]->command('CLUSTER', 'MYID');
	wait_until(sub { $replica->failure('CLUSTER', 'REPLICATE', $master_id) eq '' }, 'a replica');
	wait_until(sub { ($replica->info('replication')->{master_link_status} // '') eq 'up' }, 'which follows');
	wait_until(sub { 3 == grep { $_->command('CLUSTER', 'NODES') =~ /^\S+ 127\.0\.0\.1:@{[ $replica->port ]}\@\S+ slave $master_id/m } @servers }, 'and everybody knows it');
	$servers[2]->kill9;
	$receipt = revoke($node, splice(@keys, 0, 300));
	wait_until(sub { $replica->info('replication')->{role} eq 'master' }, 'it takes over');
	is(is_mirrored($node, $receipt), 't', 'cluster: a replica takes over, and all that was revoked is mirrored');
	$mirror->becomes('ready', 'cluster: ready');
	$mirror->{redis} = [ @servers[ 0, 1 ], $replica ];
	$mirror->is_complete('cluster: with the replica');
	$node->stop;
	$_->stop for grep { defined $_->pid } @servers, $replica;
}

#
# 6. Logical replication of all tables, with a mirror on both sides
#
{
	my $redis = RedisServer->start(name => 'logical');
	my $url = 'unix://' . $redis->socket_path;
	my $publisher = new_cluster('publisher', streaming => 'logical', conf => "${fast}apikey.redis_url = '$url'\n");
	# One whose Redis is not there keeps what is in its outbox.
	my $subscriber = new_cluster('subscriber', conf => "${fast}wal_retrieve_retry_interval = '100ms'\napikey.redis_url = 'unix://${\$redis->socket_path}.none'\n");
	my ($of_publisher, $of_subscriber) = map { MirrorTest->new($_, $redis, lasting => 0) } $publisher, $subscriber;
	isnt($of_publisher->{namespace}, $of_subscriber->{namespace}, 'logical: each has its namespace');
	my @keys = $of_publisher->make_keys('logical', 200);
	write_file($subscriber->data_dir . '/apikey_master.key', slurp_file($publisher->data_dir . '/apikey_master.key'), 0600);
	value($publisher, 'CREATE PUBLICATION everything FOR ALL TABLES');
	value($subscriber, 'CREATE SUBSCRIPTION everything CONNECTION ' . literal($publisher->connstr('postgres')) . ' PUBLICATION everything');
	$publisher->wait_for_catchup('everything');
	ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')"), 'logical: the tables are copied');
	$of_publisher->becomes('ready', 'logical: the publisher has its mirror');
	$of_subscriber->becomes('connecting', 'logical: the subscriber cannot reach its Redis');

	my %before = map { $_ => 1 } split(/\n/, value($subscriber, 'SELECT id FROM apikey.outbox'));
	my @first = splice(@keys, 0, 50);
	is(is_mirrored($publisher, revoke($publisher, @first)), 't', 'logical: the publisher mirrors');
	wait_until(sub { value($publisher, 'SELECT count(*) FROM apikey.outbox') eq '0' }, 'its outbox is emptied');
	$publisher->wait_for_catchup('everything');
	my $list = join(',', map { "'$_'" } @first);
	my @rows = rows($subscriber, "SELECT key_id, count(*) AS rows FROM apikey.outbox WHERE key_id IN ($list) GROUP BY 1");
	is(scalar(@rows), 50, 'logical: the subscriber has a row of its own for each, which the deletions of the publisher do not reach');
	is(scalar(grep { $_->{rows} != 1 } @rows), 0, 'logical: one each: the rows of the publisher have not come as well');
	is(value($subscriber, "SELECT count(*) FROM apikey.mirror_epoch"), '0', 'logical: nor have its epochs');
	my $disabled = shift @keys;
	value($publisher, "SELECT apikey.disable('$disabled')");
	value($publisher, "SELECT apikey.enable('$disabled')");
	$of_subscriber->set_url($url);
	$of_subscriber->becomes('ready', 'logical: the subscriber has its Redis');
	$of_publisher->is_complete('logical: the publisher');
	$of_subscriber->is_complete('logical: the subscriber');
	wait_until(sub { value($subscriber, 'SELECT count(*) FROM apikey.outbox') eq '0' }, 'its outbox is emptied');

	# Both at work: rows with the same numbers on both sides.
	my $resyncs = $of_subscriber->resyncs;
	my @own = map { my %key = issue($subscriber, owner => 'own', name => "own $_"); $key{key_id} } 1 .. 10;
	for my $round (0 .. 9)
	{
		revoke($publisher, splice(@keys, 0, 10));
		revoke($subscriber, $own[$round]);
	}
	$publisher->wait_for_catchup('everything');
	$of_publisher->is_complete('logical, both at work: the publisher');
	$of_subscriber->is_complete('logical, both at work: the subscriber');
	is(count_in($of_subscriber), 160, 'logical: 150 of the publisher, 10 of its own');
	is($of_subscriber->resyncs, $resyncs, 'logical: without sending everything anew');
	is(value($_, 'SELECT count(*) FROM apikey.outbox'), '0', 'logical: nothing is left in the outbox') for $publisher, $subscriber;
	# Since version 18 PostgreSQL logs a row that the subscriber's own triggers have deleted first.
	unlike(slurp_file($subscriber->logfile), qr/duplicate key|conflict=(?!delete_missing)|ERROR/, 'logical: nothing collided');
	note('logical_members: ' . join(' ', map { count_in($_) } $of_publisher, $of_subscriber));
	$_->stop for $subscriber, $publisher;
}

done_testing();
