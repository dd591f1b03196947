# A pass, a claim, a report of replaced resources and a flush wait for other sessions within one budget
# each, whatever the number of presets, tries and messages, and report what they waited for.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use MetadataTest;
use PostgreSQL::Test::Utils;
use PrebuildTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('patience', "shared_preload_libraries = 'prebuild_ext'",
	"prebuild.databases = 'flush, busy'", "prebuild.worker_role = 'postgres'",
	"prebuild.metadata_flush_interval = '1h'", 'max_connections = 30', 'fsync = off');

# A control plane with so many presets that miss one prebuild each.
sub control_plane_with
{
	my ($database, $presets) = @_;

	new_control_plane($node, $database);
	$node->safe_psql($database, qq{
		SELECT fixture.template('one'), fixture.version('one', 'v1');
		SELECT fixture.preset('v1', 'p' || n, 1) FROM generate_series(1, $presets) n});
	return $database;
}

# A session that holds what a statement locks, in a transaction; and its process.
sub hold
{
	my ($database, $statement) = @_;
	my $session = $node->background_psql($database);

	$session->query_safe("BEGIN; $statement");
	return ($session, answer($session, 'SELECT pg_backend_pid()'));
}

# End what a session holds.
sub release
{
	my ($session) = @_;

	$session->query_safe('ROLLBACK');
	$session->quit;
	return;
}

# Run a statement that may wait: what it answers, what it says beside that, and how long it took.
sub timed
{
	my ($database, $statement) = @_;
	my $began = time;
	my ($code, $output, $said) = $node->psql($database, "SET statement_timeout = '90s'; $statement");

	return ($output, $said, time - $began, $code);
}

my $pass = 'SELECT lock_acquired, presets_total, presets_reconciled, created, failed FROM prebuild_reconcile()';
my $events = q{SELECT count(*) FROM prebuild_event WHERE kind = 'preset_failed'};
my ($holder, $pid, $answer, $said, $took, $code);

# How many warnings there are in what a statement said.
sub warnings_in { my @found = $_[0] =~ /WARNING:/g; return scalar @found; }

# a table is locked, as by CREATE INDEX: one wait, one warning, and no preset has failed
my $db = control_plane_with('plane', 20);
($holder, $pid) = hold($db, 'LOCK TABLE workspaces IN SHARE MODE');
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|20|0|0|0', 'a pass that finds a table locked does nothing, and no preset has failed');
cmp_ok($took, '<', 20, 'it waits once, not for each preset and try');
cmp_ok($took, '>', 1.5, 'and does wait');
is(warnings_in($said), 1, 'one warning') or diag($said);
like($said, qr/skipping work until the next pass because of locks of other sessions: 20 of 20 presets that need changes/, 'says what was left');
like($said, qr/waited for RowExclusiveLock on table "public.workspaces", held by process $pid \(ShareLock\)/,
	'which table, in which mode, and who holds it');
is($node->safe_psql($db, $events), 0, 'and there is no event of failed presets');
is($node->safe_psql($db, q{SELECT count(*) FROM prebuild_mark}), 0, 'nor a mark');

# a session with its own lock_timeout waits that long for each lock
($answer, $said, $took) = timed($db, "SET lock_timeout = '500ms'; $pass");
is($answer, 't|20|0|0|0', 'with a lock_timeout of its own');
cmp_ok($took, '<', 10, 'a pass waits once for each lock');
my $shortest = 1e9;
race_until(sub { return $shortest < 1.5; }, 5, sub {
	(undef, undef, $took) = timed($db, "SET lock_timeout = '100ms'; $pass");
	$shortest = $took if $took < $shortest;
});
cmp_ok($shortest, '<', 1.5, 'and no longer than that');
is(warnings_in($said), 1, 'and warns once, too');
($answer, $said, $took) = timed($db, "SET lock_timeout = '4s'; $pass");
cmp_ok($took, '>', 3.5, 'nor shorter');
is($node->safe_psql($db, "SET lock_timeout = '100ms'; $pass; SHOW lock_timeout") =~ s/.*\n//sr, '100ms',
	'and its lock_timeout is as it was');
