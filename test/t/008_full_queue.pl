# When the notification queue fills up, passes go on and warn, instead of failing at commit. A real Prometheus
# scrapes the server: its alert holds. Once the queue is full, agent metadata waits in its buffer.
#
# Before PostgreSQL 17 the queue always has 8 GB, so that some 4 GB have to be written here: about
# half a minute and that much disk space, given back at the end. To fill all of it is left to
# script/test --long full_queue there, which sets PREBUILD_FULL_QUEUE.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use PrometheusTest;
use Test::More;

my $major = (`postgres --version` =~ / (\d+)/)[0];
my $node = new_server('queue', "shared_preload_libraries = 'prebuild_ext'", "prebuild.databases = 'fleet'",
	"prebuild.worker_role = 'postgres'", 'prebuild.metadata_buffer_size = 1MB', 'fsync = off', 'max_wal_size = 1GB',
	$major >= 17 ? 'max_notify_queue_pages = 1000' : '');
my $db = new_metadata($node, 'fleet');
add_agents($node, $db, 1, 300);
$node->safe_psql($db, "SELECT fixture.simple('one', 3, preset_name => 'p')");
my $state = 'SELECT desired, actual, eligible, starting FROM prebuild_state()';
my $check = q{SELECT status FROM prebuild_health() WHERE name = 'notification_queue'};

# Fill the queue until more than this part of it is in use.
sub fill_queue
{
	my ($part) = @_;

	$node->safe_psql('postgres', qq{
		DO \$\$
		DECLARE
			filler text := repeat('x', 7900);
		BEGIN
			WHILE pg_notification_queue_usage() <= $part LOOP
				FOR i IN 1 .. CASE WHEN current_setting('server_version_num')::int < 170000
						THEN 5000 ELSE 10 END LOOP
					PERFORM pg_notify('something', i || filler);
				END LOOP;
				COMMIT;
			END LOOP;
		END \$\$;
	}, timeout => 700);
	cmp_ok($node->safe_psql($db, 'SELECT pg_notification_queue_usage()'), '>', $part, "the queue is fuller than $part");
	return;
}

# a session that listens and stays in a transaction keeps everything in the queue
my $stuck = $node->background_psql($db);
$stuck->query_safe('LISTEN something');
$stuck->query_safe('BEGIN; SELECT 1');
worker_is($node, $db, 'serving');
start_prometheus($node, $db);
is($node->safe_psql($db, $check), 'ok', 'the queue is no finding');
becomes('PrebuildPoolEmpty', 'nor an alert: nobody has run a pass');
fill_queue(0.251);
is($node->safe_psql($db, $check), 'warn', 'which warns');
becomes('PrebuildNotificationQueueFills PrebuildPoolEmpty', 'the alert on a queue that fills');
fill_queue(0.501);
is($node->safe_psql($db, $check), 'fail', 'which fails');
becomes('PrebuildNotificationQueueFills PrebuildPoolEmpty', 'and still the alert');

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

# a queue that is full
if ($major >= 17 || $ENV{PREBUILD_FULL_QUEUE})
{
	my $full = '';
	my $pages = $major >= 17 ? 10 : 5000;

	# what fails has taken the last pages; before, there are warnings
	for (1 .. 400)
	{
		(undef, undef, $full) = $node->psql('postgres', "SELECT count(pg_notify('something', i || repeat('x', 7900))) FROM generate_series(1, $pages) i");
		last if $full =~ /ERROR/;
	}
	like($full, qr/ERROR:  too many notifications in the NOTIFY queue/, 'the queue is full');
	$node->safe_psql($db, q{SELECT report(n, 'cpu', '12 %') FROM generate_series(1, 300) n});
	wait_until($node, $db, 'SELECT publish_errors > 0 FROM prebuild_metadata_stats');
	like($node->safe_psql($db, 'SELECT last_error FROM prebuild_metadata_stats'), qr/too many notifications/, 'metadata waits, and says why');
	# agents' reports are not written for the time being
	becomes('PrebuildMetadataUnpublished PrebuildNotificationQueueFills PrebuildReportsDropped', 'the alert on unpublished metadata');
	($status, $out, $err) = $node->psql($db, 'SELECT lock_acquired, failed FROM prebuild_reconcile()');
	is("$status|$out", '0|t|0', 'a pass goes on');
}

# the listener leaves, the queue empties, provisioners are woken again
$stuck->quit;
my $listener = $node->background_psql($db);
$listener->query_safe('LISTEN provisioner_job_posted');
# asking for the usage is what frees the pages of a queue that is full: a NOTIFY fails until then
wait_until($node, $db, 'SELECT pg_notification_queue_usage() < 0.25');
$node->safe_psql('postgres', 'NOTIFY something');
is($node->safe_psql($db, $check), 'ok', 'the queue is no finding any more');
wait_for_scrape();
unlike(alerts_that_hold(), qr/NotificationQueue/, 'nor an alert');
wait_until($node, $db, 'SELECT queued = 0 FROM prebuild_metadata_stats');
$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = 2');
($status, $out, $err) = $node->psql($db, 'SELECT created FROM prebuild_reconcile()');
is("$out|$err", '1|', 'without a warning once the queue is empty');
like($listener->query_safe('SELECT pg_sleep(0.2)') . $listener->query_safe('SELECT 1'),
	qr/"provisioner_job_posted"/, 'and the wake-up arrives');
$listener->quit;

stop_prometheus();
$node->stop;
done_testing();
