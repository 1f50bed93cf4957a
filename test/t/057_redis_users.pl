# The users of docs/redis-contract.md at work: the worker loads what nodes call, nodes need no right to load or to write anything but
# counters, what somebody with more rights has changed is noticed and put right, and nothing that is written as a count raises a limit.

use strict;
use warnings FATAL => 'all';

use Digest::SHA ();
use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use MirrorTest;
use PostgreSQL::Test::Utils;
use RedisServer qw(wait_until);
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $contract = slurp_file("$top/docs/redis-contract.md");
my %rule = $contract =~ /^ *ACL SETUSER (\S+) (.*)$/mg;
is(join(' ', sort keys %rule), 'apikey-counter apikey-mirror apikey-reader', 'the users of the contract');
my %sha = map { $_ => Digest::SHA::sha1_hex(slurp_file("$top/src/lua/$_.lua")) } qw(ak_check ak_rate ak_merge ak_mark);
for my $name (qw(ak_check ak_rate ak_merge))
{
	like($contract, qr/^\| `$name` \| `$sha{$name}` \|$/m, "the contract has the SHA-1 of $name");
}
my $example = slurp_file("$top/docs/examples/node/lib/scripts.mjs");
is_deeply([ sort $example =~ /'([0-9a-f]{40})'/g ], [ sort @sha{qw(ak_check ak_rate)} ], 'the example in Node.js, too');

my $version = RedisServer->start(name => 'version')->info('server')->{redis_version};
my @acl = map { "user $_ " . ($rule{$_} =~ s/>PASSWORD/>secret/r) } sort keys %rule;
s/ \+evalsha_ro\b// for $version =~ /^6\./ ? @acl : ();
my $redis = RedisServer->start(name => 'users', acl => \@acl);
my $password_file = PostgreSQL::Test::Utils::tempdir() . '/password';
write_file($password_file, "secret\n", 0600);
my $node = new_cluster('redis_users', conf => <<"CONF");
fsync = off
apikey.rate_sync_interval = 50ms
apikey.redis_url = 'unix://apikey-mirror\@@{[ $redis->socket_path ]}'
apikey.redis_password_file = '$password_file'
CONF
my $mirror = MirrorTest->new($node, $redis);
$mirror->await_ready;
my %withdrawn = issue($node);
my %live = issue($node);
value($node, "SELECT apikey.revoke('$withdrawn{key_id}')");
$mirror->settle;

#
# Nodes call what the worker has loaded
#

sub connections { return map { $_ => $redis->connect(user => $_, password => 'secret') } qw(apikey-reader apikey-counter); }
my %as = connections();
sub asked
{
	my ($name, @command) = @_;
	my ($reply) = $as{$name}->pipeline(\@command);
	return ref $reply eq 'RedisServer::Error' ? "$reply" : $reply;
}
my $evalsha = $version =~ /^6\./ ? 'EVALSHA' : 'EVALSHA_RO';
sub verdict_of
{
	my ($key_id) = @_;
	my $reply = asked('apikey-reader', $evalsha, $sha{ak_check}, 2, $mirror->name($key_id, 'rev'), $mirror->name($key_id, 'meta'), $key_id, 1, 60_000);
	return ref $reply ? $reply->[0] : $reply;
}
my $width = 10**15;
my @windows = map { $mirror->name($live{key_id}, "rate:$live{key_id}:default.$width:$_") } 0, -1;
my $field = 'node:00000000000000a1';
sub counted { return asked('apikey-counter', 'EVALSHA', $sha{ak_rate}, 2, @windows, $field, 1, 1, 10, $width, 0); }
sub merged { return asked('apikey-counter', 'EVALSHA', $sha{ak_merge}, 2, @windows, $field, 1, 0, $width); }

