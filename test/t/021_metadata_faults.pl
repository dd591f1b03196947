# Faults between a report and the table. No accepted report is lost, except in a crash of the server,
# and everything works again after the crash.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('faults', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'one, locked'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '200ms'", 'restart_after_crash = on', 'max_connections = 40');

foreach my $database ('one', 'locked')
{
	new_metadata($node, $database);
	add_agents($node, $database, 1, 1000);
	worker_is($node, $database, 'serving');
}

sub sql { return $node->safe_psql('one', $_[0]); }
sub worker_pid { return sql(q{SELECT pid FROM prebuild_worker_status WHERE lane = 'metadata'}); }

# the table of one database is locked, while the others' faults are tried
my $locker = $node->background_psql('locked');
$locker->query_safe('BEGIN; LOCK TABLE workspace_agent_metadata');
$node->safe_psql('locked', q{SELECT count(report(n, 'cpu', 'behind the lock')) FROM generate_series(1, 700) n});

# the worker is terminated, again and again, while reports come
sql(q{
	CREATE TABLE enough ();
	CREATE TABLE last_report (n int);
	CREATE PROCEDURE reports() LANGUAGE plpgsql AS $$
	DECLARE
		i int := 0;
	BEGIN
		WHILE i < 50 OR NOT EXISTS (SELECT FROM enough) LOOP
			i := i + 1;
			PERFORM report(n, 'cpu', i::text) FROM generate_series(1, 100) n;
			COMMIT;
			PERFORM pg_sleep(0.02);
		END LOOP;
		INSERT INTO last_report VALUES (i);
	END $$});
my $reporter = start_session($node, 'one', 'CALL reports()');
my $starts = sql(q{SELECT starts FROM prebuild_worker_status WHERE lane = 'metadata'});
foreach my $i (1 .. 5)
{
	sleep 0.3;
	sql('SELECT pg_terminate_backend(pid) FROM prebuild_worker_status');
	wait_until($node, 'one', "SELECT starts >= $starts + $i FROM prebuild_worker_status WHERE lane = 'metadata'");
}
sql('INSERT INTO enough DEFAULT VALUES');
ok(finish_session($reporter), 'reports are taken while the worker is terminated');
wait_for_stat($node, 'one', 'queued = 0');
is(sql(q{SELECT count(*), min(value) = max(value), min(value::int) = max(n) FROM workspace_agent_metadata, last_report
	WHERE key = 'cpu'}), '100|t|t', 'and the last of each agent arrives');
worker_is($node, 'one', 'serving');
cmp_ok(sql(q{SELECT starts FROM prebuild_worker_status WHERE lane = 'metadata'}), '>=', $starts + 5, 'the worker was started again');

# Have the worker wait in the middle of a flush; the session that it waits for, and its pid.
sub catch_flush
{
	my ($value) = @_;
	my $session = $node->background_psql('one', on_error_stop => 0);

	$session->query('BEGIN; LOCK TABLE workspace_agent_metadata');
	sql("SELECT count(report(n, 'cpu', '$value')) FROM generate_series(1, 100) n");
	wait_until($node, 'one', q{SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND l.relation = 'workspace_agent_metadata'::regclass AND a.query = 'prebuild: writing agent metadata'});
	return ($session, worker_pid());
}

# the worker is terminated in the middle of a flush: the next one does it
my ($blocker, $caught) = catch_flush('terminated');
sql("SELECT pg_terminate_backend($caught)");
wait_until($node, 'one', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $caught");
is(sql("SELECT count(*) FROM pg_locks WHERE pid = $caught"), '0', 'a worker that is terminated in a flush leaves no lock');
is(stat_of($node, 'one', 'queued'), '100', 'and loses nothing');
$blocker->query('COMMIT');
$blocker->quit;
wait_for_stat($node, 'one', 'queued = 0');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'terminated'}), '100', 'the next one writes it');

# the table is dropped and made again
sql(q{CREATE UNLOGGED TABLE spare (LIKE workspace_agent_metadata INCLUDING ALL);
	DROP TABLE workspace_agent_metadata});
sql(q{SELECT count(report(n, 'cpu', 'without a table')) FROM generate_series(1, 100) n});
wait_for_stat($node, 'one', q{last_error LIKE '%does not exist'});
like(stat_of($node, 'one', 'last_error'), qr/control plane table "public.workspace_agent_metadata" does/, 'a missing table is told');
my ($code, $out, $err) = $node->psql('one', 'SELECT prebuild_agent_metadata_flush()');
like($err, qr/could not write the buffered agent metadata\nDETAIL:  control plane table/,
	'a flush by hand fails with the reason');
is(stat_of($node, 'one', 'queued'), '100', 'nothing is lost');
sql('ALTER TABLE spare RENAME TO workspace_agent_metadata');
wait_for_stat($node, 'one', 'queued = 0');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'without a table'}), '100',
	'and all arrives when there is a table again');