# terminating a session that waits affects no other session
my $bystander = $node->background_psql($db);
my $victim = start_session($node, $db, q{SET lock_timeout = '170s'; SELECT prebuild_reconcile()});
wait_until($node, $db, q{SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_locks
	WHERE relation = 'workspaces'::regclass AND NOT granted});
ok(!finish_session($victim), 'a pass that waits can be terminated');
is(answer($bystander, 'SELECT 1'), 1, 'and nothing else ends with it');
$bystander->quit;
release($holder);
is($node->safe_psql($db, $pass), 't|20|20|20|0', 'the next pass does it all');

# a pass that cannot even read
($holder, $pid) = hold($db, 'LOCK TABLE workspace_builds');
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|0|0|0|0', 'a pass that may not read leaves it all');
cmp_ok($took, '<', 20, 'after one patience');
like($said, qr/skipping work until the next pass because of locks of other sessions: the whole pass.*AccessShareLock on table "public.workspace_builds", held by process $pid \(AccessExclusiveLock\)/s,
	'and says so');
is(warnings_in($said), 1, 'once');
release($holder);

# whatever table is locked, a pass ends well
foreach my $table (split /\n/, $node->safe_psql($db, q{SELECT oid::regclass FROM pg_class
	WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname}))
{
	$node->safe_psql($db, 'UPDATE template_version_presets SET desired_instances = desired_instances + 1');
	($holder, $pid) = hold($db, "LOCK TABLE $table");
	($answer, $said) = timed($db, "SET lock_timeout = '20ms'; SELECT lock_acquired FROM prebuild_reconcile()");
	is($answer, 't', "a pass beside a locked $table ends well") or diag($said);
	like($said, qr/held by process $pid \(/, 'and says who keeps it') if $said =~ /lock/;
	release($holder);
}

# whatever table of ours is locked, a claim goes well, or ends soon and says who keeps it
$node->safe_psql($db, q{SELECT fixture.usr('ada'), fixture.finish_jobs()});
my $claim = q{SELECT c.name FROM template_version_presets p, users u, prebuild_claim(p.id, u.id, 'mine') c
	WHERE p.name = 'p1' AND u.username = 'ada'};
my @without;
foreach my $table (split /\n/, $node->safe_psql($db, q{SELECT oid::regclass FROM pg_class
	WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname ~ '^prebuild_' ORDER BY relname}))
{
	($holder, $pid) = hold($db, "LOCK TABLE $table");
	($answer, $said) = timed($db, "SET lock_timeout = '50ms'; BEGIN; $claim; ROLLBACK");
	push @without, $table if $answer eq 'mine';
	is($said, '', "a claim beside a locked $table") if $answer eq 'mine';
	like($said, qr/lock timeout.*on table "public.$table", held by process $pid \(AccessExclusiveLock\)/s,
		"a claim that needs $table says who keeps it") if $answer ne 'mine';
	release($holder);
}
cmp_ok(scalar @without, '>', 12, "most are not needed: @without");
($holder, $pid) = hold($db, 'LOCK TABLE prebuild_policy');
foreach my $statement ($claim, $pass, 'SELECT prebuild_clean()')
{
	($answer, $said, $took) = timed($db, $statement);
	cmp_ok($took, '>', 1.5, "a locked prebuild_policy is waited for: $statement");
	cmp_ok($took, '<', 20, 'but not for long');
	like($said, qr/on table "public.prebuild_policy", held by process $pid \(AccessExclusiveLock\)/, 'who keeps it is told') or diag($said);
}
release($holder);

# a row is held: those that do not need it are done
$db = control_plane_with('rows', 20);
($holder, $pid) = hold($db, q{SELECT FROM template_version_presets WHERE name IN ('p3', 'p4', 'p17') FOR UPDATE});
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|20|17|17|0', 'a row that is held keeps the presets back that need it');
cmp_ok($took, '<', 12, 'after one patience');
is(warnings_in($said), 1, 'one warning') or diag($said);
like($said, qr/3 of 20 presets.*ShareLock on transaction \d+ \(while [^)]*\) in relation "template_version_presets"\), held by process $pid/s,
	'which row it was');
