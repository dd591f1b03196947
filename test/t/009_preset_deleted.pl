# A preset is deleted while a pass is making prebuilds of it: nothing half made stays behind, and the
# pass says what it did.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('deleted');

# where the pass waits for lock 99, and what it has written by then
my %moment = (
	organization_members => 'nothing of the preset',
	workspaces => 'the workspaces',
	provisioner_jobs => 'the workspaces and jobs');

foreach my $table (sort keys %moment)
{
	my $db = new_control_plane($node, "at_$table");
	$node->safe_psql($db, qq{
		SELECT fixture.template('one'), fixture.version('one', 'v1');
		SELECT fixture.preset('v1', p, 2) FROM unnest('{stays,goes}'::text[]) p;
		CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_advisory_xact_lock_shared(99); RETURN NULL; END';
		CREATE TRIGGER wait AFTER INSERT ON $table FOR EACH STATEMENT EXECUTE FUNCTION wait();
	});
	my $gate = $node->background_psql($db);
	$gate->query_safe('SELECT pg_advisory_lock(99)');
	my $pass = start_session($node, $db,
		"SET client_min_messages = error; SELECT created FROM prebuild_reconcile()");
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE wait_event_type = 'Lock' AND datname = current_database()});
	# it may have to wait for the pass, or not
	my $delete = start_session($node, $db, q{DELETE FROM template_version_presets WHERE name = 'goes'});
	wait_until($node, $db, q{SELECT
		NOT EXISTS (SELECT FROM template_version_presets WHERE name = 'goes')
		OR (SELECT count(*) = 2 FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database())});
	$gate->query_safe('SELECT pg_advisory_unlock(99)');
	ok(finish_session($pass), "$moment{$table} written: the pass succeeds");
	ok(finish_session($delete), "$moment{$table} written: so does the deletion");
	$gate->quit;

	is($node->safe_psql($db, q{SELECT count(*) FROM workspaces w
		WHERE NOT EXISTS (SELECT FROM workspace_builds b WHERE b.workspace_id = w.id)}),
		'0', "$moment{$table} written: no workspace is without a build");
	is($node->safe_psql($db, q{SELECT count(*) FROM provisioner_jobs j
		WHERE j.type = 'workspace_build'
		AND NOT EXISTS (SELECT FROM workspace_builds b WHERE b.job_id = j.id)}),
		'0', "$moment{$table} written: no job is without a build");
	is($node->safe_psql($db, 'SELECT count(*) FROM workspaces'),
		$pass->{output}, "$moment{$table} written: the pass made as many as it says");
}

$node->stop;
done_testing();