sub nodes_work
{
	my ($what) = @_;
	is(verdict_of($withdrawn{key_id}), 'revoked', "$what: a node sees what is withdrawn");
	is(verdict_of($live{key_id}), 'ok', "$what: and what is not");
	my $reply = counted();
	is(ref $reply ? $reply->[0] : $reply, 1, "$what: a node counts");
	is_deeply(merged(), [ 0, 0, 0 ], "$what: or exchanges counts");
	return;
}
nodes_work('at first');
my $has_scripts = sub { return join('', @{ $redis->command('SCRIPT', 'EXISTS', @sha{qw(ak_check ak_rate ak_merge)}) }) eq '111'; };
$redis->command('SCRIPT', 'FLUSH');
like(verdict_of($live{key_id}), qr/^NOSCRIPT/, 'scripts that are forgotten');
wait_until($has_scripts, 'the worker loads them again');
nodes_work('after SCRIPT FLUSH');
cmp_ok(metric($node, 'apikey_mirror_script_reloads_total'), '>', 0, 'which is counted');
$redis->kill9;
$redis->restart;
%as = connections();
$mirror->await_ready;
ok($has_scripts->(), 'the worker loads them when it connects');
nodes_work('after a restart');

for my $name (sort keys %as)
{
	for my $command (
		[ 'EVAL', 'return 1', 0 ], [ 'SCRIPT', 'LOAD', 'return 1' ], [ 'SCRIPT', 'FLUSH' ], [ 'HSET', $mirror->name_in('roles'), 'basic', '{}' ],
		[ 'SET', $mirror->name_in('jwks'), '{}' ], [ 'HSET', $mirror->name_in('0', 'meta'), 'ready', 1 ], [ 'ZREM', $mirror->name_in('0', 'rev'), 'x' ])
	{
		like(asked($name, @$command), qr/NOPERM/, "$name may not: @$command[0, 1]");
	}
}
# In a script neither, which each version of Redis says in other words. The worker's are there, but not in these hands.
my $refused = qr/NOPERM|no permissions|can't (?:run this command|access at least one of the keys)/i;
like(asked('apikey-reader', 'EVALSHA', $sha{ak_rate}, 2, @windows, $field, 2, 1, 10, $width, 0), $refused, 'apikey-reader may not count');
like(asked('apikey-counter', 'EVALSHA', $sha{ak_check}, 2, $mirror->name($live{key_id}, 'rev'), $mirror->name($live{key_id}, 'meta'), $live{key_id}, 1, 60_000),
	$refused, 'apikey-counter may not look at withdrawals');
wait_until(sub { $redis->command('SCRIPT', 'EXISTS', $sha{ak_mark})->[0] }, 'the script of the heartbeat is there');
like(asked('apikey-counter', 'EVALSHA', $sha{ak_mark}, 2, $mirror->name_in('0', 'rev'), $mirror->name_in('0', 'meta'), 'e', 'f' x 24, '', '1'),
	$refused, 'apikey-counter may not vouch for a bucket');

#
# What somebody with more rights has changed
#

