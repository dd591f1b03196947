# A standby that is asked under load has exact answers. When its server crashes under load, or in the middle
# of a fold, of a pass, or of a flush, and it is promoted, all promises are kept. PREBUILD_PROMOTIONS and
# PREBUILD_CRASH_SEED make more of it, as test/long/failover does.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use CrashCampaign;
use Test::More;

my $seed = $ENV{PREBUILD_CRASH_SEED} // 15;
my $campaign = CrashCampaign->new('primary', seed => $seed, standby => 1);
my @kinds = CrashCampaign::middles();

note("seed $seed");
for my $n (1 .. $ENV{PREBUILD_PROMOTIONS} // @kinds)
{
	$campaign->fail_over($kinds[ ($n - 1) % @kinds ]);
}
$campaign->finish;
done_testing();
