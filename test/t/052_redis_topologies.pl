# The link to Redis, where there is more than one server: sentinels that know where the master is, and a cluster.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use FaultProxy;
use RedisLink;
use RedisServer qw(wait_until free_port);
use Test::More;

my $node = new_link_cluster('topologies', conf => "fsync = off\n");
my $session = session($node);
my $connecting = 'SELECT link_reconnect()';

sub send_command { return value($session, 'SELECT link_send(' . literal($_[0]) . ')'); }
sub servers { return map { [ split(/ /) ] } split(/\n/, value($session, 'SELECT link_servers()')); }

#
# Sentinels
#

my $one = RedisServer->start(name => 'one', port => 1, password => 's3cret', masterauth => 's3cret');
my $two = RedisServer->start(name => 'two', port => 1, password => 's3cret', replicaof => $one);
wait_until(sub { $two->info('replication')->{master_link_status} eq 'up' }, 'the replica follows');
my $password_file = PostgreSQL::Test::Utils::tempdir() . '/password';
write_file($password_file, "s3cret\n", 0600);

sub start_sentinel
{
	my ($name, %options) = @_;
	return RedisServer->start(
		name => $name, sentinel => 1, port => 1, %options,
		conf => join("\n",
			'sentinel monitor mymaster 127.0.0.1 ' . $one->port . ' 1', 'sentinel auth-pass mymaster s3cret',
			'sentinel down-after-milliseconds mymaster 60000', 'sentinel failover-timeout mymaster 10000'));
}
my $sentinel = start_sentinel('sentinel');
my $locked = start_sentinel('locked_sentinel', password => 'watch');
my $sentinel_password_file = PostgreSQL::Test::Utils::tempdir() . '/password';
write_file($sentinel_password_file, "watch\n", 0600);
my $url = 'sentinel://127.0.0.1:' . $sentinel->port . '/mymaster';

open_link($session, "$url/3", password_file => $password_file);
is((servers())[0][0], '127.0.0.1:' . $one->port, 'the master that the sentinel knows');
is(send_command('SET from sentinel'), 'OK', 'takes commands');
$one->command('SELECT', 3);
is($one->command('GET', 'from'), 'sentinel', 'in the database of that number');
open_link($session, 'sentinel://127.0.0.1:' . $locked->port . '/mymaster', password_file => $password_file, sentinel_password_file => $sentinel_password_file);
is(send_command('PING'), 'PONG', 'a sentinel that wants a password of its own');
is_refused($session, "SELECT link_open('$url')", qr/^Redis at 127\.0\.0\.1:\d+: it wants a password: NOAUTH/, 'the master wants one');
is_refused($session, "SELECT link_open('${url}x', '$password_file')", qr/this sentinel knows no master "mymasterx"$/, 'a master that it does not know');
is_refused($session, "SELECT link_open('sentinel://127.0.0.1:" . $one->port . "/mymaster', '$password_file')",
	qr/ERR unknown command|NOAUTH|ERR /, 'what is no sentinel');
my $closed = free_port();
is_refused($session, "SELECT link_open('sentinel://127.0.0.1:$closed/mymaster', '$password_file')", qr/^Redis at 127\.0\.0\.1:$closed: Connection refused$/, 'nobody there');

# A sentinel that does not answer is passed over, within the time that a server has.
my $silent = FaultProxy->start(to => $sentinel->socket_path);
$silent->set('blackhole');
my $several = 'sentinel://127.0.0.1:' . $closed . ',' . $silent->address . ',127.0.0.1:' . $sentinel->port . '/mymaster';
open_link($session, $several, password_file => $password_file, connect_timeout => 300, timeout => 300);
is(send_command('PING'), 'PONG', 'of several sentinels, the first that knows');
my $accepted = $silent->status->{accepted};
value($session, $connecting);
is($silent->status->{accepted}, $accepted, 'which is the first to be asked from then on');

