# The stored pool of an attached control plane is what the tables say, in every snapshot, while
# everything that it depends on changes at random, at every isolation level, in subtransactions and
# prepared transactions, while it is folded, rebuilt and distrusted; on a standby too.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $transactions = $ENV{PREBUILD_POOL_TRANSACTIONS} // 1500;
srand($ENV{PREBUILD_POOL_SEED} // time);

my $primary = new_server('primary', 'max_prepared_transactions = 10', 'max_connections = 40',
	'wal_level = replica', 'hot_standby_feedback = on', 'max_standby_streaming_delay = -1',
	q{prebuild.disconnected_grace = '1s'});
my $db = new_control_plane($primary, 'fleet');
$primary->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, 20) FROM generate_series(1, 5) n;
	SELECT fixture.usr('ada');
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	SELECT prebuild_attach();

	-- the rows of prebuild_running(), said in another way
	CREATE VIEW fixture.running AS
	SELECT w.id, w.name::text, w.template_id, b.template_version_id,
	       (SELECT pb.template_version_preset_id FROM workspace_builds pb
	        WHERE pb.workspace_id = w.id AND pb.transition = 'start'
	        AND pb.template_version_preset_id IS NOT NULL
	        ORDER BY pb.build_number DESC LIMIT 1) AS current_preset_id,
	       EXISTS (SELECT FROM fixture.agent a WHERE a.job_id = b.job_id)
	       AND NOT EXISTS (SELECT FROM fixture.agent a WHERE a.job_id = b.job_id
	                       AND a.lifecycle_state <> 'ready') AS ready, w.created_at
	FROM workspaces w
	JOIN workspace_builds b ON b.workspace_id = w.id AND b.build_number =
	     (SELECT max(o.build_number) FROM workspace_builds o WHERE o.workspace_id = w.id)
	JOIN provisioner_jobs j ON j.id = b.job_id
	WHERE w.owner_id = prebuild_system_user() AND NOT w.deleted
	AND b.transition = 'start' AND j.job_status = 'succeeded';

	-- how many of these have an agent that has not been seen for a second
	CREATE VIEW fixture.silent AS
	SELECT r.id FROM fixture.running r WHERE r.current_preset_id IS NOT NULL AND EXISTS (
		SELECT FROM workspace_builds b JOIN fixture.agent a ON a.job_id = b.job_id
		WHERE b.workspace_id = r.id AND b.build_number =
			(SELECT max(o.build_number) FROM workspace_builds o WHERE o.workspace_id = r.id)
		AND a.first_connected_at IS NOT NULL
		AND greatest(a.first_connected_at, a.last_connected_at, a.disconnected_at) < now() - interval '1 s');

	-- how many rows prebuild_running() and the view do not have in common, in one snapshot
	CREATE FUNCTION fixture.wrong() RETURNS bigint LANGUAGE sql STABLE AS $$
		SELECT (SELECT count(*) FROM (TABLE fixture.running EXCEPT SELECT * FROM prebuild_running()) x)
		     + (SELECT count(*) FROM (SELECT * FROM prebuild_running() EXCEPT TABLE fixture.running) x)
		     + (SELECT count(*) FROM prebuild_verify())
		     + abs((SELECT sum(sick) FROM prebuild_state()) - (SELECT count(*) FROM fixture.silent))
	$$;
} =~ s/(CREATE VIEW fixture\.running)/CREATE VIEW fixture.agent AS
	SELECT r.job_id, a.lifecycle_state, a.first_connected_at, a.last_connected_at, a.disconnected_at
	FROM workspace_resources r
	JOIN workspace_agents a ON a.resource_id = r.id WHERE NOT a.deleted AND a.parent_id IS NULL;
	$1/r);

