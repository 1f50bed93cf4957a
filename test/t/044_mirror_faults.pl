# A network, or a Redis, that is broken in every way: nothing in PostgreSQL waits for it, nothing crashes, and once it is over the mirror is
# complete again without anybody's help.

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

my $redis = RedisServer->start;
my $proxy = FaultProxy->start(to => $redis->socket_path);
my $url = 'redis://' . $proxy->address;
my $node = new_cluster('faults', conf => <<"CONF");
fsync = off
apikey.databases = 'postgres, droppable'
apikey.redis_url = '$url'
CONF
my $mirror = MirrorTest->new($node, $redis, lasting => 0);

sub make_droppable
{
	value($node, "CREATE DATABASE $_") for qw(droppable bystander);
	value($node, 'CREATE EXTENSION apikey', database => 'droppable');
	return;
}
make_droppable();
$mirror->becomes('ready', 'before anything: the mirror is ready');
value($node, "INSERT INTO apikey.role (name, ttl, refresh_window, permissions) VALUES ('unlimited', '30 days', '1 day', '{a:b}')");
my %good = issue($node, role => 'unlimited', format => 'opaque');
my @keys = $mirror->make_keys('to_revoke', 2000);

# Of those keys, the next ones: revoked, with the receipt of the last one.
sub revoke
{
	my ($count) = @_;
	my $receipt;
	$receipt = value($node, "SELECT receipt FROM apikey.revoke('" . shift(@keys) . "')") for 1 .. $count;
	return $receipt;
}

sub seconds_of { my ($sql, @options) = @_; return seconds(sub { value($node, $sql, @options) }); }

# Milliseconds of processor time for a loop of check_token() within the server, the best of some; of time, where the system does not say.
my $looping = session($node);
my $looping_pid = value($looping, 'SELECT pg_backend_pid()');
my $checks = 2000;
my $loop = <<~"SQL";
	DO \$\$
	DECLARE good boolean := true;
	BEGIN
	    FOR i IN 1 .. $checks LOOP
	        good := apikey.check_token('$good{token}') AND good;
	    END LOOP;
	    IF NOT good THEN RAISE EXCEPTION 'a good token was refused'; END IF;
	END \$\$
	SQL
