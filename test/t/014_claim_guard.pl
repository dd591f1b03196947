# The guard of claims on a running server: sessions that claim by one plain statement, as coderd does,
# passes, and a builder that deletes in REPEATABLE READ without a lock, as coderd's reconciler does.
# No prebuild goes to two of them, and nobody gets one that is being deleted.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $seconds = $ENV{PREBUILD_RACE_SECONDS} // 10;
my $sessions = 8;
my $node = new_server('claim_guard', 'max_connections = 20', 'fsync = off', q{deadlock_timeout = '50ms'});
my $db = new_control_plane($node, 'race');

$node->safe_psql($db, q{
	SELECT prebuild_attach(guard_claims => true);
	SELECT fixture.simple('one', 30, preset_name => 'p'), fixture.usr('ada');
	CREATE TABLE stop (at timestamptz);
	CREATE TABLE given (workspace_id uuid, name text);
	CREATE TABLE done (what text, n bigint);
	-- names that no two claims have
	CREATE SEQUENCE claim;

	-- all of it in a WITH query, through which no row is locked
	CREATE VIEW offered AS
		WITH pool AS (
			SELECT p.id, p.created_at, b.id AS build_id
			FROM workspaces p CROSS JOIN LATERAL (SELECT b.* FROM workspace_builds b
				WHERE b.workspace_id = p.id ORDER BY b.build_number DESC LIMIT 1) b
			JOIN provisioner_jobs j ON j.id = b.job_id
			WHERE p.owner_id = prebuild_system_user() AND b.transition = 'start'
				AND j.job_status = 'succeeded'
		)
		SELECT * FROM pool;
	-- the next build of a workspace, as it is known
	CREATE PROCEDURE add_build(last workspace_builds, change text) LANGUAGE plpgsql AS $$
	DECLARE
		job uuid;
	BEGIN
		INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id,
			initiator_id, provisioner, storage_method, type, input, file_id, tags)
		SELECT gen_random_uuid(), clock_timestamp(), clock_timestamp(), j.organization_id,
			j.initiator_id, j.provisioner, j.storage_method, j.type, '{}', j.file_id, j.tags
		FROM provisioner_jobs j WHERE j.id = last.job_id RETURNING id INTO job;
		INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id,
			template_version_id, build_number, transition, initiator_id, job_id)
		VALUES (gen_random_uuid(), clock_timestamp(), clock_timestamp(), last.workspace_id,
			last.template_version_id, last.build_number + 1, change::workspace_transition,
			last.initiator_id, job);
	END $$;
	-- every other session adds its build in the transaction of the claim
	CREATE PROCEDURE claims(session int) LANGUAGE plpgsql AS $$
	DECLARE
		ada uuid := (SELECT id FROM users WHERE username = 'ada');
		new_name text;
		got uuid;
		last workspace_builds;
		n int := 0;
		nothing int := 0;
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			n := n + 1;
			new_name := format('s%s-%s', session, nextval('claim'));
			BEGIN
				UPDATE workspaces w SET owner_id = ada, name = new_name
				WHERE w.id IN (SELECT o.id FROM offered o ORDER BY o.created_at LIMIT 1
					FOR UPDATE OF o SKIP LOCKED)
				RETURNING w.id INTO got;
				PERFORM pg_sleep(random() * 0.01);
				IF got IS NULL THEN
					-- whoever finds nothing leaves something to the others
					nothing := nothing + 1;
					PERFORM pg_sleep(0.05);
				ELSIF session % 2 = 0 THEN
					SELECT b.* INTO last FROM workspace_builds b
					WHERE b.workspace_id = got ORDER BY b.build_number DESC LIMIT 1;
					CALL add_build(last, 'start');
				END IF;
			EXCEPTION WHEN deadlock_detected OR unique_violation THEN
				got := NULL;
			END;
			IF n % 7 = 6 THEN
				ROLLBACK;
				CONTINUE;
			END IF;
			INSERT INTO given SELECT got, new_name WHERE got IS NOT NULL;
			COMMIT;
		END LOOP;
		INSERT INTO done VALUES ('claims that found no row', nothing);
	END $$;
	CREATE PROCEDURE passes() LANGUAGE plpgsql AS $$
	DECLARE
		deleted bigint := 0;
		i int := 0;
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			i := i + 1;
			UPDATE template_version_presets
			SET desired_instances = CASE WHEN i % 3 = 0 THEN 5 ELSE 30 END;
			COMMIT;
			deleted := deleted + (SELECT r.deleted FROM prebuild_reconcile(clock_timestamp()) r);
			PERFORM pg_sleep(random() * 0.01);
			COMMIT;
		END LOOP;
		INSERT INTO done VALUES ('deleted by passes', deleted);
	END $$;
	CREATE PROCEDURE provisioner() LANGUAGE plpgsql AS $$
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			PERFORM fixture.finish_jobs();
			COMMIT;
			PERFORM pg_sleep(0.02);
		END LOOP;
	END $$;
	-- Deletes in turns the oldest one, which claims take too, and the newest one, which they take last. As in
	-- coderd, another transaction has the lock that keeps reconcilers apart.
	CREATE PROCEDURE builder() LANGUAGE plpgsql AS $$
	DECLARE
		last workspace_builds;
		deleted int := 0;
		failed int := 0;
		oldest boolean := false;
	BEGIN
		WHILE clock_timestamp() < (SELECT at FROM stop) LOOP
			oldest := NOT oldest;
			PERFORM pg_advisory_lock(7);
			COMMIT;
			SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
			BEGIN
				SELECT b.* INTO last FROM offered o JOIN workspace_builds b ON b.id = o.build_id
				ORDER BY CASE WHEN oldest THEN o.created_at END, o.created_at DESC LIMIT 1;
				PERFORM pg_sleep(random() * 0.01);
				IF last.id IS NOT NULL THEN
					CALL add_build(last, 'delete');
					PERFORM pg_sleep(random() * 0.01);
					deleted := deleted + 1;
				END IF;
			EXCEPTION WHEN serialization_failure OR unique_violation OR deadlock_detected THEN
				failed := failed + 1;
			END;
			COMMIT;
			PERFORM pg_advisory_unlock(7);
			PERFORM pg_sleep(random() * 0.1);
			COMMIT;
		END LOOP;
		INSERT INTO done VALUES ('deleted by builders', deleted), ('builders that were too late', failed);
	END $$;
});
$node->safe_psql($db, $_) foreach ('SELECT prebuild_reconcile()', 'SELECT fixture.finish_jobs()');