# Fail-over. Without it a sentinel that is behind names a replica: it is refused, not written to.
$two->command('REPLICAOF', 'NO', 'ONE');
$one->command('REPLICAOF', '127.0.0.1', $two->port);
is_refused($session, "SELECT link_send('SET a 1')", qr/READONLY|Server closed the connection|Connection reset/, 'the master has become a replica');
my ($refusal) = refusal($session, $connecting);
like($refusal, qr/it is not a master: its role is slave$/, 'what the sentinel still takes for the master is not one');
$two->command('REPLICAOF', '127.0.0.1', $one->port);
$one->command('REPLICAOF', 'NO', 'ONE');
wait_until(sub { $two->info('replication')->{master_link_status} eq 'up' }, 'all is as before');
value($session, $connecting);
wait_until(sub { $sentinel->command('SENTINEL', 'replicas', 'mymaster')->[0] }, 'the sentinel knows the replica');
wait_until(sub { $sentinel->failure('SENTINEL', 'failover', 'mymaster') eq '' }, 'a fail-over begins');
my $master_of = sub { return $sentinel->command('SENTINEL', 'get-master-addr-by-name', 'mymaster')->[1]; };
wait_until(sub { $master_of->() == $two->port }, 'the sentinel has another master');
# The old one is told by the sentinel, too, but takes its time.
$one->command('REPLICAOF', '127.0.0.1', $two->port);
is_refused($session, "SELECT link_send('SET a 1')", qr/READONLY|Server closed the connection|Connection reset|Broken pipe/, 'after a fail-over the connection is of no use');
wait_until(sub { run_sql($session, $connecting); value($session, 'SELECT link_connected()') eq 't' }, 'the link finds the new master');
is((servers())[0][0], '127.0.0.1:' . $two->port, 'the next one is to the new master');
is((servers())[0][1], 'master', 'which says so');
$_->stop for $sentinel, $locked, $one, $two;

#
# A cluster of three masters
#

# Their default port for each other is 10000 higher, which may be too high.
my @bus = map { free_port() } 0 .. 2;
my @nodes = map { RedisServer->start(name => "node_$_", port => 1, cluster_enabled => 'yes', cluster_port => $bus[$_], cluster_node_timeout => 60000) } 0 .. 2;
my @ids = map { $_->command('CLUSTER', 'MYID') } @nodes;
my @ranges = ([ 0, 5460 ], [ 5461, 10922 ], [ 10923, 16383 ]);
is_refused($session, 'SELECT link_open(' . literal('cluster://127.0.0.1:' . $nodes[0]->port) . ')', qr/the Redis cluster has no slots yet$/, 'a cluster without slots');
$nodes[$_]->command('CLUSTER', 'ADDSLOTSRANGE', @{ $ranges[$_] }) for 0 .. 2;
$nodes[$_]->command('CLUSTER', 'SET-CONFIG-EPOCH', $_ + 1) for 0 .. 2;
$nodes[$_]->command('CLUSTER', 'MEET', '127.0.0.1', $nodes[0]->port, $bus[0]) for 1, 2;
wait_until(sub { 3 == grep { $_->command('CLUSTER', 'INFO') =~ /^cluster_state:ok\r?$/m && $_->command('CLUSTER', 'INFO') =~ /^cluster_known_nodes:3\r?$/m } @nodes },
	'the cluster is one');
my %address = map { $_ => '127.0.0.1:' . $nodes[$_]->port } 0 .. 2;
my $cluster = "cluster://127.0.0.1:$closed,$address{1}";

# Buckets of a namespace, and the node of each.
my @tags = map { sprintf('{ak:test:%x}', $_) } 0 .. 15;
sub node_of
{
	my ($key) = @_;
	my $slot = $nodes[0]->command('CLUSTER', 'KEYSLOT', $key);
	my ($number) = grep { $slot >= $ranges[$_][0] && $slot <= $ranges[$_][1] } 0 .. 2;
	return $number;
}
my %owner = map { $_ => node_of($_) } @tags;
is(scalar(keys %{ { map { $_ => 1 } values %owner } }), 3, '(the buckets are on all three nodes)');
my @of = map { my $n = $_; [ grep { $owner{$_} == $n } @tags ] } 0 .. 2;

open_link($session, $cluster);
is(scalar(servers()), 0, 'a cluster: connections are made when they are needed');
is(send_command("SET $of[0][0]:a zero"), 'OK', 'a key');
is_deeply([ map { $_->[0] } servers() ], [ $address{0} ], 'which made one');
is(send_command(join("\n", map { ("SET $_:rev $_", "GET $_:rev") } @tags)), join("\n", map { ('OK', $_) } @tags), 'keys of all masters, replies in order');
is_deeply([ sort map { "$_->[0] $_->[1]" } servers() ], [ sort map { "$address{$_} master" } 0 .. 2 ], 'all masters are known');
for my $tag (@tags)
{
	is($nodes[ $owner{$tag} ]->command('GET', "$tag:rev"), $tag, "$tag is where it belongs");
}
open_link($session, $cluster, routing_keys => "{\"$of[0][0]:rev\",\"$of[2][0]:rev\"}");
is_deeply([ sort map { $_->[0] } servers() ], [ sort @address{ 0, 2 } ], 'connections for keys that are named beforehand');
is(send_command('PING'), 'PONG', 'a command without a key goes to one of them');
my $script = 'return redis.call("INCR", KEYS[1])';
is(link_eval($session, $script, ["$_:n"]), 1, 'a script at ' . $_) for $of[0][0], $of[1][0], $of[2][0];
is(value($session, 'SELECT reloads FROM link_counters()'), '0', 'each node was sent it');

