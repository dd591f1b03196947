# Workers that exit restart at once, even on an idle server without connections. While a worker cannot
# restart, no session waits for it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('restart', "shared_preload_libraries = 'prebuild_ext'", 'max_worker_processes = 32',
	"prebuild.databases = 'plane'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '1h'", 'autovacuum = off');
new_metadata($node, 'plane');
add_agents($node, 'plane', 1, 10);
worker_is($node, 'plane', 'serving');
my $postmaster;
# however the test ends, it leaves no server that nobody can stop
END { kill 'CONT', $postmaster if defined $postmaster; }
my $session = $node->background_psql('plane', on_error_stop => 0);
sub sql { return answer($session, $_[0]); }

# Ends the workers of some kinds and waits until others serve: the seconds that took. It looks at
# pg_stat_activity, as prebuild_worker_status would wake the postmaster itself.
sql(q{CREATE FUNCTION comes_back(kinds text[]) RETURNS numeric LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
		old int[] := ARRAY(SELECT pg_terminate_backend(pid)::int * pid FROM pg_stat_activity
			WHERE backend_type = ANY (kinds) AND application_name LIKE 'prebuild%');
	BEGIN
		FOR i IN 1 .. 7000 LOOP
			PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
			EXIT WHEN cardinality(kinds) = (SELECT count(*) FROM pg_stat_activity WHERE backend_type = ANY (kinds)
				AND application_name LIKE 'prebuild%' AND pid <> ALL (old));
		END LOOP;
		RETURN extract(epoch FROM clock_timestamp() - began);
	END $$});

foreach my $kinds ('{prebuild worker}', '{prebuild pass worker}', '{prebuild worker,prebuild pass worker}')
{
	my $slowest = sql(qq{SELECT max(comes_back('$kinds')) FROM generate_series(1, 25)});

	cmp_ok($slowest, '<', 5, "$kinds: of 25 that end each comes back soon (after $slowest s at most)");
}
unlike(slurp_file($node->logfile), qr/background worker "prebuild.*exited with/, 'which leaves no trace of a fault in the log');
sql(q{SELECT report(1, 'cpu', 'between two'), pg_terminate_backend(pid) FROM prebuild_worker_status});
my $began = time;
sql('SELECT prebuild_agent_metadata_flush()');
cmp_ok(time - $began, '<', 8, 'a flush waits for the next one, and no longer');
is(sql(q{SELECT value_of(1, 'cpu')}), 'between two', 'which writes');

# the postmaster is stopped, as if the machine let it start no process; without its table the worker
# leaves what waits

wait_until($node, 'plane', q{SELECT bool_and(state = 'serving') FROM prebuild_worker_status});
$postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
my $pid = sql(q{SELECT pid FROM prebuild_worker_status WHERE lane = 'metadata'});
sql('ALTER TABLE workspace_agent_metadata RENAME TO away');
sql(q{SELECT report(1, 'cpu', 'waits')});
kill 'STOP', $postmaster;
sql("SELECT pg_terminate_backend($pid)");
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXIT WHEN (SELECT pid IS NULL FROM prebuild_worker_status WHERE lane = 'metadata');
		PERFORM pg_sleep(0.01);
	END LOOP; END $$});
sql('ALTER TABLE away RENAME TO workspace_agent_metadata');
$began = time;
my $flushed = sql(q{DO $$ DECLARE hint text; BEGIN
	PERFORM prebuild_agent_metadata_flush();
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	CREATE TEMP TABLE said AS SELECT SQLERRM AS message, hint;
END $$; SELECT message, hint FROM said});
cmp_ok(time - $began, '<', 40, 'a flush does not wait for a worker that does not come');
is($flushed, 'the background worker could not write the buffered agent metadata|It stays in the buffer until the worker can write it; if the server is stopped before that, it is lost.',
	'but says what becomes of what waits');
is(sql(q{SELECT report(2, 'cpu', 'x'); SELECT value_of(2, 'cpu')}), "(1,0,0)\nx", 'reports are written directly meanwhile');
is(sql('SELECT mode, queued FROM prebuild_metadata_stats'), 'direct|1', 'which the statistics say');
kill 'CONT', $postmaster;
wait_until($node, 'plane', q{SELECT bool_and(state = 'serving') FROM prebuild_worker_status});
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT value_of(1, 'cpu')}), 'waits', 'when the worker comes it writes what waited');
# it gave up waiting for its successor, so the postmaster has started both
like(slurp_file($node->logfile), qr/background worker "prebuild worker" \(PID $pid\) exited with exit code 1/,
	'a worker whose successor does not start in time has the postmaster start it again');
wait_until($node, 'plane', q{SELECT count(*) = 2 AND bool_and(EXISTS (SELECT FROM prebuild_worker_status s WHERE s.pid = a.pid))
	FROM pg_stat_activity a WHERE backend_type LIKE 'prebuild%worker'});
pass('one of the two goes');

$session->quit;
$node->stop;
done_testing();
