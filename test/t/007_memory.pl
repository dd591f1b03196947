# A backend does not grow with the number of its passes, nor with that of other calls.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('memory');
my $db = new_control_plane($node, 'fleet');

# a fleet where every pass has something to do: withheld, scheduled, created and deleted
$node->safe_psql($db, q{
	SELECT fixture.template('one'), fixture.version('one', 'v1');
	SELECT fixture.preset('v1', 'p' || n, 1) FROM generate_series(1, 20) n;
	SELECT prebuild_reconcile();
	SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET scheduling_timezone = 'Europe/Berlin' WHERE name = 'p2';
	INSERT INTO template_version_preset_prebuild_schedules (preset_id, cron_expression, desired_instances)
	SELECT id, '* * * * 1-5', 1 FROM template_version_presets WHERE name = 'p2';
	CREATE PROCEDURE passes(amount int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. amount LOOP
			UPDATE template_version_presets SET desired_instances = i % 3 WHERE name = 'p1';
			PERFORM prebuild_reconcile(clock_timestamp());
			PERFORM fixture.finish_jobs();
			PERFORM count(name) FROM prebuild_running();
			PERFORM count(reason) FROM prebuild_plan();
			COMMIT;
		END LOOP;
	END $$;
});

my $session = $node->background_psql($db);
my $pid = answer($session, 'SELECT pg_backend_pid()');
my $contexts = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';

# Kilobytes of the backend's anonymous memory: shared buffers that it touched are not in it.
sub own_memory
{
	my ($kilobytes) = slurp_file("/proc/$pid/smaps_rollup") =~ /^Anonymous:\s+(\d+)/m;
	return $kilobytes;
}

$session->query_safe('CALL passes(10)');
my ($contexts_after_10, $memory_after_10) = (answer($session, $contexts), own_memory());
$session->query_safe('CALL passes(990)');
my ($contexts_after_1000, $memory_after_1000) = (answer($session, $contexts), own_memory());
note("memory contexts: $contexts_after_10 bytes after 10 passes, $contexts_after_1000 after 1000");
note("own memory: $memory_after_10 kB after 10 passes, $memory_after_1000 after 1000");
cmp_ok($contexts_after_1000, '<=', $contexts_after_10 * 1.1 + 65536,
	'memory contexts after 1,000 passes are as after 10');
cmp_ok($memory_after_1000, '<=', $memory_after_10 * 1.2 + 1024,
	"and so is the backend's own memory");
is(answer($session, 'SELECT count(*) > 600 FROM workspace_builds'), 't',
	'the passes did work');

# calls that look up what their arguments name
$session->query_safe(q{
	CREATE PROCEDURE calls(amount int) LANGUAGE plpgsql AS $$
	DECLARE
		template uuid := (SELECT id FROM templates);
		preset uuid := (SELECT id FROM template_version_presets WHERE name = 'p1');
	BEGIN
		FOR i IN 1 .. amount LOOP
			PERFORM prebuild_clean(template, preset);
			PERFORM prebuild_retry(preset);
			PERFORM prebuild_set_policy(template, 'p1', failed_keep => i);
			PERFORM prebuild_unset_policy(template, 'p1');
			PERFORM prebuild_demand(now() - interval '1 day', now(), template_id => template);
			PERFORM prebuild_lead_time(template, 'p1');
			COMMIT;
		END LOOP;
	END $$;
});
$session->query_safe('CALL calls(10)');
$contexts_after_10 = answer($session, $contexts);
$session->query_safe('CALL calls(200)');
cmp_ok(answer($session, $contexts), '<=', $contexts_after_10 * 1.1 + 65536,
	'memory contexts after 210 calls by hand are as after 10');
$session->quit;

$node->stop;
done_testing();
