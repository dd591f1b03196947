# The checker of the crash campaign names each broken promise, when somebody breaks it by hand.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('invariants', 'max_prepared_transactions = 2', 'fsync = off', q{prebuild.max_surge = '1'},
	'prebuild.metadata_insert_missing = on');
my $db = new_control_plane($node, 'plane');
my $fixture = "$FindBin::Bin/../fixture";

# Two claims, of which a client knows, the first followed by a build of the new owner; somebody who got
# none; a version that is active because it was promoted; a report that was flushed.
$node->safe_psql($db, join ";\n", slurp_file("$fixture/load.sql"), slurp_file("$fixture/invariants.sql"), 'CALL load.prepare()');
$node->safe_psql($db, q{
	SELECT prebuild_stage(load.version(2), promote => true);
	SELECT FROM prebuild_reconcile(clock_timestamp()); SELECT fixture.finish_jobs(clock_timestamp());
	SELECT FROM prebuild_reconcile(clock_timestamp()); SELECT fixture.finish_jobs(clock_timestamp());
	SELECT FROM prebuild_reconcile(clock_timestamp()); SELECT fixture.finish_jobs(clock_timestamp());
	INSERT INTO invariant.told_claims SELECT c.id, o.id, c.name FROM (VALUES (1), (2)) n (n), LATERAL (SELECT load.owner() AS id WHERE n > 0) o,
		template_version_presets p JOIN templates t ON t.active_version_id = p.template_version_id, LATERAL prebuild_claim(p.id, o.id, 'mine-' || n, at => clock_timestamp()) c
	WHERE p.name = 'steady';
	SELECT fixture.build('mine-1', 'start', initiator => (SELECT owner_id FROM workspaces WHERE name = 'mine-1'), created => clock_timestamp());
	SELECT FROM prebuild_reconcile(clock_timestamp()); SELECT fixture.finish_jobs(clock_timestamp());
	SELECT FROM prebuild_agent_metadata_report(fixture.a(1), '{cpu}', '{7}');
	INSERT INTO invariant.told_reports VALUES (fixture.a(1), 'cpu', 7);
	-- somebody who got none
	INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
	SELECT gen_random_uuid(), now(), now(), load.owner(), organization_id, id, 'cold' FROM templates;
	SELECT fixture.build('cold', 'start', version_id => (SELECT active_version_id FROM templates),
		initiator => (SELECT owner_id FROM workspaces WHERE name = 'cold'), created => clock_timestamp());
	UPDATE workspace_builds SET template_version_preset_id = (SELECT p.id FROM template_version_presets p
		JOIN templates t ON t.active_version_id = p.template_version_id WHERE p.name = 'steady')
	WHERE workspace_id = fixture.w('cold');
	SELECT FROM prebuild_reconcile(clock_timestamp()); SELECT fixture.finish_jobs(clock_timestamp()); SELECT prebuild_fold();

	-- what the violations below need: builds with parameters, a member of the pool
	CREATE FUNCTION parameters() RETURNS void LANGUAGE sql AS $$ INSERT INTO workspace_build_parameters
		SELECT b.id, 'size', 'small' FROM workspace_builds b WHERE b.initiator_id = prebuild_system_user()
		AND NOT EXISTS (SELECT FROM workspace_build_parameters p WHERE p.workspace_build_id = b.id) $$;
	CREATE FUNCTION extra(new_name text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
		SELECT gen_random_uuid(), now(), now(), prebuild_system_user(), organization_id, id, new_name FROM templates;
		SELECT fixture.build(new_name, 'start', 'running', version_id => (SELECT active_version_id FROM templates), created => clock_timestamp());
		UPDATE workspace_builds SET template_version_preset_id = (SELECT p.id FROM template_version_presets p
			JOIN templates t ON t.active_version_id = p.template_version_id WHERE p.name = 'steady')
		WHERE workspace_id = fixture.w(new_name) $$;
	CREATE FUNCTION member() RETURNS text LANGUAGE sql AS $$ SELECT name FROM prebuild_running() ORDER BY id LIMIT 1 $$;
});
is($node->safe_psql($db, q{SELECT count(*) FROM invariant.demands WHERE warm}) . $node->safe_psql($db, q{SELECT count(*) FROM invariant.demands WHERE NOT warm}),
	'21', 'two got a prebuild and one did not');
is($node->safe_psql($db, 'SELECT * FROM invariant.broken'), '', 'nothing is broken at first');

# What is named when these statements have broken something. They are rolled back.
sub broken_after
{
	my ($statements) = @_;

	return $node->safe_psql($db, qq{BEGIN; SET LOCAL session_replication_role = replica; DO \$do\$ BEGIN $statements; END \$do\$;
		SELECT string_agg(DISTINCT invariant, ' ' ORDER BY invariant) FROM invariant.broken; ROLLBACK});
}

my $jobs = 'builds_have_their_jobs';
foreach my $case (
	[ 'a pool that is too large', 'pool_at_most_target_and_surge', q{PERFORM extra('extra-' || n) FROM generate_series(1, 2) n; PERFORM parameters()} ],
	[ 'a build without its job', $jobs, q{DELETE FROM provisioner_jobs WHERE id = (SELECT job_id FROM workspace_builds WHERE workspace_id = fixture.w('mine-1') AND build_number = 2)} ],
	[ 'a build with the job of another one', $jobs, q{UPDATE provisioner_jobs SET input = jsonb_build_object('workspace_build_id', gen_random_uuid())
		WHERE id = (SELECT job_id FROM workspace_builds WHERE workspace_id = fixture.w('mine-1') AND build_number = 2)} ],
	[ 'a job without its build', $jobs, q{DELETE FROM workspace_builds WHERE workspace_id = fixture.w('mine-1') AND build_number = 2} ],
	[ 'a workspace without a build', $jobs, q{INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
		SELECT gen_random_uuid(), now(), now(), prebuild_system_user(), organization_id, id, 'bare' FROM templates} ],
	[ 'a build without its parameters', $jobs, q{DELETE FROM workspace_build_parameters WHERE workspace_build_id = fixture.latest(member())} ],
	[ 'two claims that got the same', 'claimed_once', q{INSERT INTO invariant.told_claims SELECT * FROM invariant.told_claims WHERE name = 'mine-1'} ],
	[ 'a claim that is lost', 'claims_are_kept', q{UPDATE workspaces SET name = 'other' WHERE name = 'mine-1'} ],
	[ 'a claim that is another user\'s', 'claims_are_kept', q{UPDATE workspaces SET owner_id = fixture.usr('author') WHERE name = 'mine-1'} ],
	[ 'a claim that is in the pool again', 'claims_are_kept demand_is_complete', q{UPDATE workspaces SET owner_id = prebuild_system_user() WHERE name = 'mine-2'} ],
	[ 'a delete build of what was claimed', 'nothing_claimed_is_deleted', q{PERFORM fixture.build('mine-1', 'delete', 'running'); PERFORM parameters()} ],
	[ 'a deleted workspace that was claimed', 'nothing_claimed_is_deleted', q{UPDATE workspaces SET deleted = true WHERE name = 'mine-1'} ],
	[ 'two jobs for a build', "$jobs jobs_are_posted_once", q{INSERT INTO provisioner_jobs (id, created_at, updated_at, initiator_id, provisioner, storage_method, type, input, file_id, organization_id)
		SELECT gen_random_uuid(), created_at, updated_at, initiator_id, provisioner, storage_method, type, input, file_id, organization_id
		FROM provisioner_jobs WHERE id = (SELECT job_id FROM workspace_builds WHERE id = fixture.latest(member()))} ],
	[ 'two builds under way', 'jobs_are_posted_once', q{PERFORM fixture.build('mine-1', 'start', 'pending', initiator => fixture.usr('author')) FROM generate_series(1, 2)} ],
	[ 'a member that is deleted twice', 'jobs_are_posted_once', q{DECLARE m text := member(); BEGIN PERFORM fixture.build(m, 'delete', 'succeeded') FROM generate_series(1, 2); PERFORM parameters(); END} ],
	[ 'a member that the kept pool lacks', 'kept_pool_is_the_defined_one', q{DELETE FROM prebuild_pool_state WHERE name = member()} ],
	[ 'a member that it has wrong', 'kept_pool_is_the_defined_one', q{UPDATE prebuild_pool_state SET ready = NOT ready WHERE name = member()} ],
	[ 'a demand that was lost', 'demand_is_complete', q{DELETE FROM prebuild_demand_log WHERE workspace_id = fixture.w('mine-2')} ],
	[ 'a demand that nobody had', 'demand_is_complete', q{INSERT INTO prebuild_demand_log SELECT control_plane, gen_random_uuid(), template_id, preset_name, at, warm FROM prebuild_demand_log LIMIT 1} ],
	[ 'a demand of the wrong kind', 'demand_is_complete', q{UPDATE prebuild_demand_log SET warm = true WHERE NOT warm} ],
	[ 'a version that was promoted twice', 'promotions_are_whole', q{INSERT INTO prebuild_event (at, kind, template_id, detail) SELECT at, kind, template_id, detail FROM prebuild_event WHERE kind = 'promoted'} ],
	[ 'an active version that is staged', 'promotions_are_whole', q{INSERT INTO prebuild_stage SELECT 'public', id, active_version_id, gen_random_uuid(), 1, true, NULL, now() FROM templates} ],
	[ 'half a promotion', 'promotions_are_whole', q{UPDATE templates SET active_version_id = fixture.v('app-v1')} ],
	[ 'a report that was lost', 'flushed_reports_are_kept', q{DELETE FROM workspace_agent_metadata WHERE workspace_agent_id = fixture.a(1)} ],
	[ 'a report that is old', 'flushed_reports_are_kept', q{UPDATE workspace_agent_metadata SET value = '6' WHERE workspace_agent_id = fixture.a(1)} ])
{
	my ($what, $names, $statements) = @$case;

	is(broken_after($statements), $names, $what);
}

# locks without a session
$node->safe_psql($db, q{BEGIN; LOCK TABLE invariant.told_claims IN ROW SHARE MODE; PREPARE TRANSACTION 'left'});
is($node->safe_psql($db, 'SELECT DISTINCT invariant FROM invariant.broken'), 'locks_have_sessions', 'locks that somebody has left');
$node->safe_psql($db, q{ROLLBACK PREPARED 'left'});
is($node->safe_psql($db, 'SELECT * FROM invariant.broken'), '', 'nothing is broken in the end');

$node->stop;
done_testing();