is($node->safe_psql($db, $events), 0, 'nobody has failed');
# a fault of another preset is reported as usual
$node->safe_psql($db, q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.template_version_preset_id = (SELECT id FROM template_version_presets WHERE name = 'p5') THEN
			RAISE 'not this one' USING ERRCODE = 'check_violation';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON workspace_builds FOR EACH ROW EXECUTE FUNCTION refuse();
	UPDATE template_version_presets SET desired_instances = 2 WHERE name IN ('p5', 'p6')});
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|20|1|1|1', 'a preset that fails meanwhile has failed');
is(warnings_in($said), 2, 'and has its own warning') or diag($said);
is($node->safe_psql($db, $events), 1, 'and event');
cmp_ok($took, '<', 10, 'after one patience');
release($holder);
is($node->safe_psql($db, $pass), 't|20|3|3|1', 'the rest is done by the next pass');

# a lock that a trigger asks for with NOWAIT costs no waiting time
$node->safe_psql($db, q{
	CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM FROM organizations FOR UPDATE NOWAIT;
		RETURN NEW;
	END $$;
	UPDATE template_version_presets SET desired_instances = 3});
($holder, $pid) = hold($db, 'SELECT FROM organizations FOR NO KEY UPDATE');
($answer, $said, $took) = timed($db, "SET lock_timeout = '60s'; $pass");
like($said, qr/The error was: could not obtain lock on row in relation "organizations"/, 'a lock that a trigger did not get') or diag($said);
is($node->safe_psql($db, $events), 1, 'is no fault either');
cmp_ok($took, '<', 30, 'and no wait');
release($holder);

# a trigger that runs a function with its own budget: within a pass the pass's budget applies
$db = control_plane_with('nested', 3);
$node->safe_psql($db, q{
	CREATE TABLE elsewhere (n int);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.owner_id <> prebuild_system_user() THEN INSERT INTO elsewhere VALUES (1); END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION nested() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM c.id FROM template_version_presets p, users u, prebuild_claim(p.id, u.id, 'nested') c
		WHERE p.name = 'p1' AND u.username = 'ada';
		RETURN NULL;
	END $$;
	SELECT count(*) FROM prebuild_reconcile();
	SELECT fixture.usr('ada'), fixture.finish_jobs();
	CREATE TRIGGER slow BEFORE UPDATE ON workspaces FOR EACH ROW EXECUTE FUNCTION slow();
	CREATE TRIGGER nested AFTER INSERT ON workspaces FOR EACH STATEMENT EXECUTE FUNCTION nested();
	UPDATE template_version_presets SET desired_instances = 2});
($holder, $pid) = hold($db, 'LOCK TABLE elsewhere IN SHARE MODE');
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|3|0|0|0', 'a claim that a trigger makes in a pass waits with the patience of the pass');
cmp_ok($took, '<', 8, 'once');
like($said, qr/3 of 3 presets.*table "public.elsewhere", held by process $pid/s, 'which is told at its end') or diag($said);
release($holder);

# a table that is read before anything is written
($holder, $pid) = hold($db, 'LOCK TABLE users');
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|0|0|0|0', 'nothing is done while the system user cannot be looked up');
is(warnings_in($said), 1, 'with one warning') or diag($said);
release($holder);

# a pass goes on if it cannot record a failure
$node->safe_psql($db, q{
	DROP TRIGGER nested ON workspaces;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.template_version_preset_id = (SELECT id FROM template_version_presets WHERE name = 'p2') THEN
			RAISE 'not this one' USING ERRCODE = 'check_violation';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON workspace_builds FOR EACH ROW EXECUTE FUNCTION refuse()});
($holder, $pid) = hold($db, 'LOCK TABLE prebuild_event IN SHARE MODE');
($answer, $said, $took) = timed($db, $pass);
is($answer, 't|3|2|2|1', 'a pass that cannot write its events does the rest');
like($said, qr/the event of a preset that failed.*table "public.prebuild_event", held by process $pid/s, 'and says so') or diag($said);
release($holder);