sql(q{ALTER TABLE workspace_agent_metadata ADD FOREIGN KEY (workspace_agent_id)
	REFERENCES workspace_agents (id) ON DELETE CASCADE});

# an agent is deleted before its report is written; a flush in between waits for the deletion
my $skipped = stat_of($node, 'one', 'skipped');
sql(q{BEGIN; DELETE FROM workspace_agents WHERE id = a(1); SELECT report(1, 'cpu', 'gone'), report(2, 'cpu', 'here'); COMMIT});
sql('SELECT prebuild_agent_metadata_flush()');
is(value_of($node, 'one', 2, 'cpu'), 'here', 'a deleted agent costs its own rows');
is(stat_of($node, 'one', 'skipped') - $skipped, 1, 'only');

# a trigger of the operator's own refuses some entries: they are dropped, the others are written
sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN
		IF NEW.value LIKE 'refused%' THEN RAISE 'not this one'; END IF;
		IF NEW.value LIKE 'divided%' THEN PERFORM 1 / 0; END IF;
		IF NEW.value LIKE 'nowhere%' THEN PERFORM * FROM public.nowhere; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON workspace_agent_metadata
		FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE FUNCTION refuse_later() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE 'not that one'; END $$;
	CREATE CONSTRAINT TRIGGER refuse_later AFTER INSERT OR UPDATE ON workspace_agent_metadata
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.value LIKE 'later%')
		EXECUTE FUNCTION refuse_later()});
my $log_size = -s $node->logfile;
my $listener = start_listener($node, 'one', 'workspace_agent_metadata_batch');
sub stats { return sql('SELECT refused, failed_flushes, queued FROM prebuild_metadata_stats'); }
my ($refused, $failures) = split /\|/, stats();

# new keys and old ones, of agents that have others, in one batch
sql(q{SELECT count(prebuild_agent_metadata_report(a(n), '{cpu,new}', ARRAY[
		CASE n WHEN 7 THEN 'refused' ELSE 'passed' END,
		CASE WHEN n IN (99, 100, 101) THEN 'later' ELSE 'passed' END])) FROM generate_series(2, 241) n;
	SELECT report(250, 'cpu', 'divided')});
sql('SELECT prebuild_agent_metadata_flush()');
is(stats(), join('|', $refused + 5, $failures, 0), 'entries that triggers refuse are dropped and counted');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'passed'}), 2 * 240 - 4,
	'all others of the same batches and agents are written');
is(sql(q{SELECT string_agg(value, ',' ORDER BY value) FROM workspace_agent_metadata WHERE workspace_agent_id IN (a(7), a(99))
	AND key IN ('cpu', 'new')}), 'passed,passed,without a table', 'those refused are as they were before');
my %told = map { $_ => 1 } decoded(received($listener, 1));
is(join(',', grep { !$told{ agent($_) } } 2 .. 241), '', 'whose agents are published');
ok(!$told{ agent(250) }, 'unless nothing of them was written');
stop_listener($listener);
my $log = substr(slurp_file($node->logfile), $log_size);
like($log, qr/WARNING:  dropping refused metadata key "(cpu|new)" of agent 0{8}-0{4}-0{4}-0{4}-[0-9a-f]{12}: not (this|that) one\n.*DETAIL:  \d+ entr(y|ies) of its batch/,
	'a warning names one of them and the error');
like(stat_of($node, 'one', 'last_error'), qr/not th(is|at) one|division by zero/, 'so do the statistics');

# again and again, at another time: no flood of warnings
my $began = time;
foreach my $i (1 .. 20)
{
	sql(qq{SELECT report(7, 'cpu', 'refused $i'); SELECT prebuild_agent_metadata_flush()});
}
is(stats(), join('|', $refused + 25, $failures, 0), 'each is counted');
$log = substr(slurp_file($node->logfile), $log_size);
cmp_ok(scalar(() = $log =~ /WARNING:  (?:dropping refused metadata|agent metadata was refused)/g), '<=', 3 + (time - $began) / 10,
	'and warned of now and then only');
# the worker's own flush may come before the one by hand
like(sql(q{SELECT report(7, 'cpu', 'passed again'); SELECT prebuild_agent_metadata_flush(); SELECT value_of(7, 'cpu')}),
	qr/^\(1,0,0\)\n[01]\npassed again$/, 'what is let in later arrives');

# what passes by itself keeps everything (soon: after some failures of the worker's flushes it would be the
# entry's own fault)
($code, $out, $err) = $node->psql('one', q{
	SELECT count(report(n, 'cpu', CASE n WHEN 8 THEN 'nowhere' ELSE 'kept' END)) FROM generate_series(7, 9) n \g /dev/null
	SELECT prebuild_agent_metadata_flush();
	SELECT refused, queued FROM prebuild_metadata_stats;
	CREATE TABLE nowhere ()}, on_error_stop => 0);