# One random change of one row that the pool may depend on; those that constraints refuse are not
# made. Rows are picked by chance from the pool's surroundings.
$primary->safe_psql($db, q{
	CREATE FUNCTION fixture.any_workspace() RETURNS uuid LANGUAGE sql VOLATILE AS $$
		SELECT id FROM workspaces ORDER BY random() LIMIT 1 $$;
	CREATE FUNCTION fixture.any_job() RETURNS uuid LANGUAGE sql VOLATILE AS $$
		SELECT job_id FROM workspace_builds ORDER BY random() LIMIT 1 $$;
	CREATE FUNCTION fixture.any_resource() RETURNS uuid LANGUAGE sql VOLATILE AS $$
		SELECT id FROM workspace_resources ORDER BY random() LIMIT 1 $$;
	CREATE FUNCTION fixture.change(kind int DEFAULT floor(random() * 28)::int) RETURNS void
	LANGUAGE plpgsql AS $$
	DECLARE
		workspace uuid := fixture.any_workspace();
		job uuid := fixture.any_job();
		resource uuid := fixture.any_resource();
		agent uuid := (SELECT id FROM workspace_agents ORDER BY random() LIMIT 1);
		latest workspace_builds := (SELECT b FROM workspace_builds b
			WHERE b.workspace_id = workspace ORDER BY build_number DESC LIMIT 1);
		new_job uuid := gen_random_uuid();
	BEGIN
		CASE kind
			WHEN 0 THEN UPDATE workspaces SET owner_id = (SELECT id FROM users WHERE username = 'ada')
				WHERE id = workspace;
			WHEN 1, 2, 3 THEN UPDATE workspaces SET owner_id = prebuild_system_user(), deleted = false
				WHERE id = workspace;
			WHEN 4 THEN UPDATE workspaces SET deleted = NOT deleted WHERE id = workspace;
			WHEN 5 THEN UPDATE workspaces SET name = 'n' || gen_random_uuid(),
				created_at = created_at + interval '1 s' WHERE id = workspace;
			WHEN 6, 7, 8 THEN
				INSERT INTO provisioner_jobs (id, created_at, updated_at, started_at, completed_at,
					organization_id, initiator_id, provisioner, storage_method, type, input, file_id,
					tags)
				SELECT new_job, now(), now(), now(), CASE WHEN random() < 0.7 THEN now() END,
					o.organization_id, o.initiator_id, o.provisioner, o.storage_method, o.type, '{}',
					o.file_id, o.tags FROM provisioner_jobs o WHERE o.id = latest.job_id;
				INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id,
					template_version_id, build_number, transition, initiator_id, job_id,
					template_version_preset_id)
				VALUES (gen_random_uuid(), now(), now(), workspace, latest.template_version_id,
					latest.build_number + 1,
					(CASE WHEN random() < 0.8 THEN 'start' ELSE 'stop' END)::workspace_transition,
					prebuild_system_user(), new_job, (SELECT id FROM template_version_presets
						WHERE random() < 0.6 ORDER BY random() LIMIT 1));
			WHEN 9 THEN DELETE FROM workspace_builds WHERE id = latest.id AND latest.build_number > 1;
			WHEN 10 THEN UPDATE workspace_builds SET build_number = build_number + 7 WHERE id = latest.id;
			WHEN 11 THEN
				-- a build changes its workspace
				UPDATE workspace_builds SET workspace_id = fixture.any_workspace(),
					build_number = build_number + 100 + (random() * 1000)::int
				WHERE id = latest.id AND latest.build_number > 1;
			WHEN 12 THEN UPDATE provisioner_jobs
				SET completed_at = CASE WHEN completed_at IS NULL THEN now() END WHERE id = job;
			WHEN 13 THEN UPDATE provisioner_jobs
				SET error = CASE WHEN error IS NULL THEN 'e' END WHERE id = job;
			WHEN 14 THEN UPDATE provisioner_jobs
				SET canceled_at = CASE WHEN canceled_at IS NULL THEN now() END WHERE id = job;
			WHEN 15 THEN INSERT INTO workspace_resources (id, created_at, job_id, transition, type, name)
				VALUES (gen_random_uuid(), now(), job, 'start', 'machine', 'more');
			WHEN 16 THEN UPDATE workspace_resources SET job_id = job WHERE id = resource;
			WHEN 17 THEN DELETE FROM workspace_resources WHERE id = resource;
			WHEN 18 THEN INSERT INTO workspace_agents (id, created_at, updated_at, name, resource_id,
					auth_token, architecture, operating_system, lifecycle_state)
				SELECT gen_random_uuid(), now(), now(), 'm' || gen_random_uuid(), resource,
					gen_random_uuid(), 'amd64', 'linux',
					(CASE WHEN random() < 0.8 THEN 'ready' ELSE 'starting' END)::workspace_agent_lifecycle_state;
			WHEN 19 THEN UPDATE workspace_agents SET resource_id = resource WHERE id = agent;
			WHEN 20 THEN UPDATE workspace_agents SET lifecycle_state =
					(CASE WHEN random() < 0.8 THEN 'ready' ELSE 'starting' END)::workspace_agent_lifecycle_state,
				deleted = random() < 0.1 WHERE id = agent;
			WHEN 21 THEN DELETE FROM workspace_agents WHERE id = agent;
			WHEN 22, 23, 24 THEN UPDATE workspace_agents SET first_connected_at = coalesce(first_connected_at, now()),
				last_connected_at = clock_timestamp(), disconnected_at = NULL WHERE id = agent;
			WHEN 25 THEN UPDATE workspace_agents SET disconnected_at = clock_timestamp() WHERE id = agent;
			WHEN 26, 27 THEN UPDATE workspace_agents SET
				first_connected_at = CASE WHEN random() < 0.8 THEN now() - random() * interval '5 s' END,
				last_connected_at = CASE WHEN random() < 0.8 THEN now() - random() * interval '5 s' END,
				disconnected_at = CASE WHEN random() < 0.3 THEN now() - random() * interval '5 s' END WHERE id = agent;
		END CASE;
	EXCEPTION
		WHEN unique_violation OR foreign_key_violation OR not_null_violation THEN NULL;
	END
	$$;
});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# A writer's script.
sub writer
{
	my ($number) = @_;
	my @levels = ('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $script = "\\set ON_ERROR_STOP 0\nSET client_min_messages = panic;\nSET lock_timeout = '2s';\n";

	foreach my $n (1 .. $transactions)
	{
		$script .= "BEGIN ISOLATION LEVEL $levels[ rand @levels ];\n";
		$script .= 'SELECT fixture.change()' . (' , fixture.change()' x int(rand 3)) . " \\g /dev/null\n";
		if (rand() < 0.2)
		{
			$script .= "SAVEPOINT s; SELECT fixture.change() \\g /dev/null\n";
			# by itself and from within a statement that writes
			$script .= (rand() < 0.5 ? 'SELECT count(*) AS w FROM prebuild_verify() \gset x'
				: 'SELECT fixture.change(), fixture.wrong() AS w \gset x') . "\n\\echo own :xw\n"
			  if rand() < 0.4;
			$script .= rand() < 0.5 ? "ROLLBACK TO s;\n" : "RELEASE s;\n";
		}
		$script .=
		    rand() < 0.1  ? "PREPARE TRANSACTION 'w$number'; SELECT pg_sleep(0.01) \\g /dev/null\n"
		  . "COMMIT PREPARED 'w$number';\n"
		  : rand() < 0.1 ? "ROLLBACK;\n"
		  :                "COMMIT;\n";
	}
	return $script;
}

# A reader's script: several looks in each transaction, with time between them.
sub reader
{
	my ($level, $looks) = @_;
	my $look = "SELECT 'wrong', fixture.wrong();\n";

	return "\\set ON_ERROR_STOP 0\n"
	  . "BEGIN ISOLATION LEVEL $level;\n$look SELECT pg_sleep(random() * 0.05) \\g /dev/null\n${look}COMMIT;\n" x $looks;
}

my $folder = q{
	SELECT prebuild_fold() \g /dev/null
	SELECT pg_sleep(random() * 0.02) \g /dev/null
} x $transactions;

# what makes the stored pool untrue, but for the fingerprint
my $vandal = q{
	\set ON_ERROR_STOP 0
	SET client_min_messages = panic;
	SET lock_timeout = '1s';
} . (q{
	SELECT pg_sleep(random() * 0.5) \g /dev/null
	BEGIN;
	ALTER TABLE workspace_agents DISABLE TRIGGER ALL;
	UPDATE workspace_agents SET lifecycle_state = 'starting';
	ALTER TABLE workspace_agents ENABLE TRIGGER ALL;
	ALTER TABLE workspace_agents ENABLE ALWAYS TRIGGER prebuild_pool_log;
	ALTER TABLE workspace_agents ENABLE ALWAYS TRIGGER prebuild_pool_truncated;
	COMMIT;
	SELECT pg_sleep(random() * 0.2) \g /dev/null
	SELECT prebuild_rebuild() \g /dev/null
} x 4 . q{
	SELECT pg_sleep(random() * 0.5) \g /dev/null
	SELECT prebuild_detach() \g /dev/null
	SELECT fixture.change() FROM generate_series(1, 5) \g /dev/null
	SELECT prebuild_attach() \g /dev/null
}) x 2;

my ($looks, $wrong, $bypassed, $own, $round) = (0, 0, 0, 0, 0);
race_until(
	sub { return $looks > 1000 && $own > 20 && $looks - $bypassed > 20; },
	4,
	sub {
		my @writers = map { start_session($primary, $db, writer($_ + 4 * $round)) } 1 .. 4;
		my @folders = map { start_session($primary, $db, $_) } $folder, $vandal;
		my @readers = map { start_session($primary, $db, $_) } reader('READ COMMITTED', 150),
		  reader('REPEATABLE READ', 150), reader('SERIALIZABLE', 20);
		push @readers, map { start_session($standby, $db, $_) } reader('READ COMMITTED', 150),
		  reader('REPEATABLE READ', 150);

		$round++;
		foreach my $session (@readers)
		{
			ok(finish_session($session), 'a reader reads to its end') or diag($session->{output});
			$looks += () = $session->{output} =~ /^wrong\|/mg;
			$wrong += $_ foreach $session->{output} =~ /^wrong\|(\d+)/mg;
			$bypassed += () = $session->{output} =~ /not in use/g;
		}
		foreach my $session (@writers)
		{
			finish_session($session);
			$own += () = $session->{output} =~ /^own \d/mg;
			$wrong += $_ foreach $session->{output} =~ /^own (\d+)/mg;
		}
		ok(finish_session($_), 'folds go on') or diag($_->{output}) foreach @folders;
		# The last one to attach may have found no moment without a writer within prebuild.attach_timeout.
		$primary->safe_psql($db, 'SELECT prebuild_attach()');
	});

cmp_ok($looks, '>', 1000, "$looks looks at the pool");
cmp_ok($own, '>', 20, "$own of them by those who had just changed it");
cmp_ok($looks - $bypassed, '>', 20, 'the stored pool was read ' . ($looks - $bypassed) . ' times');
is($wrong, 0, 'and no row was wrong');

$primary->safe_psql($db, 'SELECT prebuild_fold()');
my $kept = q{SELECT count(*) FROM prebuild_pool_marker WHERE fingerprint !~ '^not kept'};
is($primary->safe_psql($db, $kept), 1, 'the pool is kept');
is($primary->safe_psql($db, 'SELECT fixture.wrong(), count(*) FROM prebuild_pool_log'),
	'0|0', 'after the last fold nothing is left in the log');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql($db, 'SELECT fixture.wrong()'), 0, 'nor on the standby');

# promoted, the standby is another database cluster with the same rows
$primary->stop;
$standby->promote;
is($standby->safe_psql($db, q{
	UPDATE workspaces SET owner_id = prebuild_system_user(), deleted = NOT deleted;
	SELECT prebuild_fold() > 0;
	SELECT fixture.wrong();
}), "t\n0", 'a promoted standby goes on');
$standby->stop;
done_testing();
