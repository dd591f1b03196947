# A server under load crashes in each of the ways that there are, at random moments, and keeps its promises.
# PREBUILD_CRASHES and PREBUILD_CRASH_SEED make more of it, as test/long/crash_campaign does.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use CrashCampaign;
use Test::More;

my $seed = $ENV{PREBUILD_CRASH_SEED} // 15;
my $campaign = CrashCampaign->new('campaign', seed => $seed);
my @kinds = CrashCampaign::kinds();

note("seed $seed");
for my $n (1 .. $ENV{PREBUILD_CRASHES} // @kinds)
{
	$campaign->crash($kinds[ ($n - 1) % @kinds ]);
}
$campaign->finish;
done_testing();
