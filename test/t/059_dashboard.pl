# Every panel of the dashboard shows something: a real Prometheus scrapes the real exporter, with
# monitoring/'s queries, while a small fleet lives, and then answers the panels' queries.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use MetadataTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use PrometheusTest;
use Test::More;

my $monitoring = "$project/monitoring";
my $node = new_server('dashboard', "shared_preload_libraries = 'prebuild_ext'", "prebuild.databases = 'fleet'",
	"prebuild.worker_role = 'postgres'", 'prebuild.failure_hard_limit = 1', "prebuild.backoff_interval = '1h'");
my $db = new_metadata($node, 'fleet');
sub sql { return $node->safe_psql($db, $_[0]); }

# a fleet with a past of ten days, and a preset for everything that can be wrong
sql(slurp_file("$FindBin::Bin/../fixture/past.sql") . q{
	SET prebuild.control_plane_schema = 'public';
	SELECT fixture.simple('office', 3), fixture.simple('limited', 1), fixture.simple('invalid', 1), fixture.usr('ada'), fixture.usr('bob');
	SELECT fixture.past('office', now(), 10, 3);
	SELECT fixture.simple('sized', 1);
	SELECT fixture.past('sized', now(), 40, 3), prebuild_set_policy(fixture.t('sized'), 'sized', 'auto');
	UPDATE template_version_presets SET prebuild_status = 'validation_failed' WHERE name = 'invalid';
	SELECT prebuild_set_policy(fixture.t('office'), unready_grace => '1 min');
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs(failing => true, preset_name => 'limited');
	-- the next pass chooses a policy
	SELECT prebuild_reconcile();
	UPDATE workspace_agents SET ready_at = now();
});
worker_is($node, $db, 'serving');
add_agents($node, $db, 1, 2);

start_prometheus($node, $db);

# a life, as short as it may be: what counts must be seen before and after
wait_for_scrape() for 1 .. 2;
foreach my $hour (1 .. 2)
{
	sql(qq{
		SELECT fixture.finish_jobs(preset_name => 'office');
		UPDATE workspace_agents SET ready_at = now() WHERE ready_at IS NULL;
		SELECT fixture.claim('office', 'ada', 'ada-$hour', now());
		SELECT fixture.build('ada-$hour', 'start', initiator => fixture.usr('ada'), created => now());
		SELECT prebuild_track_resource_replacement(fixture.w('ada-$hour'), fixture.latest('ada-$hour'), '{"disk": ["size"]}');
		SELECT fixture.claim('limited', 'bob', 'bob-$hour', now());
		SELECT report(n, 'cpu', '$hour'), prebuild_agent_identity(fixture.a(n)) FROM generate_series(1, 2) n;
		SELECT prebuild_agent_metadata_flush();
	});
	sql('SELECT prebuild_reconcile()');
	wait_for_scrape() for 1 .. 2;
}

# what a panel asks, of all presets
my $dashboard = decode_json(slurp_file("$monitoring/grafana-dashboard.json"));
my %variables = (__rate_interval => '1m', organization => '.*', template => '.*', preset => '.*');
foreach my $panel (@{ $dashboard->{panels} })
{
	foreach my $target (@{ $panel->{targets} })
	{
		(my $query = $target->{expr}) =~ s/\$(\w+)/$variables{$1} \/\/ die "no variable $1"/ge;
		my @samples = eval { @{ ask_prometheus($query) // die "no answer\n" } };
		is($@, '', "$panel->{title}: Prometheus takes the query");
		# whether the policy of mode auto forecasts depends on the time of day
		my $there = $query !~ /forecast/ || sql(q{SELECT count(*) FROM prebuild_metrics_read(part => 'pool') WHERE name ~ 'forecast'});
		is(!!(grep { $_->{value}[1] ne 'NaN' } @samples), !!$there, "$panel->{title}: $target->{legendFormat} shows something") or diag($query);
	}
}

# panels do not lie on each other, and the row of the house comes first
my %cells;
foreach my $panel (@{ $dashboard->{panels} })
{
	my $at = $panel->{gridPos};
	foreach my $x ($at->{x} .. $at->{x} + $at->{w} - 1)
	{
		push @{ $cells{"$x $_"} }, $panel->{title} foreach $at->{y} .. $at->{y} + $at->{h} - 1;
	}
	cmp_ok($at->{x} + $at->{w}, '<=', 24, "$panel->{title} is within the page");
}
is_deeply([ grep { @$_ > 1 } values %cells ], [], 'panels have places of their own');

# figures: the scrape of the text has what the queries of the panels say
sub figure { return ask_prometheus($_[0])->[0]{value}[1]; }
my ($missed, $asked) = split /\|/, sql(q{SELECT count(*) FILTER (WHERE NOT warm), count(*) FROM prebuild_demand_log WHERE at > now() - interval '1 day'});
is(figure('sum(prebuild_ext_last_day_demands)'), $asked, 'demands of the last day');
is(figure('sum(prebuild_ext_last_day_missed)'), $missed, 'and who found none');
is(figure('sum(prebuild_ext_demands_warm_total)'), 2, 'claims that were counted as they came');
is(figure('sum(prebuild_ext_claims_without_prebuild_total)'), 2, 'claims that found none');
is(figure('sum(prebuild_ext_time_to_claim_seconds_count)'), 2, 'prebuilds that were claimed after some time');
unlike(exporter_log(), qr/level=error/, 'the exporter says of no error') or diag(exporter_log());
stop_prometheus();
$node->stop;
done_testing();
