# Each function is the first that a fresh session calls, on an attached control plane whose database has
# workers, as the simplest statement there is. What a session sets up at its first call must not depend on
# another function, nor on a transaction that is there already: a server with assertions tells.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('first_call', q{shared_preload_libraries = 'prebuild_ext'}, q{prebuild.databases = 'plane'},
	q{prebuild.worker_role = 'postgres'}, 'prebuild.metadata_insert_missing = on', 'fsync = off');
my $db = new_control_plane($node, 'plane');

$node->safe_psql($db, q{
	SELECT fixture.simple('one', 3), fixture.usr('ada'), fixture.agents(1);
	SELECT fixture.version('one', 'one-v2', active => false), fixture.preset('one-v2', 'two', 1);
	SELECT prebuild_attach(metadata_fanout => true, guard_claims => true);
	SELECT prebuild_reconcile(); SELECT fixture.finish_jobs()});
wait_until($node, $db, q{SELECT count(*) = 2 FROM prebuild_worker_status WHERE state = 'serving'});

my $preset = $node->safe_psql($db, q{SELECT fixture.p('one')});
my $template = $node->safe_psql($db, q{SELECT fixture.t('one')});
my $version = $node->safe_psql($db, q{SELECT fixture.v('one-v2')});
my $ada = $node->safe_psql($db, q{SELECT fixture.usr('ada')});
my $agent = $node->safe_psql($db, q{SELECT a.id FROM workspace_agents a WHERE id <> fixture.a(1) LIMIT 1});
my $workspace = $node->safe_psql($db, 'SELECT id FROM prebuild_running() LIMIT 1');
my $build = $node->safe_psql($db, "SELECT id FROM workspace_builds WHERE workspace_id = '$workspace'");
my $span = q{now() - interval '30 days', now()};

foreach my $call (
	"prebuild_claim('$preset', '$ada', 'first')", "prebuild_find_preset('$version', '{}', '{}')", 'prebuild_reconcile()',
	'prebuild_plan()', 'prebuild_state()', 'prebuild_running()', 'prebuild_pool()', 'prebuild_fold()', 'prebuild_rebuild()',
	'prebuild_verify()', 'prebuild_clean()', "prebuild_retry('$preset')", "prebuild_invalidate('$preset')",
	"prebuild_stage('$version')", 'prebuild_stage_status()', "prebuild_unstage('$version')",
	"prebuild_stage('$version')", "prebuild_promote('$version', true)", "prebuild_demand($span)",
	"prebuild_lead_time('$template', 'one')", "prebuild_backtest('$template', 'one', $span)", "prebuild_target('$preset')",
	'prebuild_recommend()', "prebuild_set_policy('$template', 'one', 'advise')", "prebuild_unset_policy('$template', 'one')",
	"prebuild_agent_identity('$agent')", "prebuild_agent_metadata_report('$agent', '{a}', '{1}')",
	"prebuild_agent_metadata_report_bytes('$agent', '{a}', '{1}')", 'prebuild_agent_metadata_flush()',
	"prebuild_agent_metadata_upsert('{$agent}', '{a}', '{2}', '{e}', ARRAY[now()])", "prebuild_agent_ids_notify('{$agent}')",
	"prebuild_agent_ids_encode('{$agent}')", "prebuild_agent_ids_decode('')", 'prebuild_metrics_text()',
	'prebuild_identity_stats_read()', 'prebuild_metadata_histograms()', 'prebuild_metadata_stats_read()',
	'prebuild_worker_status_read()', "prebuild_build_inputs('$preset')", "prebuild_desired_instances('$preset', now())",
	"prebuild_forecast('$preset', now(), now() + interval '1 day')", q{prebuild_cron_matches('* * * * *', 'Europe/Berlin', now())},
	q{prebuild_schedules_check('{* * * * *}')}, "prebuild_track_resource_replacement('$workspace', '$build', '{}')",
	'prebuild_pause()', 'prebuild_resume()', 'prebuild_attach()', 'prebuild_required_rights()', q{prebuild_grant('postgres')})
{
	my (undef, undef, $err) = $node->psql($db, "SET client_min_messages = error; SELECT * FROM $call");

	# the claim takes any of the prebuilds
	like($err, $call =~ /resource_replacement/ ? qr/ERROR:  (workspace \S+ has not been claimed|build \S+ does not belong to a claim)$/
		: qr/^$/, $call);
}

# plain statements that run triggers of ours first
foreach my $statement (
	"UPDATE workspaces SET name = name || 'x' WHERE id = '$workspace'", "UPDATE workspaces SET owner_id = '$ada' WHERE id = '$workspace'",
	"UPDATE users SET username = 'eve' WHERE username = 'author'", "UPDATE templates SET name = 'renamed'",
	q{UPDATE provisioner_jobs SET completed_at = now() WHERE completed_at IS NULL}, q{UPDATE workspace_agents SET lifecycle_state = 'off'},
	q{UPDATE workspace_agent_metadata SET value = '3'}, q{UPDATE template_version_presets SET desired_instances = 1},
	'TRUNCATE workspace_agent_metadata', 'DELETE FROM workspace_agents', 'SELECT count(*) FROM prebuild_metrics',
	'SELECT prebuild_detach()')
{
	is(($node->psql($db, $statement))[2], '', $statement);
}
is($node->safe_psql($db, 'SELECT count(*) FROM prebuild_worker_status WHERE last_error IS NULL AND fold_error IS NULL'), '2', 'the workers had no error');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|XX000|signal 6|signal 11/, 'no process has crashed');

$node->stop;
done_testing();
