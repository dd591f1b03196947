# A hot standby answers everything that only reads, refuses the rest, and takes over when promoted.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $primary = new_server('primary');
my $db = new_control_plane($primary, 'fleet');
$primary->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, n) FROM generate_series(1, 3) n;
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET desired_instances = desired_instances + 1;
	SELECT fixture.version('one', 'v2', active => false), fixture.preset('v2', 'next', 0);
	SELECT fixture.preset('v2', 'staged', 1);
	SELECT prebuild_stage(fixture.v('v2'));
	SELECT fixture.prebuild('p1', 'asked-' || n, owner => fixture.usr('ada'), created => '2030-06-03 11:00Z'::timestamptz - n * interval '1 day')
	FROM generate_series(1, 60) n;
});

# sick members, rests of failures and a memory of them, for the answers with health on
$primary->safe_psql($db, q{
	SELECT fixture.simple('ill', 3), fixture.simple('never', 2), fixture.simple('left', 0);
	SELECT fixture.prebuild('ill', 'ill-' || n) FROM generate_series(1, 3) n;
	UPDATE workspace_agents a SET lifecycle_state = x.state::workspace_agent_lifecycle_state, first_connected_at = fixture.t0() - interval '2 days',
		last_connected_at = fixture.t0() - interval '1 day', name = x.name
	FROM workspace_resources r JOIN workspace_builds b ON b.job_id = r.job_id JOIN workspaces w ON w.id = b.workspace_id
	JOIN (VALUES ('ill-1', 'start_error'), ('ill-2', 'starting'), ('ill-3', 'ready')) x (name, state) ON x.name = w.name WHERE a.resource_id = r.id;
	SELECT fixture.prebuild('left', 'left-' || n, status => 'failed') FROM generate_series(1, 3) n;
	SELECT fixture.prebuild('left', 'undeleted'); SELECT fixture.build('undeleted', 'delete', 'failed');
	INSERT INTO prebuild_failure SELECT gen_random_uuid(), p.id, gen_random_uuid(), 'failed', fixture.t0(), 'public'
	FROM template_version_presets p, generate_series(1, 3) WHERE p.name = 'never';
	SELECT prebuild_set_policy(id, unready_grace => '10min', disconnected_grace => '1h') FROM templates WHERE name = 'ill'});
my $at = q{'2030-06-03 12:00+00'};

# a preset in mode auto, whose policy forecasts as many times one demand a day as the last day had
$primary->safe_psql($db, q{
	CREATE PROCEDURE fixture.ask(VARIADIC times timestamptz[]) LANGUAGE sql AS $$
		INSERT INTO prebuild_demand_log (control_plane, workspace_id, template_id, preset_name, at, warm)
		SELECT 'public', gen_random_uuid(), fixture.t('sized'), 'sized', at, true FROM unnest(times) at
	$$;
	SELECT fixture.simple('sized', 0);
	SELECT prebuild_set_policy(fixture.t('sized'), mode => 'auto', max_instances => 100);
	INSERT INTO prebuild_policy_choice (control_plane, template_id, preset_name, policy, kind, parameter, outcome, note, chosen_at, due_at, learnt_at, learnt)
	VALUES ('public', fixture.t('sized'), 'sized', 'forecast', 'forecast', 0.01, 'better', '', '2030-06-03 07:00Z', '2030-06-04 07:00Z', '2030-06-03 00:00Z',
		ARRAY[50, 5, 0, 1, 0, 3e8, 3e8] || array_fill(1 / 24::float8, ARRAY[672]));
	CALL fixture.ask('2030-06-03 08:00Z', '2030-06-03 09:00Z')});
my $health = q{SET prebuild.failed_retention = '1h'; SET prebuild.delete_retries = 2; SET prebuild.hard_limit_retry = '1h';
	SET prebuild.require_provisioner = on; SET prebuild.max_building = '50%'; SET prebuild.max_unavailable = 0;} =~ s/\s+/ /gr;

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
my $reader = $standby->background_psql($db);
my $sized = "SELECT desired, desired_source, substring(reason FROM '[0-9.]+ times') FROM prebuild_state($at) s JOIN prebuild_plan($at) p USING (preset_name) WHERE preset_name = 'sized'";
is(answer($reader, $sized), '1|policy|2.00 times', 'the standby asks the policy of a preset in mode auto');

