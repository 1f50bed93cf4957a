# A process that asks Redis about keys of generation 1, all of which are withdrawn, some at a time, every millisecond. Whatever happens to
# Redis, the answer must never be "ok".
#
#   my $reader = MirrorReader->start($mirror, @key_ids);
#   $reader->never_ok('what happened meanwhile');
package MirrorReader;

use strict;
use warnings FATAL => 'all';

use JSON::PP ();
use POSIX ();
use Test::More;

my @running;

sub start
{
	my ($class, $mirror, @keys) = @_;
	my $self = bless {}, $class;
	pipe(my $stop, $self->{stop}) or die "no pipe: $!";
	pipe($self->{result}, my $result) or die "no pipe: $!";
	$self->{pid} = fork() // die "could not fork: $!";
	if ($self->{pid} == 0)
	{
		close $self->{stop};
		my %count;
		my $bits = '';
		vec($bits, fileno($stop), 1) = 1;
		until (select(my $ready = $bits, undef, undef, 0.001))
		{
			my @some = map { [ $keys[ rand @keys ], 1 ] } 1 .. 16;
			my @answers = eval { $mirror->checks(@some) };
			if (!@answers)
			{
				# Redis is not there: no answer, which is no permission either.
				$mirror->{redis}{connection} = undef;
				@answers = ('no answer');
			}
			$count{$_}++ for @answers;
		}
		print {$result} JSON::PP::encode_json(\%count);
		close $result;
		POSIX::_exit(0);
	}
	close $stop;
	close $result;
	push @running, $self;
	return $self;
}

# How often it got which answer.
sub stop
{
	my ($self) = @_;
	close $self->{stop};
	my $text = do { local $/ = undef; readline $self->{result} };
	waitpid($self->{pid}, 0);
	@running = grep { $_ != $self } @running;
	return JSON::PP::decode_json($text);
}

# Stops it; two tests.
sub never_ok
{
	my ($self, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $count = $self->stop;
	is($count->{ok} // 0, 0, "$what: a reader never got ok for a key that is withdrawn");
	cmp_ok($count->{'revoked key'} // 0, '>', 0, "$what: it asked");
	note("$what, answers: " . join(', ', map { "$_ $count->{$_}" } sort keys %$count));
	return;
}

# A reader ends when nobody holds the other end of its pipe.
END
{
	my $status = $?;
	close $_->{stop} for @running;
	$? = $status;
}

1;