# A slot on its way from one node to another.
my ($from, $to) = (0, 1);
my ($source, $target, $third) = @address{ 0 .. 2 };
my $tag = $of[0][0];
my $slot = $nodes[0]->command('CLUSTER', 'KEYSLOT', $tag);
value($session, $connecting);
$nodes[$to]->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $ids[$from]);
$nodes[$from]->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $ids[$to]);
is(send_command("SET $tag:new here\nGET $tag:rev\nGET $tag:new"), "OK\n$tag\nhere", 'ASK: what is not there is asked for, and written, where the slot goes');
is($nodes[$from]->failure('GET', "$tag:new"), "ASK $slot $address{$to}", 'and there it is');
is(link_eval($session, $script, ["$tag:other"], []), 1, 'ASK: a script');
is(link_eval($session, $script, ["$tag:other"], []), 2, 'ASK: and again');
$nodes[$from]->command('MIGRATE', '127.0.0.1', $nodes[$to]->port, '', 0, 5000, 'KEYS', @{ $nodes[$from]->command('CLUSTER', 'GETKEYSINSLOT', $slot, 100) });
$nodes[$_]->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $ids[$to]) for $to, $from;
is_refused($session, "SELECT link_send('GET $tag:rev')", qr/^Redis at \Q$source\E: the slots of the cluster have moved: MOVED $slot \Q$target\E$/, 'MOVED: the link ends');
wait_until(sub { grep { $_->[0] <= $slot && $_->[1] >= $slot && $_->[2][1] == $nodes[$to]->port } @{ $nodes[1]->command('CLUSTER', 'SLOTS') } }, 'all know it');
value($session, $connecting);
is(send_command("GET $tag:rev\nGET $tag:new"), "$tag\nhere", 'and the next one knows where it is now');

# One node that is lost takes all with it: the mirror is complete, or it is not.
open_link($session, $cluster, routing_keys => '{' . join(',', map { "\"$_\"" } @tags) . '}', connect_timeout => 500, timeout => 500);
$nodes[2]->pause;
is_refused($session, 'SELECT link_send(' . literal(join("\n", map { "GET $_:rev" } @tags)) . ')', qr/^Redis at \Q$third\E: it did not answer within 500 ms$/,
	'a node that is silent', within => 5);
is_refused($session, $connecting, qr/^Redis at \Q$third\E: it did not answer within 500 ms$/, 'the same when connecting', within => 5);
$nodes[2]->resume;
value($session, $connecting);
$nodes[2]->kill9;
is_refused($session, 'SELECT link_send(' . literal(join("\n", map { "GET $_:rev" } @tags)) . ')', qr/^Redis at \Q$third\E: /, 'a node that is lost');
is_refused($session, $connecting, qr/^Redis at \Q$third\E: Connection refused$/, 'the same when connecting');
is_refused($session, 'SELECT link_open(' . literal('cluster://' . $address{2}) . ')', qr/Connection refused$/, 'no seed to be reached');
my $alone = RedisServer->start(name => 'alone', port => 1);
is_refused($session, 'SELECT link_open(' . literal('cluster://127.0.0.1:' . $alone->port) . ')', qr/cluster support disabled/, 'a server that is in no cluster');

# What somebody who answers CLUSTER SLOTS may say.
my $liar = FaultProxy->start(to => $alone->socket_path);
for my $answer ('*1\r\n:1\r\n', '*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n', '*1\r\n*3\r\n:5\r\n:4\r\n*2\r\n$1\r\na\r\n:1\r\n',
	'*1\r\n*3\r\n:-1\r\n:4\r\n*2\r\n$1\r\na\r\n:1\r\n', '*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:0\r\n', '*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\n\n\r\n:1\r\n',
	'*1\r\n*3\r\n:0\r\n:1\r\n*0\r\n', '+OK\r\n', ':1\r\n')
{
	$liar->set("answer $answer");
	is_refused($session, 'SELECT link_open(' . literal('cluster://' . $liar->address) . ')', qr/what it says of its cluster makes no sense$/, "CLUSTER SLOTS: $answer");
}

$session->quit;
done_testing();
