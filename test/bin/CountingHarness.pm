# The harness of prove and pg_prove, which also writes "passed failed skipped" to the file named by TAP_COUNTS.
package CountingHarness;

use strict;
use warnings;
use parent 'TAP::Harness';

sub summary
{
	my ($self, $aggregate) = @_;
	$self->SUPER::summary($aggregate);

	my ($passed, $failed, $skipped) = (0, 0, 0);
	foreach my $parser ($aggregate->parsers)
	{
		my $skipped_here = $parser->skipped;
		my $failed_here = $parser->failed;
		$passed += $parser->passed - $skipped_here;
		$skipped += $parser->skip_all ? 1 : $skipped_here;

		# A script that dies, or that runs fewer tests than planned, has failed even where no test did.
		$failed_here = 1 if !$failed_here && $parser->has_problems;
		$failed += $failed_here;
	}

	open(my $counts, '>', $ENV{TAP_COUNTS}) or die "$ENV{TAP_COUNTS}: $!";
	print $counts "$passed $failed $skipped\n";
	close($counts) or die "$ENV{TAP_COUNTS}: $!";
	return;
}

1;