my ($jwks, $roles) = map { $mirror->name_in($_) } qw(jwks roles);
my $published = sub {
	return join("\n", map { $redis->command('GET', $_) // '' } $jwks, "$jwks:gen", "$roles:gen") . "\n"
	  . join("\n", do { my %roles = @{ $redis->command('HGETALL', $roles) }; map { "$_ $roles{$_}" } sort keys %roles });
};
my $right = $published->();
like($right, qr/"keys".*\nbasic \{/s, '(key set and roles are there)');
my $log = -s $node->logfile;
my $resyncs = $mirror->resyncs;
for my $change (
	[ 'a key set of his own', [ 'SET', $jwks, '{"keys":[]}' ] ], [ 'no key set', [ 'DEL', $jwks ] ], [ 'an older writer of the key set', [ 'SET', "$jwks:gen", '0' x 24 ] ],
	[ 'a role with more permissions', [ 'HSET', $roles, 'basic', '{"permissions": ["*"], "rate": null, "refresh_window_ms": null}' ] ],
	[ 'one role more', [ 'HSET', $roles, 'root', '{"permissions": ["*"], "rate": null, "refresh_window_ms": null}' ] ], [ 'one role less', [ 'HDEL', $roles, 'basic' ] ],
	[ 'no roles', [ 'DEL', $roles ] ], [ 'no writer of the roles', [ 'DEL', "$roles:gen" ] ])
{
	my ($what, $command) = @$change;
	my $before = metric($node, 'apikey_mirror_restorations_total');
	$redis->command(@$command);
	wait_until(sub { metric($node, 'apikey_mirror_restorations_total') > $before }, "$what: noticed");
	is($published->(), $right, "$what: written again");
}
$node->wait_for_log(qr/WARNING:  apikey has written the (?:key set|roles) to Redis again, which somebody else had changed/, $log);
pass('the log says so');
is($mirror->detail->{restorations}, metric($node, 'apikey_mirror_restorations_total'), 'and status() how often');
is($mirror->resyncs, $resyncs, 'nothing was sent anew for that');

my $meta = $mirror->name($live{key_id}, 'meta');
for my $change ([ 'schema', sub { 2 } ], [ 'run_id', sub { 'f' x 40 } ], [ 'ready', sub { 'maybe' } ], [ 'watermark_ms', sub { $mirror->now_ms + 400 } ], [ 'watermark_ms', sub { 'inf' } ])
{
	my ($member, $value) = @$change;
	my $before = $mirror->resyncs('altered');
	# The heartbeat overwrites some of it without noticing, should it come at this very moment. Not while it is being filled.
	wait_until(
		sub {
			return 1 if $mirror->resyncs('altered') > $before;
			$redis->command('HSET', $meta, $member, $value->()) if $mirror->state eq 'ready';
			return 0;
		},
		"$member: noticed");
	# The last change may have come after the resync that the first one caused. Then there is another.
	my $right = '1 1 ' . $redis->info('server')->{run_id};
	my %now;
	wait_until(
		sub {
			$mirror->await_ready;
			%now = @{ $redis->command('HGETALL', $meta) };
			return "$now{schema} $now{ready} $now{run_id}" eq $right && ($now{watermark_ms} =~ /^[0-9]+$/) && $now{watermark_ms} <= $mirror->now_ms;
		},
		"$member of meta: put right");
	cmp_ok($now{watermark_ms}, '<=', $mirror->now_ms, "$member of meta: the watermark is the worker's");
}
$mirror->is_exact('after all of it');
$node->log_contains(qr/apikey's mirror is not in order: somebody else has changed schema in the meta of bucket/, $log) or die;
is(metric($node, 'apikey_mirror_ready'), 1, 'the mirror is ready');

#
# Counts that somebody writes who may count
#

my %limited = issue($node, format => 'opaque');
value($node, "UPDATE apikey.key SET rate_limit = 20, rate_window = '10 days' WHERE key_id = '$limited{key_id}'");
is(code($node, $limited{token}), 'VALID', 'a key with a limit of its own');
my ($window) = map { @$_ } wait_until(sub { my $keys = $redis->command('KEYS', "*:rate:$limited{key_id}:*"); return @$keys ? $keys : 0; }, 'its count is exchanged');
# Others have used it up; and somebody would like it to be less.
my @lies = ('x:1', '-1000000', 'x:2', 'nan', 'x:3', '-inf', 'x:4', '-1e300', 'x:5', 'none');
is(asked('apikey-counter', 'HSET', $window, 'honest:00000000000000b1', 20, @lies), 6, 'he can write what he likes');
is(await_code($node, $limited{token}, 'RATE_LIMITED'), 'RATE_LIMITED', 'PostgreSQL counts what others have used, and no less');
my %other = issue($node, format => 'opaque');
value($node, "UPDATE apikey.key SET rate_limit = 20, rate_window = '10 days' WHERE key_id = '$other{key_id}'");
is(code($node, $other{token}), 'VALID', 'another one');
($window) = map { @$_ } wait_until(sub { my $keys = $redis->command('KEYS', "*:rate:$other{key_id}:*"); return @$keys ? $keys : 0; }, 'its count is exchanged, too');
asked('apikey-counter', 'HSET', $window, 'x:1', 'inf');
is(await_code($node, $other{token}, 'RATE_LIMITED'), 'RATE_LIMITED', 'what is too much is used up');
is($mirror->state, 'ready', 'and the worker goes on');

$mirror->leave;
$node->stop;
done_testing();
