# When the notification queue fills up, passes go on and warn, instead of failing at commit.
#
# Before PostgreSQL 17 the queue always has 8 GB, so that some 4 GB have to be written here: about
# half a minute and that much disk space, given back at the end.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $major = (`postgres --version` =~ / (\d+)/)[0];
my $node = new_server('queue', 'fsync = off', 'max_wal_size = 1GB',
	$major >= 17 ? 'max_notify_queue_pages = 1000' : '');
my $db = new_control_plane($node, 'fleet');
$node->safe_psql($db, "SELECT fixture.simple('one', 3, preset_name => 'p')");
my $state = 'SELECT desired, actual, eligible, starting FROM prebuild_state()';

# a session that listens and stays in a transaction keeps everything in the queue
my $stuck = $node->background_psql($db);
$stuck->query_safe('LISTEN something');
$stuck->query_safe('BEGIN; SELECT 1');
$node->safe_psql('postgres', q{
	DO $$
	DECLARE
		filler text := repeat('x', 7900);
	BEGIN
		WHILE pg_notification_queue_usage() <= 0.501 LOOP
			FOR i IN 1 .. CASE WHEN current_setting('server_version_num')::int < 170000
					THEN 5000 ELSE 50 END LOOP
				PERFORM pg_notify('something', i || filler);
			END LOOP;
			COMMIT;
		END LOOP;
	END $$;
}, timeout => 700);
cmp_ok($node->safe_psql($db, 'SELECT pg_notification_queue_usage()'),
	'>', 0.5, 'the queue is over a half full');

is($node->safe_psql($db, q{SELECT name, status FROM prebuild_health() WHERE name = 'notification_queue'}),
	'notification_queue|fail', 'which is a finding');

my ($status, $out, $err) = $node->psql($db, 'SELECT lock_acquired, created, failed FROM prebuild_reconcile()');
is($status, 0, 'a pass does not fail');
is($out, 't|3|0', 'and creates what is wanted');
like($err, qr/WARNING:.*queue/, 'with a warning that names the queue');
is($node->safe_psql($db, $state), '3|0|0|3', 'all of it committed');
$node->safe_psql($db, 'SELECT fixture.finish_jobs(); UPDATE template_version_presets SET desired_instances = 1');
($status, $out, $err) = $node->psql($db, 'SELECT created, deleted, failed FROM prebuild_reconcile()');
is($out, '0|2|0', 'a pass that deletes goes on too');
$node->safe_psql($db, 'SELECT fixture.finish_jobs()');
is($node->safe_psql($db, $state), '1|1|1|0', 'with the outcome that it has otherwise');

# the listener leaves, the queue empties, provisioners are woken again
$stuck->quit;
my $listener = $node->background_psql($db);
$listener->query_safe('LISTEN provisioner_job_posted');
$node->safe_psql('postgres', 'NOTIFY something');
wait_until($node, $db, 'SELECT pg_notification_queue_usage() < 0.4');
$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = 2');
($status, $out, $err) = $node->psql($db, 'SELECT created FROM prebuild_reconcile()');
is("$out|$err", '1|', 'without a warning once the queue is empty');
like($listener->query_safe('SELECT pg_sleep(0.2)') . $listener->query_safe('SELECT 1'),
	qr/"provisioner_job_posted"/, 'and the wake-up arrives');
$listener->quit;

$node->stop;
done_testing();