# many short waits share one budget
$db = control_plane_with('short', 3);
($holder, $pid) = hold($db, 'LOCK TABLE provisioner_jobs IN SHARE MODE');
# a busy machine may keep the first table locked for longer, or the pass from its work
$shortest = 1e9;
race_until(sub { return $shortest < 3.2; }, 6, sub {
	my $short = start_session($node, $db, q{BEGIN; LOCK TABLE workspaces IN SHARE MODE; SELECT pg_sleep(1.5); ROLLBACK});
	wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_locks WHERE mode = 'ShareLock' AND granted AND relation = 'workspaces'::regclass});
	($answer, my $told, $took) = timed($db, $pass);
	finish_session($short);
	($said, $shortest) = ($told, $took) if $told =~ /on table "public.provisioner_jobs"/ && $took < $shortest;
});
cmp_ok($shortest, '<', 3.2, 'the wait that used the patience up is the one that is told, and the waits before it count') or diag($said);
release($holder);

# places in many organizations
$db = new_control_plane($node, 'places');
$node->safe_psql($db, q{SELECT fixture.simple('t' || n, 1, org => 'o' || n) FROM generate_series(1, 10) n;
	SELECT fixture.usr('ada')});
($holder, $pid) = hold($db, 'LOCK TABLE groups IN SHARE MODE');
($answer, $said, $took) = timed($db, $pass);
cmp_ok($took, '<', 15, 'organizations, too, are one patience');
is(warnings_in($said), 1, 'and one warning') or diag($said);
like($said, qr/membership of the system user in 10 organizations\n.*table "public.groups", held by process $pid/, 'about the table');
release($holder);
$node->safe_psql($db, $pass);
is($node->safe_psql($db, q{SELECT count(*) FROM groups}), 10, 'the next pass makes the places');

# notifications: one wait for all admins
$node->safe_psql($db, q{
	CREATE TYPE notification_method AS ENUM ('smtp', 'webhook', 'inbox');
	CREATE TABLE notification_templates (id uuid PRIMARY KEY, name text, method notification_method,
		enabled_by_default boolean DEFAULT true);
	CREATE TABLE notification_preferences (user_id uuid, notification_template_id uuid, disabled boolean);
	CREATE TABLE notification_messages (id uuid PRIMARY KEY, notification_template_id uuid, user_id uuid,
		method notification_method, payload jsonb, targets uuid[], created_by text, created_at timestamptz);
	INSERT INTO notification_templates (id, name) VALUES ('89d9745a-816e-4695-a17f-3d0a229e2b8d', 'Replaced'),
		('414d9331-c1fc-4761-b40c-d1f4702279eb', 'Limited');
	INSERT INTO users (id, email, username, hashed_password, created_at, updated_at, status, rbac_roles)
	SELECT gen_random_uuid(), n || '@example.org', 'admin' || n, '', now(), now(), 'active', '{template-admin}'
	FROM generate_series(1, 12) n;
	SELECT fixture.finish_jobs();
	SELECT count(*) FROM (SELECT id FROM template_version_presets LIMIT 1) p, users u, prebuild_claim(p.id, u.id, 'mine')
	WHERE u.username = 'ada';
	WITH job AS (
		INSERT INTO provisioner_jobs (id, created_at, updated_at, organization_id, initiator_id, provisioner,
			storage_method, type, input, file_id, tags)
		SELECT gen_random_uuid(), now(), now(), w.organization_id, w.owner_id, 'terraform', 'file',
			'workspace_build', '{}', gen_random_uuid(), '{}'
		FROM workspaces w WHERE w.name = 'mine' LIMIT 1 RETURNING id
	)
	INSERT INTO workspace_builds (id, created_at, updated_at, workspace_id, template_version_id, build_number,
		transition, initiator_id, job_id)
	SELECT gen_random_uuid(), now(), now(), w.id, b.template_version_id, 2, 'start', w.owner_id, job.id
	FROM job, workspaces w JOIN workspace_builds b ON b.workspace_id = w.id AND b.build_number = 1
	WHERE w.name = 'mine' LIMIT 1});
my $track = q{SELECT prebuild_track_resource_replacement(b.workspace_id, b.id, '{"disk": ["size"]}')
	FROM workspace_builds b WHERE b.build_number = 2};
($holder, $pid) = hold($db, 'LOCK TABLE notification_messages IN SHARE MODE');
($answer, $said, $took) = timed($db, "BEGIN; $track; ROLLBACK");
is($answer, 't', 'a locked queue of notifications fails no report of replaced resources');
cmp_ok($took, '<', 15, 'and is waited for once, not for each of 12 admins');
is(warnings_in($said), 1, 'with one warning') or diag($said);
like($said, qr/table "public.notification_messages", held by process $pid \(ShareLock\)\. This also skips the 11 notifications after it/,
	'that says what and how many');
