# prebuild_clean() on 10,000 members that failures left behind: one call, a constant number of statements,
# beside a pass and claims.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('clean', 'max_connections = 40', 'fsync = off', q{shared_preload_libraries = 'pg_stat_statements,prebuild_ext'},
	'pg_stat_statements.track = all');
my $db = new_control_plane($node, 'fleet');
$node->safe_psql($db, q{
	CREATE EXTENSION pg_stat_statements;
	SELECT fixture.simple('one', 20, preset_name => 'p'), fixture.usr('ada');
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	-- members whose build failed, was canceled, or is a finished stop
	CREATE FUNCTION fixture.leak(most int) RETURNS void LANGUAGE sql AS $$
		WITH new AS (SELECT n, gen_random_uuid() AS workspace, gen_random_uuid() AS build, gen_random_uuid() AS job
				FROM generate_series(1, most) n),
			w AS (INSERT INTO workspaces (id, created_at, updated_at, owner_id, organization_id, template_id, name)
				SELECT workspace, now() - interval '1 day', now(), 'c42fdf75-3097-471c-8c33-fb52454d81c0', t.organization_id, t.id, workspace::text
				FROM new, templates t),
			j AS (INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at, canceled_at, error, organization_id,
					initiator_id, provisioner, storage_method, type, input, file_id, tags, worker_id)
				SELECT job, now(), now(), now(), now(), CASE WHEN n % 10 = 1 THEN now() END, CASE WHEN n % 10 > 2 OR n % 10 = 0 THEN 'no' END,
					t.organization_id, 'c42fdf75-3097-471c-8c33-fb52454d81c0', 'terraform', 'file', 'workspace_build', '{}',
					gen_random_uuid(), '{}', gen_random_uuid() FROM new, templates t)
		INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number, transition,
			initiator_id, job_id, template_version_preset_id, provisioner_state)
		SELECT build, now() - interval '2 days', now(), workspace, p.template_version_id, 1,
			CASE WHEN n % 10 = 2 THEN 'stop' ELSE 'start' END::workspace_transition, 'c42fdf75-3097-471c-8c33-fb52454d81c0', job, p.id, '\xfeed'
		FROM new, template_version_presets p $$;
	CREATE PROCEDURE claims(session int, n int) LANGUAGE plpgsql AS $$
	DECLARE
		got int := 0;
	BEGIN
		FOR i IN 1 .. n LOOP
			got := got + (SELECT count(*) FROM template_version_presets p, prebuild_claim(p.id,
				(SELECT id FROM users WHERE username = 'ada'), format('s%s-%s', session, i)) c);
			COMMIT;
		END LOOP;
		RAISE NOTICE 'got %', got;
	END $$;
});

# How many statements a call has; those of the foreign keys, which the server runs for each row, aside.
sub statements
{
	my ($members) = @_;

	$node->safe_psql($db, "SELECT fixture.leak($members)");
	# in one session, so that plans are kept
	return $node->safe_psql($db, q{
		SELECT FROM prebuild_clean(states => '{}');
		SELECT FROM pg_stat_statements_reset();
		SELECT failed, canceled, stopped FROM prebuild_clean();
		SELECT sum(calls) FILTER (WHERE NOT toplevel AND query NOT LIKE '%FROM ONLY%FOR KEY SHARE OF x') FROM pg_stat_statements}) =~ s/^\n+//r;
}
foreach my $attached (0, 1)
{
	my $how = $attached ? 'attached' : 'detached';
	my @few;
	my @many;

	$node->safe_psql($db, 'SELECT prebuild_attach(); SELECT prebuild_reconcile()') if $attached;
	@few = split /\n/, statements(10);
	@many = split /\n/, statements(10000);
	is($few[0], '8|1|1', "$how: 10 go");
	is($many[0], '8000|1000|1000', "$how: 10,000 go in one call");
	cmp_ok($few[1], '<', 40, "$how: $few[1] statements for 10");
	# where the log has more than a reader takes from it, one less
	cmp_ok($many[1], '<=', $few[1], "$how: no more for 10,000");
	is($node->safe_psql($db, q{SELECT count(*), count(*) FILTER (WHERE provisioner_state = '\xfeed') FROM workspace_builds b
		JOIN provisioner_jobs j ON j.id = b.job_id WHERE transition = 'delete' AND job_status = 'pending'}), '10010|10010',
		"$how: each has one delete build, with the state");
	is($node->safe_psql($db, 'SELECT failed, canceled, stopped FROM prebuild_clean()'), '0|0|0', "$how: then none is left");
	is($node->safe_psql($db, 'SELECT eligible FROM prebuild_state()'), 20, "$how: what serves stays");
	$node->safe_psql($db, 'SELECT prebuild_reconcile()') if $attached;
	is($node->safe_psql($db, 'SELECT * FROM prebuild_verify()'), '', "$how: the kept pool is right");
	$node->safe_psql($db, q{UPDATE provisioner_jobs SET started_at = now(), completed_at = now() WHERE job_status = 'pending';
		UPDATE workspaces w SET deleted = true FROM workspace_builds b WHERE b.workspace_id = w.id AND b.transition = 'delete'});
}

# Beside passes that clean up, too, and claims: each member gets one delete build, nobody fails.
$node->safe_psql($db, 'TRUNCATE prebuild_failure, prebuild_forgiven; SELECT fixture.leak(3000)');
my $start = $node->safe_psql($db, q{SELECT now() + interval '1 s'});
my $wait = "SELECT pg_sleep(extract(epoch FROM '$start' - clock_timestamp())) \\g /dev/null\n";
my @said = run_in_parallel($node, $db,
	$wait . 'SELECT failed + canceled + stopped FROM prebuild_clean()',
	$wait . 'SELECT failed + canceled + stopped FROM prebuild_clean()',
	$wait . "SET prebuild.failed_retention = '1h'; SET prebuild.failed_keep = 0; SELECT deleted FROM prebuild_reconcile()",
	map { $wait . "CALL claims($_, 5)" } 1 .. 4);
is($said[0] + $said[1] + $said[2], 3000, "two calls and a pass share 3,000: @said[0 .. 2]");
is($node->safe_psql($db, q{SELECT count(*), count(DISTINCT workspace_id) FROM workspace_builds b JOIN provisioner_jobs j ON j.id = b.job_id
	WHERE transition = 'delete' AND job_status = 'pending'}), '3000|3000', 'each has one delete build');
is(join(' ', map { /got (\d+)/ } @said[3 .. 6]), '5 5 5 5', 'every claim got one');
is($node->safe_psql($db, q{SELECT count(*) FROM workspaces w JOIN workspace_builds b ON b.workspace_id = w.id AND b.transition = 'delete'
	WHERE w.owner_id <> prebuild_system_user()}), 0, 'and none of them is deleted');
is($node->safe_psql($db, 'SELECT * FROM prebuild_verify()'), '', 'the kept pool is right');

$node->stop;
done_testing();
