# The alerts. First by promtool: each fires on its fault, after its time, and on no other. Then each
# fault is made on a real server, which a real Prometheus scrapes through the real exporter, and the
# alerts' expressions are asked of what was scraped. (008_full_queue fills the queue of notifications.)
use strict;
use warnings;
use FindBin;
use IPC::Run;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use PrometheusTest;
use Test::More;

my $monitoring = "$project/monitoring";
my $folder = PostgreSQL::Test::Utils::tempdir;
my $rules = slurp_file("$monitoring/alerts.yml");
my @alerts = alert_rules();
my %alert = map { $_->{name} => $_ } @alerts;

my $node = new_server('alerts', "shared_preload_libraries = 'prebuild_ext'", "prebuild.databases = 'fleet'",
	"prebuild.worker_role = 'postgres'", 'prebuild.metadata_buffer_size = 1MB', 'max_prepared_transactions = 5',
	"prebuild.fold_interval = '1h'", "prebuild.backoff_lookback = '3h'", "prebuild.backoff_interval = '2h'");
my $db = new_metadata($node, 'fleet');

sub sql { return $node->safe_psql($db, $_[0]); }

my @checks = split /\n/, sql('SELECT name FROM prebuild_health()');

# every check and every alert has an entry in the runbook
my $runbook = slurp_file("$project/docs/runbook.md");
my %sections = $runbook =~ /^### (\S+)\n(.*?)(?=^##|\z)/gms;
is(join(' ', grep { !$sections{$_} } @checks), '', 'every check is in the runbook');
my @lost = grep { my ($anchor) = $rules =~ /alert: $_\n.*?#(\S+)\n/s; ($sections{$anchor} // '') !~ /^Alert `$_`/m } sort keys %alert;
is(join(' ', @lost), '', 'every alert is where its annotation leads');
is(join(' ', grep { my $text = $sections{$_}; grep { $text !~ /^- \*$_/m } qw(Look Leave) } sort keys %sections), '',
	'every section says how to look and when to leave it');

## by promtool

# The series of a check.
sub health { return qq(prebuild_ext_health{check="$_[0]",server="s"}); }

# three hours of series with a sample every five minutes, in which nothing is wrong but what is given
sub series
{
	my (%given) = @_;
	my %of = (
		(map { (health($_) => '0x36') } @checks),
		coderd_prebuilds_reconciliation_duration_seconds_sum => '0+30x36',
		coderd_prebuilds_reconciliation_duration_seconds_count => '0+300x36',
		'coderd_prebuilt_workspaces_resource_replacements_total{template_name="t"}' => '3x36',
		coderd_agentapi_metadata_publish_errors_total => '2x36',
		'prebuild_ext_last_day_missed{preset_name="p"}' => '20x36',
		'prebuild_ext_last_day_hit_ratio{preset_name="p"}' => '0.9x36',
		'prebuild_ext_last_day_missed{preset_name="q"}' => '1x36',
		'prebuild_ext_last_day_hit_ratio{preset_name="q"}' => '0x36',
		%given);

	return map { "      - series: '$_'\n        values: '$of{$_}'\n" } grep { $of{$_} } sort keys %of;
}

# A test: these alerts fire at a minute.
sub fires
{
	my ($minute, $series, @firing) = @_;

	return "  - interval: 5m\n    input_series:\n" . join('', @$series) . "    promql_expr_test:\n"
	  . "      - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n        eval_time: ${minute}m\n        exp_samples:\n"
	  . join('', map { "          - labels: '{alertname=\"$_\"}'\n            value: 1\n" } @firing);
}

my %faults = (
	PrebuildMetricsMissing => [ map { (health($_) => '') } @checks ],
	PrebuildHealthUnknown => [ health('worker') => '-1x36' ],
	PrebuildMisses => [ 'prebuild_ext_last_day_hit_ratio{preset_name="p"}' => '0.7x36' ],
	PrebuildPassesSlow => [ coderd_prebuilds_reconciliation_duration_seconds_sum => '0+3000x36' ],
	PrebuildResourcesReplaced => [ 'coderd_prebuilt_workspaces_resource_replacements_total{template_name="t"}' => '3x28 4x7' ],
	PrebuildMetadataUnpublished => [ coderd_agentapi_metadata_publish_errors_total => '2x28 3x7' ]);
my @tests = fires(150, [ series() ]);
foreach my $alert (@alerts)
{
	my ($check, $compared, $least) = $alert->{expr} =~ /^prebuild_ext_health\{check="(\w+)"\} (>=|==) (\d)$/;
	my $fault = $faults{ $alert->{name} };

	$fault //= [ health($check) => "${least}x36" ] if $check;
	if (!$fault)
	{
		fail("$alert->{name} has a fault");
		next;
	}
	push @tests, fires(150, [ series(@$fault) ], $alert->{name});
	push @tests, fires($alert->{minutes} - 1, [ series(@$fault) ]) if $alert->{minutes} > 1;
	next unless $check;
	# what is worse fires too, what is better does not
	push @tests, fires(150, [ series(health($check) => '2x36') ], $alert->{name});
	push @tests, fires(150, [ series(health($check) => ($least - 1) . 'x36') ]);
}
# a plan that fails makes other checks unknown, which is not news
push @tests, fires(150, [ series(health('plan') => '2x36',
	health('backoff') => '-1x36') ], 'PrebuildPlanFails');
append_to_file("$folder/tests.yml", "rule_files: [ $monitoring/alerts.yml ]\nevaluation_interval: 5m\ntests:\n" . join('', @tests));
my ($out, $err);
ok(IPC::Run::run([ 'promtool', 'test', 'rules', "$folder/tests.yml" ], '<', '/dev/null', '>', \$out, '2>', \$err),
	scalar(@tests) . ' tests by promtool: each alert fires on its fault, after its time, and on no other') or diag("$out$err");
append_to_file("$folder/wrong.yml", "rule_files: [ $monitoring/alerts.yml ]\nevaluation_interval: 5m\ntests:\n"
	. fires(150, [ series() ], 'PrebuildPaused'));
ok(!IPC::Run::run([ 'promtool', 'test', 'rules', "$folder/wrong.yml" ], '<', '/dev/null', '>', \$out, '2>', \$err),
	'and a wrong test fails');

## on a real server

sql(q{
	CREATE FUNCTION fixture.old() RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() - interval '5 hours' $$;
	-- a preset that wants n and has some, from before anybody would ask who built them
	CREATE FUNCTION fixture.with(name text, n int, members int DEFAULT 1) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM fixture.simple(name, n);
		PERFORM fixture.prebuild(name, name || i, created => fixture.old()) FROM generate_series(1, members) i;
	END $$;
	CREATE FUNCTION fixture.wipe() RETURNS void LANGUAGE sql AS $$
		DELETE FROM template_version_preset_prebuild_schedules;
		UPDATE template_version_presets SET desired_instances = NULL, prebuild_status = 'healthy' WHERE name <> 'fine';
		UPDATE workspaces SET deleted = true WHERE template_id <> fixture.t('fine');
		UPDATE provisioner_jobs SET completed_at = now(), started_at = now() WHERE completed_at IS NULL;
		DELETE FROM prebuild_mark;
		DELETE FROM prebuild_policy $$;
	SELECT fixture.with('fine', 1), fixture.usr('ada');
	SELECT prebuild_reconcile()});
worker_is($node, $db, 'serving');
start_prometheus($node, $db);
is(alerts_that_hold(), '', 'nothing is wrong');
# faults of presets, which are made together; test/sql/checks.sql shows that each is a finding of its own check alone
my @of_presets = (
	[ 'PrebuildJobsWait', q{SELECT fixture.with('waits', 1); SELECT fixture.prebuild('waits', 'w', status => 'pending', created => fixture.old())} ],
	[ 'PrebuildHardLimited', q{SELECT fixture.with('limited', 2);
		SELECT fixture.prebuild('limited', 'l' || n, status => 'failed', created => now() - interval '4 hours') FROM generate_series(1, 3) n} ],
	[ 'PrebuildBackoff', q{SELECT fixture.with('backs off', 2);
		SELECT fixture.prebuild('backs off', 'b' || n, status => 'failed', created => now() - interval '70 minutes') FROM generate_series(1, 2) n} ],
	[ 'PrebuildPresetInvalid', q{SELECT fixture.with('invalid', 2); UPDATE template_version_presets SET prebuild_status = 'validation_failed' WHERE name = 'invalid'} ],
	[ 'PrebuildPresetUnsupported', q{SELECT fixture.with('unsupported', 2);
		INSERT INTO template_version_workspace_tags VALUES (fixture.v('unsupported-v1'), 'a', 'file("b")')} ],
	[ 'PrebuildPresetRefused', q{SELECT fixture.with('refused', 2);
		INSERT INTO prebuild_mark (preset_id, kind, detail, since, control_plane) VALUES (fixture.p('refused'), 'preset_failed', 'x', now(), 'public')} ],
	[ 'PrebuildProvisionersMissing', q{SELECT fixture.with('alone', 2); SELECT prebuild_set_policy(fixture.t('alone'), require_provisioner => true)} ],
	[ 'PrebuildSchedulesIgnored', q{SELECT fixture.with('scheduled', 1); SELECT fixture.schedule('scheduled', '1 * * * *', 1)} ],
	[ 'PrebuildPoolEmpty', q{SELECT fixture.simple('empty', 1)} ],
	[ 'PrebuildSick', q{SELECT fixture.with('sick', 2, 2); SELECT prebuild_set_policy(fixture.t('sick'), unready_grace => '10min');
		SELECT fixture.agent('sick1', 'start_error')} ],
	[ 'PrebuildDeletesFail', q{SELECT fixture.with('stays', 1, 2); SELECT fixture.build('stays2', 'delete', 'failed', 'stays', fixture.old())} ]);
my @made = (
	[ 'PrebuildVersionsDiffer', q{SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'prebuild_ext'},
		q{SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.2' WHERE extname = 'prebuild_ext'} ],
	# without a table no plan can be made, either
	[ 'PrebuildControlPlaneIncomplete PrebuildPlanFails', 'ALTER TABLE group_members RENAME TO gone', 'ALTER TABLE gone RENAME TO group_members' ],
	[ 'PrebuildPlanFails', 'ALTER TABLE prebuild_mark RENAME TO gone', 'ALTER TABLE gone RENAME TO prebuild_mark' ],
	[ 'PrebuildPaused', 'SELECT prebuild_pause()', 'SELECT prebuild_resume()' ],
	[ 'PrebuildPassesStopped', q{UPDATE prebuild_demand_marker SET looked_at = now() - interval '2 hours'}, 'SELECT prebuild_reconcile()' ],
	[ 'PrebuildTwoReconcilers', q{SELECT fixture.simple('theirs', 1); SELECT fixture.prebuild('theirs', 'theirs', created => now())} ],
	[ 'PrebuildReconcilersLockHeld', q{BEGIN; SELECT pg_advisory_xact_lock(7); PREPARE TRANSACTION 'x'}, q{ROLLBACK PREPARED 'x'} ],
	[ 'PrebuildTablesLocked', q{BEGIN; LOCK TABLE templates IN SHARE MODE; PREPARE TRANSACTION 'x'}, q{ROLLBACK PREPARED 'x'} ],
	[ 'PrebuildLogGrows', q{INSERT INTO prebuild_pool_log SELECT pg_current_xact_id(), 'public'::regnamespace, 'j', gen_random_uuid()
		FROM generate_series(1, 100001)}, 'TRUNCATE prebuild_pool_log' ],
	[ 'PrebuildPoolNotStored', 'SELECT prebuild_attach(); ALTER TABLE workspaces DISABLE TRIGGER ALL', 'SELECT prebuild_detach()' ],
	[ join(' ', sort map { $_->[0] } @of_presets), join(';', map { $_->[1] } @of_presets) ],
	# the exporter's functions run as somebody who may see little
	[ 'PrebuildHealthUnknown', q{CREATE ROLE weak; SELECT prebuild_grant('weak');
		ALTER FUNCTION prebuild_monitoring.prebuild_metrics_read OWNER TO weak},
		'ALTER FUNCTION prebuild_monitoring.prebuild_metrics_read OWNER TO postgres' ],
	[ 'PrebuildWorkerFails', q{ALTER SYSTEM SET prebuild.worker_role = 'of_nobody'; SELECT pg_reload_conf()},
		q{ALTER SYSTEM RESET prebuild.worker_role; SELECT pg_reload_conf()} ]);

my %covered;
foreach (@made)
{
	my ($expected, $fault, $repair) = @$_;

	sql($fault);
	becomes($expected);
	sql($repair // 'SELECT fixture.wipe()');
	$covered{$_} = 1 foreach split ' ', $expected;
}
worker_is($node, $db, 'serving');
becomes('', 'all is repaired');

# what goes on for a while: counters, and a buffer that was full lately
my @going_on;
sub make_also
{
	my ($alert, $fault) = @_;

	push @going_on, $alert;
	sql($fault) if $fault;
	becomes(join(' ', sort @going_on));
	$covered{$alert} = 1;
	return;
}
make_also('PrebuildPassesSlow', 'UPDATE prebuild_pass_stats SET passes = passes + 1, seconds = seconds + 1000');
sql(q{SELECT fixture.with('replaces', 0, 1); UPDATE workspaces SET owner_id = fixture.usr('ada') WHERE name = 'replaces1'});
wait_for_scrape();
make_also('PrebuildResourcesReplaced', q{INSERT INTO prebuild_replacement
	SELECT b.workspace_id, b.id, w.template_id, b.template_version_preset_id, now()
	FROM workspace_builds b JOIN workspaces w ON w.id = b.workspace_id WHERE w.name = 'replaces1'});
make_also('PrebuildMisses', q{SELECT fixture.with('asked for', 1);
	SELECT fixture.prebuild('asked for', 'cold-' || n, created => now(), owner => fixture.usr('ada')) FROM generate_series(1, 12) n;
	SELECT prebuild_reconcile()});
# the disk has no room for another file of the notifications: a batch that announces its agents is not committed,
# waits, and is written later
add_agents($node, $db, 1, 300);
my $files = $node->data_dir . '/pg_notify';
chmod 0500, $files or die "$files: $!";
my ($filled, $tries) = (0, 0);
while (!$filled && $tries++ < 200)
{
	my ($status, undef, $error) = $node->psql($db, q{SELECT pg_notify('x', repeat('x', 7900))});
	$filled = $error =~ /Could not open file ".*pg_notify/i;
}
ok($filled, 'no further page of notifications can be written');
sql(q{SELECT report(n, 'cpu', '12 %') FROM generate_series(1, 300) n});
wait_until($node, $db, 'SELECT publish_errors > 0 FROM prebuild_metadata_stats');
wait_for_scrape();
ok((grep { $_ eq 'PrebuildMetadataUnpublished' } split / /, alerts_that_hold()), 'PrebuildMetadataUnpublished, while it lasts');
chmod 0700, $files or die "$files: $!";
wait_until($node, $db, 'SELECT queued = 0 FROM prebuild_metadata_stats');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE key = 'cpu' AND value = '12 %'}), 300, 'what waited is written');
make_also('PrebuildMetadataUnpublished');
make_also('PrebuildReportsDropped', q{SET client_min_messages = error;
	SELECT prebuild_agent_metadata_report(fixture.a(n), '{a,b,c}', array_fill(repeat('x', 2048), '{3}')) FROM generate_series(3, 300) n});
stop_exporter();
wait_for_scrape('absent(prebuild_ext_health)');
# what looks at a range of time still sees what was
is(alerts_that_hold(), join(' ', sort 'PrebuildMetricsMissing', grep { $alert{$_}{expr} =~ /\[/ } @going_on), 'PrebuildMetricsMissing');
$covered{PrebuildMetricsMissing} = 1;
is(join(' ', grep { !$covered{$_} } sort keys %alert), 'PrebuildNotificationQueueFills',
	'every fault was made but a full queue, which 008_full_queue makes');
stop_prometheus();

done_testing();