my (%done, $given, $refused);
my $rounds = race_until(
	sub {
		return $given > 20 && $refused > 20 && $done{'deleted by passes'} > 20
		  && $done{'deleted by builders'} > 5 && $done{'builders that were too late'} > 0;
	},
	6,
	sub {
		$node->safe_psql($db, "TRUNCATE stop; INSERT INTO stop VALUES (clock_timestamp() + $seconds * interval '1 s')");
		run_in_parallel($node, $db, (map { "CALL claims($_)" } 1 .. $sessions),
			'CALL passes()', 'CALL provisioner()', 'CALL builder()');
		%done = map { split /\|/ } split /\n/,
		  $node->safe_psql($db, 'SELECT what, sum(n) FROM done GROUP BY what');
		$given = $node->safe_psql($db, 'SELECT count(*) FROM given');
		$refused = () = slurp_file($node->logfile) =~ /LOG:  prebuilt workspace \S+ was not given away/g;
	});
note("$_: $done{$_}") foreach sort keys %done;
note("given away: $given, refused: $refused, in $rounds rounds of $seconds s");

cmp_ok($given, '>', 20, 'prebuilds were given away');
cmp_ok($refused, '>', 20, 'and claims refused');
cmp_ok($done{'deleted by passes'}, '>', 20, 'while passes deleted');
cmp_ok($done{'deleted by builders'}, '>', 5, 'and a builder');
cmp_ok($done{'builders that were too late'}, '>', 0, 'which was too late at times');
is($node->safe_psql($db, 'SELECT count(DISTINCT workspace_id) FROM given'),
	$given, 'none was given twice');
is( $node->safe_psql($db, q{SELECT count(*) FROM given g JOIN workspaces w ON w.id = g.workspace_id
		JOIN users u ON u.id = w.owner_id WHERE w.name = g.name AND u.username = 'ada'}),
	$given, 'each is its claimant\'s');
is( $node->safe_psql($db, q{SELECT count(*) FROM given g JOIN workspace_builds b USING (workspace_id)
		WHERE b.transition = 'delete'}),
	0, 'none of them is being deleted');
$node->stop;
done_testing();
