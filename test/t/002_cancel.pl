# A pass that is canceled, timed out, terminated or killed in the middle leaves no trace.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;

my $node = new_server('cancel', 'restart_after_crash = on');
my $db = new_control_plane($node, 'fleet');

# A fleet whose next pass deletes (three expired), cancels (two pending ones of a version that is not
# active) and creates; a trigger makes one table slow, so that the pass is caught in the middle.
$node->safe_psql($db, q{
	SELECT fixture.simple('one', 3, preset_name => 'p');
	SELECT prebuild_reconcile(now() - interval '2 hours');
	SELECT fixture.finish_jobs();
	UPDATE template_version_presets SET desired_instances = NULL;
	SELECT fixture.simple('two', 2, preset_name => 'stale');
	SELECT prebuild_reconcile();
	UPDATE templates SET active_version_id = gen_random_uuid() WHERE name = 'two';
	UPDATE template_version_presets SET desired_instances = 6, invalidate_after_secs = 60
	WHERE name = 'p';
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_sleep(120); RETURN NEW; END $$;
	CREATE FUNCTION trace() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		name regclass;
		content text;
		trace text := '';
	BEGIN
		FOR name IN SELECT oid FROM pg_class
			WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname
		LOOP
			EXECUTE format('SELECT string_agg(t::text, chr(10) ORDER BY t::text) FROM %s t', name)
				INTO content;
			trace := concat_ws(chr(10), trace, name, content);
		END LOOP;
		RETURN md5(trace);
	END $$;
});

# Everything that a pass could change, as one text.
sub trace
{
	return $node->safe_psql($db, 'SELECT trace()');
}

# Start a pass and wait until it is caught in the middle; the session, and its backend's pid.
sub start_pass
{
	my $session = start_session($node, $db, 'SELECT prebuild_reconcile()');

	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE wait_event = 'PgSleep' AND query LIKE '%prebuild_reconcile%' AND pid <> pg_backend_pid()});
	return ($session, $node->safe_psql($db, q{SELECT pid FROM pg_stat_activity
		WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid()}));
}

# A pass that has ended otherwise than well has left nothing.
sub nothing_is_left
{
	my ($name, $pid, $before) = @_;

	is(trace(), $before, "$name: and nothing is changed");
	is($node->safe_psql($db, "SELECT count(*) FROM pg_locks WHERE pid = $pid OR locktype = 'advisory'"), '0',
		"$name: no lock is left");
	return;
}

my $listener = $node->background_psql($db);
$listener->query_safe('LISTEN provisioner_job_posted');
my $before = trace();
isnt($node->safe_psql($db, 'SELECT count(*) FROM prebuild_plan()'), 0, 'there is something to do');

foreach my $table (qw(workspaces provisioner_jobs workspace_builds))
{
	$node->safe_psql($db, "CREATE TRIGGER slow BEFORE INSERT ON $table
		FOR EACH ROW EXECUTE FUNCTION slow()");

	my ($status, $out, $err) =
	  $node->psql($db, "SET statement_timeout = '300ms'; SELECT prebuild_reconcile()");
	like($err, qr/canceling statement due to statement timeout/, "$table: the timeout is honoured");
	is(trace(), $before, "$table: and nothing is changed");

	# as a user does it, from another session
	my ($session, $pid) = start_pass();
	$node->safe_psql($db, "SELECT pg_cancel_backend($pid)");
	finish_session($session);
	like($session->{output}, qr/canceling statement due to user request/, "$table: a cancel is honoured");
	nothing_is_left("$table, canceled", $pid, $before);

	# as an administrator does it
	($session, $pid) = start_pass();
	$node->safe_psql($db, "SELECT pg_terminate_backend($pid, 60000)");
	finish_session($session);
	like($session->{output}, qr/terminating connection due to administrator command/, "$table: so is a termination");
	nothing_is_left("$table, terminated", $pid, $before);

	# the session goes on, in the same transaction even, and the lock is free
	$session = $node->background_psql($db, on_error_stop => 0);
	$session->query("BEGIN; SAVEPOINT s; SET LOCAL statement_timeout = '300ms'");
	$session->query('SELECT prebuild_reconcile()');
	$session->query('ROLLBACK TO s');
	is(answer($session, 'SELECT count(*) > 0 FROM prebuild_plan()'), 't',
		"$table: the session is usable after it");
	$session->query('ROLLBACK');
	is($node->safe_psql($db, 'SELECT pg_try_advisory_xact_lock(7)'), 't',
		"$table: the lock is free");
	$session->quit;

	$node->safe_psql($db, "DROP TRIGGER slow ON $table");
}

is(answer($listener, 'SELECT 1'), '1', 'no provisioner was woken');
unlike($listener->{stdout} . $listener->{stderr}, qr/Asynchronous notification/, 'by any of them');
$listener->quit;

# killed by the system, which takes the whole server down for a moment
foreach my $table (qw(workspaces provisioner_jobs workspace_builds))
{
	$node->safe_psql($db, "CREATE TRIGGER slow BEFORE INSERT ON $table
		FOR EACH ROW EXECUTE FUNCTION slow()");
	my ($session, $pid) = start_pass();
	kill_process($node, $db, $pid);
	ok(!finish_session($session), "$table: a pass is killed");
	nothing_is_left("$table, killed", $pid, $before);
	$node->safe_psql($db, "DROP TRIGGER slow ON $table");
}

# and without the trigger all of it is done
my ($created, $deleted, $canceled, $failed) = split /\|/,
  $node->safe_psql($db, 'SELECT created, deleted, canceled, failed FROM prebuild_reconcile()');
cmp_ok($created, '>', 0, 'a pass that is let alone creates');
cmp_ok($deleted, '>', 0, 'and deletes');
cmp_ok($canceled, '>', 0, 'and cancels');
is($failed, 0, 'and nothing of it fails');
isnt(trace(), $before, 'which the comparison does see');

$node->stop;
done_testing();