sub processor_ms { my ($ns) = (eval { slurp_file("/proc/$looping_pid/schedstat") } // '') =~ /^(\d+)/; return ($ns // 1e9 * time) / 1e6; }
sub loop_ms
{
	my $best;
	for (1 .. 4)
	{
		my $before = processor_ms();
		value($looping, $loop);
		my $took = processor_ms() - $before;
		$best = $took if !defined $best || $took < $best;
	}
	return $best;
}

sub postmaster { return (split(/\n/, slurp_file($node->data_dir . '/postmaster.pid')))[0]; }
sub failures { return $mirror->status->{connection_failures}; }

sub memory_of
{
	my ($pid, $field) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^$field:\s+(\d+) kB$/m or die "no $field";
	return $kb;
}

my $postmaster = postmaster();
my $worker = $mirror->pid;
my $crash = qr/PANIC|was terminated by (?:signal|exception)|terminating any other active server processes|exited with exit code [^1]/;
my $first_offset = -s $node->logfile;

#
# Each fault
#

# What a proxy is told, in turns; and does the mirror fail under it?
my @faults = (
	[ 'latency of 5 s', 1, 'latency 5000' ],
	[ 'cut mid-reply', 1, 'cut_after_bytes 3', 'cut_after_bytes 41', 'cut_after_bytes 700', 'cut_after_bytes 2500' ],
	[ 'reset', 1, 'reset' ],
	[ 'blackhole', 1, 'blackhole' ],
	[ 'one byte at a time', 0, 'one_byte' ],
	[ 'garbage', 1, 'garbage' ],
	[ 'huge text', 1, 'huge_bulk' ],
	[ 'huge array', 1, 'huge_array' ]);

my ($slowest_drop, $slowest_revoke, $slowest_recovery, $most_memory) = (0, 0, 0, 0);
my @ratios;
for (@faults)
{
	my ($fault, $fails, @modes) = @$_;
	my $before = memory_of($worker, 'RssAnon');
	my $failed_before = failures();
	for my $mode (@modes)
	{
		my $seen = failures();
		$proxy->set($mode);
		# There is always something to send, or the fault would go unnoticed.
		revoke(2);
		wait_until(sub { failures() > $seen }, "$mode is noticed") if $fails;
	}
	my $state = $mirror->state;
	my $problem = $mirror->status->{problem} // '';
	$fails ? isnt($state, 'ready', "$fault: the mirror is not ready") : is($state, 'ready', "$fault: is no reason not to be ready");
	like($problem, qr/\w/, "$fault: status() says why: $problem") if $fails;

	# The worker of the one database is in the midst of it, the other database has none.
	my %took = (
		'DROP EXTENSION' => seconds_of('DROP EXTENSION apikey', database => 'droppable'),
		'DROP DATABASE of another database' => seconds_of('DROP DATABASE bystander'),
		'DROP DATABASE with a mirror' => seconds_of('DROP DATABASE droppable'),
		'a revocation' => seconds(sub { revoke(1) }));
	for my $what (sort keys %took)
	{
		cmp_ok($took{$what}, '<', 2, "$fault: $what takes less than 2 s");
		$slowest_drop = $took{$what} if $what =~ /^DROP/ && $took{$what} > $slowest_drop;
	}
	$slowest_revoke = $took{'a revocation'} if $took{'a revocation'} > $slowest_revoke;
	is(code($node, $good{token}), 'VALID', "$fault: a good key is valid");
	my $memory = memory_of($worker, 'RssAnon') - $before;
	$most_memory = $memory if $memory > $most_memory;

	# With the fault and without, in turns.
	my (@with, @without);
	for (1 .. 4)
	{
		$proxy->set($modes[-1]);
		push @with, loop_ms();
		$proxy->set('pass');
		push @without, loop_ms();
	}
	my $ratio = (sort { $a <=> $b } @with)[0] / (sort { $a <=> $b } @without)[0];
	push @ratios, $ratio;
	note(sprintf('validation_cost_ratio_%s: %.3f', $fault =~ s/\W+/_/gr, $ratio));

	# What was revoked last: as long as that is not there, nothing before it counts as being there.
	my $receipt = revoke(1);
	my $since = time;
	is(value($node, "SELECT apikey.wait_mirrored('$receipt', '1 minute')"), 't', "$fault: afterwards wait_mirrored() is true");
	my $recovery = time - $since;
	$slowest_recovery = $recovery if $recovery > $slowest_recovery;
	note(sprintf('recovery_seconds_after_%s: %.2f', $fault =~ s/\W+/_/gr, $recovery));
	$mirror->becomes('ready', "$fault: afterwards the mirror is ready");
	$mirror->is_complete("$fault: afterwards");
	is(value($node, 'SELECT count(*) FROM apikey.outbox'), '0', "$fault: nothing waits");
	is($mirror->pid, $worker, "$fault: it is the same worker");
	is(postmaster(), $postmaster, "$fault: and the same server");
	cmp_ok(failures(), '>', $failed_before, "$fault: the failures are counted") if $fails;
	make_droppable();
}
unlike(substr(slurp_file($node->logfile), $first_offset), $crash, 'nothing has crashed');
cmp_ok($most_memory, '<', 40 * 1024, 'whatever is announced, the worker takes no more than 40 MiB for it');
note(sprintf('slowest_drop_seconds: %.2f', $slowest_drop));
note(sprintf('slowest_revocation_seconds: %.3f', $slowest_revoke));
note(sprintf('slowest_recovery_seconds: %.2f', $slowest_recovery));
note("most_memory_kb: $most_memory");
note(sprintf('validation_cost_ratio_median: %.3f (aim: 1.05 at most)', (sort { $a <=> $b } @ratios)[ @ratios / 2 ]));

# A header is followed by what it announces, for as long as somebody reads it; again and again.
{
	my $peak_before = memory_of($worker, 'VmPeak');
	for my $answer ('$8388000\r\n' . 'x' x 60_000, '*100000\r\n' . '*100000\r\n', '*2\r\n' x 3000, '$' . '9' x 2000, '+' . 'x' x 50_000)
	{
		my $seen = failures();
		$proxy->set("answer $answer");
		revoke(1);
		wait_until(sub { failures() > $seen }, 'it is noticed');
	}
	cmp_ok(memory_of($worker, 'VmPeak') - $peak_before, '<', 100 * 1024, 'whatever is announced: not even address space is taken for it');
	note('address_space_grown_kb: ' . (memory_of($worker, 'VmPeak') - $peak_before));
	$proxy->set('pass');
	$mirror->becomes('ready', 'afterwards: ready');
	is($mirror->pid, $worker, 'by the same worker');
}

# Nothing but the shape is right: answers to a heartbeat, which asks what time it is before anything else.
{
	my $seen = failures();
	$proxy->set('answer ' . '*2\r\n$1\r\nx\r\n$1\r\ny\r\n' x 16);
	my $now;
	wait_until(sub { $now = $mirror->status; $now->{connection_failures} > $seen }, 'it is noticed');
	# Of the heartbeat, or of a connection that was made since.
	like($now->{problem}, qr/TIME was answered with something else|its role is x|nobody had asked for/, "answers of the right shape: $now->{problem}");
	$proxy->set('pass');
	$mirror->becomes('ready', 'answers of the right shape: ready afterwards');
	is($mirror->pid, $worker, 'answers of the right shape: by the same worker');
}

#
# Validation has nothing to do with sockets, or with what the worker holds
#

SKIP:
{
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $tracing = sub
	{
		my ($sql) = @_;
		my ($said, $output) = ('', "$directory/trace");
		unlink $output;
		my $strace = eval {
			IPC::Run::start([ 'strace', '-qq', '-e', 'trace=%network,poll,ppoll,select,pselect6,epoll_wait,epoll_pwait,epoll_ctl', '-o', $output, '-p', $looping_pid ],
				'>', \my $nothing, '2>', \$said);
		} // return;
		my $traced = eval {
			wait_until(
				sub {
					die 'it has ended' unless $strace->pumpable;
					$strace->pump_nb;
					return slurp_file("/proc/$looping_pid/status") =~ /^TracerPid:\s+[1-9]/m;
				},
				'it is traced');
		};
		value($looping, $sql) if $traced;
		$strace->signal('INT') if $strace->pumpable;
		eval { $strace->finish };
		return $traced ? slurp_file($output) : undef;
	};
	$proxy->set('blackhole');
	my $one = $tracing->($loop =~ s/1 \.\. $checks/1 .. 1/r);
	skip 'system calls cannot be traced here', 2 unless defined $one;
	my $many = $tracing->($loop);
	my ($few_calls, $many_calls) = map { scalar(() = /^\w+\(/mg) } $one, $many;
	cmp_ok($few_calls, '>', 0, 'system calls on sockets are seen: those of the query itself');
	# A wait that is under way when the tracing begins may count or not.
	cmp_ok($many_calls - $few_calls, '<', $checks / 100, "$checks validations make no more of them than one does");
	note("socket_calls_of_$checks" . '_validations: ' . ($many_calls - $few_calls));
}
$proxy->set('pass');
$mirror->becomes('ready', 'ready');

# The worker is stopped wherever it happens to be, while it has everything to do.
{
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my @busy = $mirror->make_keys('busy', 300);
	write_file("$directory/busy.sql", <<~'SCRIPT', 0644);
		\set n random(1, 300)
		UPDATE apikey.key SET state = CASE state WHEN 'active' THEN 'disabled' ELSE 'active' END
		 WHERE key_id = (SELECT key_id FROM public.busy WHERE n = :n);
		SELECT apikey.mirror_resync() WHERE :n % 40 = 0;
		SCRIPT
	value($node, "CREATE TABLE public.busy AS SELECT row_number() OVER () AS n, key_id FROM apikey.key WHERE owner = 'busy'");
	my ($output, $errors) = ('', '');
	my $load = IPC::Run::start(
		[ 'pgbench', '--no-vacuum', '--client', 2, '--time', 600, '--file', "$directory/busy.sql", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$output, '2>', \$errors);
	my $sent = $mirror->status->{members};
	my $longest = 0;
	my $stops = 40;
	my $answered = 0;
	value($looping, "SET statement_timeout = '20s'");
	for my $stop (1 .. $stops)
	{
		# Any moment will do, but not always the same one.
		value($node, 'SELECT count(*) FROM generate_series(1, (random() * 200000)::integer)');
		kill('STOP', $worker) or die "could not stop $worker: $!";
		my $took = eval { seconds(sub { value($looping, $loop =~ s/1 \.\. $checks/1 .. 50/r) }) };
		kill('CONT', $worker) or die "could not continue $worker: $!";
		# Not while it is stopped: it may have been in the midst of writing the same page, as any session may.
		value($looping, "SELECT apikey.revoke('" . shift(@keys) . "')");
		$answered++ if defined $took;
		$longest = $took if defined $took && $took > $longest;
	}
	is($answered, $stops, 'validations go on while the worker is stopped in the midst of whatever it does');
	note("stops_of_the_worker: $stops");
	note(sprintf('longest_50_validations_while_it_is_stopped_ms: %.1f', $longest * 1000));
	$load->signal('TERM');
	eval { $load->finish };
	value($looping, 'SET statement_timeout = 0');
	$mirror->is_complete('after all that');
	is($mirror->pid, $worker, 'it is the same worker');
}

#
# A worker that would wait for Redis for a minute
#

sub set_patience
{
	my ($patience) = @_;
	value($node, "ALTER SYSTEM SET apikey.redis_timeout = '$patience'");
	value($node, "ALTER SYSTEM SET apikey.redis_connect_timeout = '$patience'");
	value($node, 'SELECT pg_reload_conf()');
	return;
}

# Until the blackhole has swallowed something of it.
sub swallow
{
	my $connections = $proxy->status->{accepted};
	my $resyncs = $mirror->resyncs;
	set_patience('60s');
	wait_until(sub { $mirror->resyncs > $resyncs && $mirror->state eq 'ready' }, 'the worker is patient');
	$proxy->set('blackhole');
	revoke(1);
	wait_until(sub { value($node, "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'apikey mirror' AND datname = 'postgres'") eq 'Extension'
		  && value($node, 'SELECT count(*) FROM apikey.outbox') > 0 }, 'it waits for Redis');
	return;
}
swallow();
for ('DROP DATABASE bystander', 'DROP DATABASE droppable')
{
	my $took = seconds_of($_);
	cmp_ok($took, '<', 2, "while it waits for a minute: $_");
	note(sprintf('patient_%s_seconds: %.2f', s/\W+/_/gr, $took));
}
my $took = seconds_of("SELECT pg_terminate_backend($worker, 30000)");
cmp_ok($took, '<', 3, 'while it waits for a minute: it can be terminated');
note(sprintf('terminate_seconds: %.2f', $took));
is(value($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $worker"), '0', 'and is gone');
wait_until(sub { $mirror->pid ne '' }, 'another one comes');
my $now;
wait_until(sub { $now = $mirror->status; $now->{state} eq 'connecting' }, 'which tries to connect');
is($now->{state}, 'connecting', 'another one comes, and tries to connect');
$took = seconds(sub { $node->stop('fast') });
cmp_ok($took, '<', 5, 'while it waits for a minute: a fast shutdown');
note(sprintf('shutdown_seconds: %.2f', $took));
$proxy->set('pass');
$node->start;
set_patience('2s');
$mirror->becomes('ready', 'ready after the restart');
$mirror->is_complete('after the restart');

# SIGHUP: another address, while the old one is a black hole.
$proxy->set('blackhole');
my $receipt = revoke(3);
$mirror->set_url('unix://' . $redis->socket_path);
is(value($node, "SELECT apikey.wait_mirrored('$receipt', '1 minute')"), 't', 'a reload that names another way to Redis is obeyed');
$mirror->is_complete('by another way');
$mirror->set_url('');
wait_until(sub { $mirror->pid eq '' }, 'the worker ends');
is($mirror->state, 'off', 'a reload that names none is obeyed');
revoke(1);
$mirror->set_url($url);
wait_until(sub { $mirror->pid ne '' && $mirror->state eq 'connecting' }, 'it tries again');
$mirror->set_url('');
wait_until(sub { $mirror->pid eq '' }, 'the worker ends');
is($mirror->pid, '', 'also in the midst of a black hole');
$proxy->set('pass');
$mirror->set_url($url);
$mirror->becomes('ready', 'and ready again');
$mirror->is_complete('in the end');
unlike(substr(slurp_file($node->logfile), $first_offset), $crash, 'nothing has crashed');

$looping->quit;
$node->stop;
done_testing();