release($holder);
($answer, $said) = timed($db, $track);
is("$answer$said" . $node->safe_psql($db, 'SELECT count(*) FROM notification_messages'), 't12',
	'a queue that is not gets all');

# a claim
($holder, $pid) = hold($db, 'LOCK TABLE workspaces IN SHARE MODE');
($answer, $said, $took, $code) = timed($db, q{\set VERBOSITY verbose
	SELECT c.name FROM template_version_presets p, users u, prebuild_claim(p.id, u.id, 'other') c
	WHERE u.username = 'ada' LIMIT 1});
cmp_ok($took, '<', 30, 'a claim does not wait for a table for ever');
cmp_ok($took, '>', 1.5, 'but a while');
like($said, qr/55P03.*DETAIL:  The session waited for \w+ on table "public.workspaces", held by process $pid \(ShareLock\)/s,
	'and then says what for') or diag($said);
release($holder);

# a session that waits behind another waiting session
$db = control_plane_with('behind', 2);
($holder, $pid) = hold($db, 'SELECT FROM workspaces');
my $waiter = start_session($node, $db, 'BEGIN; LOCK TABLE workspaces');
wait_until($node, $db, q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'workspaces'::regclass AND NOT granted});
my $front = $node->safe_psql($db, q{SELECT pid FROM pg_locks WHERE relation = 'workspaces'::regclass AND NOT granted});
($answer, $said) = timed($db, $pass);
like($said, qr/table "public.workspaces", for which other sessions wait in front: process $front \(AccessExclusiveLock\)/,
	'a lock that others wait for in front') or diag($said);
release($holder);
finish_session($waiter);

# the worker's passes have the same patience
$db = control_plane_with('busy', 20);
($holder, $pid) = hold($db, 'LOCK TABLE workspaces IN SHARE MODE');
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1h'");
$node->reload;
$node->poll_query_until($db, 'SELECT sum(passes) > 0 FROM prebuild_worker_status')
  or die 'the worker runs no pass';
cmp_ok($node->safe_psql($db, 'SELECT seconds FROM prebuild_pass_stats'), '<', 15, 'a pass of the worker waits no longer');
is($node->safe_psql($db, 'SELECT sum(failed_passes) FROM prebuild_worker_status'), 0, 'and does not fail');
is($node->safe_psql($db, $events), 0, 'and blames no preset');
like(slurp_file($node->logfile), qr/\] WARNING:  skipping work until the next pass because of locks of other sessions: 20 of 20/,
	'but says in the log what it left');
release($holder);

# what is deferred runs at its commit, and finds the control plane by bare names
$node->safe_psql($db, q{
	CREATE TABLE fired (n int);
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO fired VALUES (1); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON workspaces DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION fire()});
$node->append_conf('postgresql.conf', "prebuild.reconcile_interval = '1s'");
$node->reload;
$node->poll_query_until($db, 'SELECT count(*) = 20 FROM fired') or die 'the worker creates nothing';
is(pool_size($node, $db), 20, 'the next pass of the worker does it all, deferred triggers included');

# a flush: halves are for rows that are refused, not for locks
$db = new_metadata($node, 'flush');
add_agents($node, $db, 1, 200);
worker_is($node, $db, 'serving');
$node->safe_psql($db, q{SELECT count(report(n, 'cpu', '1')) FROM generate_series(1, 200) n});
($holder, $pid) = hold($db, 'LOCK TABLE workspace_agent_metadata IN SHARE MODE');
($answer, $said, $took) = timed($db, 'SELECT prebuild_agent_metadata_flush()');
like($said, qr/lock timeout/, 'a flush gives up on a locked table');
cmp_ok($took, '<', 40, 'after one wait');
release($holder);
is($node->safe_psql($db, 'SELECT prebuild_agent_metadata_flush() IS NOT NULL AND count(*) = 0 FROM workspace_agent_metadata') ne '', 1,
	'and goes on after it');
is($node->safe_psql($db, 'SELECT count(*) FROM workspace_agent_metadata'), 200, 'with nothing lost');

$node->stop;
done_testing();