my @reads = (
	"$health SELECT * FROM prebuild_state($at)",
	"$health SELECT * FROM prebuild_plan($at)",
	"$health SELECT * FROM prebuild_health($at)",
	'SELECT * FROM prebuild_overview',
	"$health SELECT name, value FROM prebuild_metrics_read($at, 'pool') WHERE name ~ 'preset_(sick|no_provisioner)' ORDER BY 1, 2",
	'SELECT * FROM prebuild_running()',
	'SELECT * FROM prebuild_pool()',
	"SELECT * FROM prebuild_state($at)",
	"SELECT * FROM prebuild_plan($at)",
	"SELECT * FROM prebuild_stage_status($at)",
	"SELECT * FROM prebuild_demand('2030-05-01', $at, '1 day')",
	"SELECT b.* FROM prebuild_backtest(fixture.t('one'), 'p1', '2030-03-01', $at) b",
	"SELECT p.name, t.* FROM template_version_presets p, prebuild_target(p.id, $at) t ORDER BY p.name",
	"SELECT r.* FROM prebuild_replay(fixture.t('one'), 'p1', '2030-03-01', $at, 'recommended', '7 days') r",
	"SELECT * FROM prebuild_recommend($at)",
	"SELECT p.name, prebuild_desired_instances(p.id, $at) FROM template_version_presets p ORDER BY 1",
	"SELECT f.* FROM template_version_presets p, prebuild_forecast(p.id, $at, '2030-06-04') f ORDER BY p.name, 1",
	"SELECT prebuild_cron_matches('* 9-18 * * 1-5', 'Europe/Berlin', $at)",
	"SELECT prebuild_schedules_check('{* 9-18 * * 1-5,* 10 * * *}')",
	'SELECT prebuild_system_user()');
foreach my $query (@reads)
{
	my $expected = $primary->safe_psql($db, $query);
	isnt($expected, '', "rows: $query");
	is($standby->safe_psql($db, $query), $expected, "the standby says the same: $query");
}

foreach my $write ('prebuild_reconcile()', 'prebuild_pause()', 'prebuild_resume()', q{prebuild_stage(fixture.v('v2'))},
	q{prebuild_unstage(fixture.v('v2'))}, q{prebuild_promote(fixture.v('v2'), true)}, 'prebuild_clean()', q{prebuild_retry(fixture.p('ill'))})
{
	my ($status, $out, $err) = $standby->psql($db, "SELECT $write");
	like($err, qr/read-only transaction|during recovery/, "$write fails with the usual error");
}
is($standby->safe_psql($db, 'SELECT count(*) FROM prebuild_running()'),
	9, 'and the session after it is fine');

# the plan has all of it, and the kept pool says the same on the standby, too
my $plan = $primary->safe_psql($db, $reads[1]);
like($plan, qr/$_/, "the plan says: $_") foreach 'agent "ill-1" is in state start_error', 'agent "ill-2" is still in state starting',
  'agent "ill-3" has been disconnected since', '2 left by failed', 'retry 1 of 2', 'no_provisioner';
$primary->safe_psql($db, 'SELECT prebuild_attach()');
is($primary->safe_psql($db, $reads[1]), $plan, 'attached, too');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql($db, $reads[1]), $plan, 'and so does the standby');
# the session on the standby keeps what a policy has learnt, and the demands of the day: it knows what is new
$primary->safe_psql($db, q{CALL fixture.ask('2030-06-02 13:00Z', '2030-06-03 10:00Z')});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(answer($reader, $sized), '1|policy|4.00 times', 'with new demands');
$primary->safe_psql($db, q{UPDATE prebuild_policy_choice SET learnt = ARRAY[50, 5, 0, 1, 0, 3e8, 3e8] || array_fill(5 / 24::float8, ARRAY[672]);
	DELETE FROM prebuild_demand_log WHERE at = '2030-06-03 09:00Z'; CALL fixture.ask(VARIADIC array_fill('2030-06-03 09:30Z'::timestamptz, ARRAY[7]))});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
my $wanted = $primary->safe_psql($db, $sized);
is(answer($reader, $sized), $wanted, "with other ones, and a policy that has learnt anew: $wanted");
$primary->safe_psql($db, q{SELECT prebuild_detach(); UPDATE template_version_presets SET desired_instances = 0 WHERE name IN ('ill', 'never');
	UPDATE workspaces SET deleted = true WHERE name ~ '^(ill|left|undeleted)'});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

$primary->stop;
$standby->promote;
is(answer($reader, $sized), $wanted, 'after the promotion the session that kept the policy and the demands answers as before');
my ($more) = $wanted =~ /^(\d+)\|/;
is(answer($reader, "SELECT created, failed FROM prebuild_reconcile($at)"),
	4 + $more . '|0', 'and its pass does what was missing, and what the policy wants');
$standby->safe_psql($db, 'SELECT fixture.finish_jobs()');
is($standby->safe_psql($db, "SELECT sum(eligible), sum(desired) FROM prebuild_state($at)"),
	10 + $more . '|' . (10 + $more), 'and the pool is right');
$reader->quit;

$standby->stop;
done_testing();