like($err, qr/could not write the buffered agent metadata\nDETAIL:  relation "public.nowhere" does not exist/,
	'a table that a trigger misses fails the flush');
is($out, join('|', $refused + 25, 3), 'and nothing is dropped');
wait_for_stat($node, 'one', 'queued = 0');
is(sql(q{SELECT string_agg(value_of(n, 'cpu'), ',' ORDER BY n) FROM generate_series(7, 9) n}), 'kept,nowhere,kept',
	'all arrives when it is there');
sql('DROP TABLE nowhere; DROP TRIGGER refuse ON workspace_agent_metadata; DROP TRIGGER refuse_later ON workspace_agent_metadata');

# the lock is still there
my $failed = $node->safe_psql('locked', 'SELECT failed_flushes FROM prebuild_metadata_stats');
($code, $out, $err) = $node->psql('locked', 'SELECT prebuild_agent_metadata_flush()');
like($err, qr/canceling statement due to lock timeout/, 'a flush does not wait for a lock for ever');
$node->safe_psql('locked', q{SELECT report(701, 'cpu', 'behind the lock')});
$locker->query_safe('COMMIT');
$locker->quit;
wait_for_stat($node, 'locked', 'queued = 0');
is($node->safe_psql('locked', q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'behind the lock'}), '701',
	'a table that was locked all the while gets everything after that');
cmp_ok(stat_of($node, 'locked', 'failed_flushes'), '>', $failed, 'and failures were counted');

# a fast shutdown under load: what was taken is in the table when the server is back
my @sessions = map {
	my $n = $_;
	start_session($node, 'one', join("\n", map { "SELECT report($n, 'load', '$_');" } 1 .. 20000))
} 11 .. 14;
my $reported = stat_of($node, 'one', 'reported');
wait_for_stat($node, 'one', "reported > $reported + 400");
sleep 0.5;
$node->stop('fast');
finish_session($_) foreach @sessions;
$node->start;
my ($lost, $acknowledged) = (0, 0);
foreach my $i (0 .. 3)
{
	my $taken = () = $sessions[$i]{output} =~ /^\(1,0,0\)$/mg;
	my $stored = value_of($node, 'one', 11 + $i, 'load') || 0;

	$acknowledged += $taken;
	$lost++ if $stored < $taken;
	note "agent @{[11 + $i]}: $taken taken, $stored stored";
}
cmp_ok($acknowledged, '>', 100, 'the server was stopped under load');
is($lost, 0, 'and what was taken is stored');

# a backend is killed in the middle of a report, which restarts the server
worker_is($node, 'one', 'serving');
my $victim = start_session($node, 'one', q{SELECT count(report(1 + n % 900, 'k' || n % 7, repeat('v', n % 2000)))
	FROM generate_series(1, 100000000) n});
wait_for_stat($node, 'one', 'queued > 100');
my $old_pid = worker_pid();
my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT count(report(1 + n%' AND state = 'active' LIMIT 1});
kill_process($node, 'one', $pid);
finish_session($victim);
worker_is($node, 'one', 'serving');
isnt(worker_pid(), $old_pid, 'after a crash there is a new worker');
is(sql('SELECT count(*) FROM workspace_agent_metadata'), '0', 'the unlogged table is empty');
is(stat_of($node, 'one', 'queued'), '0', 'and so is the buffer');
sql(q{SELECT count(report(n, 'cpu', 'after')) FROM generate_series(2, 1000) n});
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'after'}), '999', 'both work again');

# so is the worker, in the middle of a flush
($blocker, $caught) = catch_flush('killed');
kill_process($node, 'one', $caught);
$blocker->{run}->finish;
worker_is($node, 'one', 'serving');
isnt(worker_pid(), $caught, 'after a crash of the worker there is a new one');
is(sql(q{SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()
	AND relation = 'workspace_agent_metadata'::regclass}), '0', 'no lock is left');
sql(q{SELECT count(report(n, 'cpu', 'after both')) FROM generate_series(2, 1000) n});
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT count(*), min(value), max(value) FROM workspace_agent_metadata}), '999|after both|after both',
	'and flushes work again');

# an immediate shutdown
sql(q{SELECT count(report(n, 'cpu', 'again')) FROM generate_series(2, 1000) n});
$node->stop('immediate');
$node->start;
worker_is($node, 'one', 'serving');
sql(q{SELECT count(report(n, 'cpu', 'then')) FROM generate_series(2, 1000) n});
sql('SELECT prebuild_agent_metadata_flush()');
is(sql(q{SELECT count(*) FROM workspace_agent_metadata WHERE value = 'then'}), '999',
	'so they do after an immediate shutdown');

$node->stop;
done_testing();
